"""Downloads, by pooch: from known addresses, checked against known digests, kept file by file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sabsim.data.catalogue import DataFile, DataSet
from sabsim.data.places import fault
from sabsim.errors import DataError

_SECONDS = 60.0
"""A server that says nothing for so long is given up."""


def fetch(
    data_set: DataSet, root: Path, *, mirror: str | None = None, told: Callable[[str, str], None] = lambda name, what: None
) -> list[Path]:
    """Bring the files of a data set into `root/NAME` and return their paths.

    Files that are there and whole are kept: a fetch that was broken off goes on with the next file. A file arrives under
    a temporary name and is moved into place when its digest is right.

    Arguments:
        root: the folder of data sets; made if need be
        mirror: address of a folder to fetch from, instead of the known ones
        told: hears of each file's name what was done: "kept" or "fetched from ADDRESS"

    Raises:
        DataError: no address had a file as it should be, or the folder cannot be written
    """
    folder = root / data_set.name
    paths = []
    for file in data_set.versions[0].files:
        path = folder / file.name
        if fault(file, path) is None:
            told(file.name, "kept")
        else:
            told(file.name, f"fetched from {_bring(file, folder, (mirror,) if mirror else file.mirrors)}")
        paths.append(path)
    return paths


def _bring(file: DataFile, folder: Path, mirrors: tuple[str, ...]) -> str:
    """The address that had the file.

    Raises:
        DataError: none had
    """
    # Here and not above: it loads an HTTP client, and reading data needs none.
    import pooch

    pooch.get_logger().setLevel("ERROR")
    reasons = []
    for mirror in mirrors:
        address = f"{mirror.rstrip('/')}/{file.name}"
        loader = pooch.HTTPDownloader(progressbar=False, timeout=_SECONDS)
        try:
            pooch.retrieve(address, known_hash=file.digest, fname=file.name, path=folder, downloader=loader)
            return address
        except (OSError, ValueError) as error:
            # requests' errors are OSErrors; a wrong digest is a ValueError.
            reasons.append(f"{address}: {_short(error)}")
    raise DataError(f"{file.name} could not be fetched: {'; '.join(reasons)}; put it into '{folder}' yourself")


def _short(error: Exception) -> str:
    if isinstance(error, ValueError) and "does not match" in str(error):
        return "what came is truncated or altered (its digest is another)"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
