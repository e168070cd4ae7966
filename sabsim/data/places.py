"""Where data lie, and whether they are what they should be.

A data set is looked for in the folder given; without one, in the folder that `SABSIM_DATA` names and in the
cache folder of the user, where `sabsim data fetch` puts it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import platformdirs

from sabsim.data.catalogue import DATA_SETS, DataFile, DataSet, Version
from sabsim.errors import DataError

VARIABLE = "SABSIM_DATA"
"""The environment variable that names a folder of data sets."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Found:
    """A data set on the disk, whole and unaltered; `paths` in the order of its version's files."""

    label: str
    paths: tuple[Path, ...]


def roots(data: str | Path | None = None) -> tuple[Path, ...]:
    """Folders in which data sets are looked for, in this order; a new one goes into the first.

    Raises:
        DataError: the folder given, or that of `SABSIM_DATA`, does not exist
    """
    cache = Path(platformdirs.user_cache_dir("sabsim"))
    named = os.environ.get(VARIABLE)
    if data is None and not named:
        return (cache,)
    given, what = (Path(data), "data") if data is not None else (Path(str(named)), VARIABLE)
    if not given.is_dir():
        raise DataError(f"{what} = '{given}': no such folder; give one that holds {', '.join(DATA_SETS)}")
    return (given,) if data is not None else (given, cache)


def locate(name: str, data: str | Path | None = None) -> Found:
    """The data set `name`, a key of `DATA_SETS`, wherever it lies.

    Raises:
        DataError: it is nowhere, or a file of it is missing, truncated or altered
    """
    data_set = DATA_SETS[name]
    places = roots(data)
    for root in places:
        version = present(data_set, root)
        if version is not None:
            return _checked(data_set, version, root / name)
    looked = " and ".join(f"'{root / name}'" for root in places)
    raise DataError(f"data set {name!r} is not in {looked}; {remedy(data_set)}")


def present(data_set: DataSet, root: Path) -> Version | None:
    """The version of which anything lies in `root`; the first, if there are several."""
    folder = root / data_set.name
    for version in data_set.versions:
        if any((folder / file.name).exists() for file in version.files):
            return version
    return None


def remedy(data_set: DataSet) -> str:
    """What to do when a data set is not at hand, or not as it should be."""
    files = ", ".join(file.name for file in data_set.versions[0].files)
    return f"'sabsim data fetch {data_set.name}' brings it, or put {files} there"


def fault(file: DataFile, path: Path) -> str | None:
    """What is wrong with a file: missing, truncated, too long or altered; None if nothing is."""
    try:
        status = path.stat()
        if status.st_size < file.size:
            return f"truncated ({status.st_size:,} of {file.size:,} bytes)"
        if status.st_size > file.size:
            return f"too long ({status.st_size:,} bytes instead of {file.size:,})"
        algorithm, _, wanted = file.digest.partition(":")
        found = _digest(path, algorithm, status.st_mtime_ns)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror})"
    return None if found == wanted else f"altered (its {algorithm} is {found[:12]}..., not {wanted[:12]}...)"


def _checked(data_set: DataSet, version: Version, folder: Path) -> Found:
    for file in version.files:
        wrong = fault(file, folder / file.name)
        if wrong is not None:
            raise DataError(f"'{folder / file.name}': {wrong}; {remedy(data_set)}")
    return Found(version.label, tuple(folder / file.name for file in version.files))


@lru_cache
def _digest(path: Path, algorithm: str, modified: int) -> str:
    """Digest of a file's bytes in hex; `modified`, its time, makes an old answer no answer for a changed file."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
