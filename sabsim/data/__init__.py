"""Data sets: which there are, where they lie, how they are fetched, checked and read."""

from sabsim.data.catalogue import DATA_SETS, DataFile, DataSet, Version
from sabsim.data.fetch import fetch
from sabsim.data.images import Images, read_images
from sabsim.data.places import Found, locate, roots
from sabsim.data.text import Text, read_text

__all__ = [
    "DATA_SETS",
    "DataFile",
    "DataSet",
    "Found",
    "Images",
    "Text",
    "Version",
    "fetch",
    "locate",
    "read_images",
    "read_text",
    "roots",
]
