"""Where an export is written: in a folder beside its place, moved there in one go when it is whole."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sabsim.errors import ConfigError, RunFolderError, StorageError

_NO_ROOM = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_TRUNCATE"}
_SYSTEM_ERROR = re.compile(r"errno\W+(\d+)", re.IGNORECASE)


def check_free(option: str, path: Path, *, overwrite: bool, folder: bool, own: frozenset[str] = frozenset()) -> None:
    """Make sure that `path` may be written, before any work.

    Arguments:
        option: what the user gave it as, for the message
        overwrite: whether an earlier export may be replaced
        folder: whether it is to be a folder; then only one that holds nothing but files of `own` is ever replaced

    Raises:
        ConfigError: there is something that must not be replaced, or no folder to write in
    """
    what = f"{option} = '{path}'"
    if not path.parent.is_dir():
        raise ConfigError(f"{what}: there is no folder '{path.parent}'; make it first")
    if not path.exists():
        return
    if folder != path.is_dir():
        raise ConfigError(f"{what}: is {'not ' if folder else ''}a folder; give another name")
    if folder:
        others = sorted(entry.name for entry in path.iterdir() if entry.name not in own or entry.is_dir())
        if others:
            raise ConfigError(f"{what}: holds {others[0]!r}, which is of no export; give another folder")
        if not any(path.iterdir()):
            return
    if not overwrite:
        raise ConfigError(f"{what}: exists already; give another name, or --overwrite to replace it")


@contextmanager
def workshop(option: str, path: Path, *, source: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, gone afterwards with all that is still in it.

    Arguments:
        option: what the user gave `path` as, for the message
        path: what will be published
        source: the database that is read meanwhile

    Raises:
        ConfigError: it cannot be made
        StorageError: the disk refused something that was written in it
        RunFolderError: the run's database cannot be read
    """
    try:
        place = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise ConfigError(f"{option} = '{path}': cannot be written ({error.strerror}); give another name") from error
    try:
        yield place
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", None) in _NO_ROOM:
            raise _refused(path, str(error)) from error
        raise RunFolderError(f"'{source}': cannot be read ({error})") from error
    except (OSError, RuntimeError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise _refused(path, reason) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def publish(made: Path, path: Path) -> None:
    """Move what was `made` in the workshop to its place; what was there goes to the workshop.

    Raises:
        OSError: the disk refuses
    """
    if made.is_dir():
        for file in made.iterdir():
            _force(file)
        if path.exists():
            os.rename(path, made.with_name("replaced"))
        os.rename(made, path)
    else:
        _force(made)
        os.replace(made, path)


def _force(file: Path) -> None:
    """Make a file's bytes last before its name does."""
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())


def _reason(error: Exception) -> str | None:
    """What the system said, also where HDF5 or Arrow say it for it; None if it was not the system."""
    number = getattr(error, "errno", None)
    if number is None and (found := _SYSTEM_ERROR.search(str(error))):
        number = int(found[1])
    return os.strerror(number) if number else None


def _refused(path: Path, reason: str) -> StorageError:
    return StorageError(f"'{path}': {reason}; free space or give another name (nothing of this export is left behind)")
