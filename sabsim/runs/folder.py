"""The run folder: which files it holds, who may write it, and how a small file is replaced in one move."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sabsim.errors import ConfigError, RunFolderError, StorageError
from sabsim.runs.config import RunConfig
from sabsim.runs.machine import made_by

try:
    import fcntl
except ImportError:  # without flock, keeping two writers apart is left to the user
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = ".tmp"


class Description(Protocol):
    """What a run is, whatever its kind."""

    def to_json(self) -> dict[str, Any]:
        """The parts of `config.json` that describe the run."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run folder. `config.json` is written first: with it, there is a run."""

    path: Path

    @property
    def config(self) -> Path:
        """What the run is, and what made it."""
        return self.path / "config.json"

    @property
    def database(self) -> Path:
        """Events, steps, episodes, metrics."""
        return self.path / "run.sqlite"

    @property
    def checkpoint(self) -> Path:
        """Everything needed to go on."""
        return self.path / "checkpoint.safetensors"

    @property
    def sidecar(self) -> Path:
        """The part of the checkpoint that is not tensors, for people."""
        return self.path / "checkpoint.json"

    @property
    def summary(self) -> Path:
        """Final figures."""
        return self.path / "summary.json"

    @property
    def evaluations(self) -> Path:
        """Results of `sabsim evaluate`."""
        return self.path / "evaluations"

    @property
    def begun(self) -> bool:
        """Whether there is a run here."""
        return self.config.exists()

    def require_free(self) -> None:
        """Make sure that a new run may begin here.

        Raises:
            ConfigError: there is something here already
        """
        if self.begun:
            raise ConfigError(f"out = '{self.path}': holds a run; give another --out, or --resume to go on with it")
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"out = '{self.path}': is not a folder; give another --out")
        others = sorted(entry.name for entry in self.path.glob("*") if entry.suffix != _TEMPORARY)
        if others:
            raise ConfigError(f"out = '{self.path}': holds {others[0]!r} but no run; give another --out")

    def write_config(self, config: Description) -> None:
        """Write `config.json`; who made the run is kept if it is there already.

        Raises:
            StorageError: the disk refuses
        """
        maker = self.description()["made_by"] if self.begun else made_by()
        write_json(self.config, config.to_json() | {"made_by": maker})

    def read_config(self) -> RunConfig:
        """The description of a supervised run.

        Raises:
            RunFolderError: no run here, a damaged file, another format version or kind
        """
        return RunConfig.from_json(self.description(), str(self.config))

    def description(self) -> dict[str, Any]:
        """What `config.json` holds, of a run of any kind.

        Raises:
            RunFolderError: no run here, or a damaged file
        """
        if not self.begun:
            raise RunFolderError(f"'{self.path}': no run folder (no config.json); 'sabsim run' or 'sabsim agent' makes one")
        return read_json(self.config)

    def write_evaluation(self, name: str, result: dict[str, Any]) -> None:
        """Write `evaluations/NAME.json`.

        Raises:
            StorageError: the disk refuses
        """
        path = self.evaluations / f"{name}.json"
        try:
            self.evaluations.mkdir(exist_ok=True)
            _replace(path, _as_json(result))
        except OSError as error:
            raise StorageError(f"'{path}': {error.strerror or error}; it is not kept there") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder if need be and keep a second writer out; the lock goes with the process.

        Raises:
            RunFolderError: another process is writing
            ConfigError: the folder cannot be made
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise ConfigError(f"out = '{self.path}': cannot be written ({error.strerror}); give another --out") from error
        try:
            _lock(handle, self.path)
            yield
        finally:
            os.close(handle)


def _lock(handle: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunFolderError(f"'{path}': another process is writing this run; wait for it or stop it") from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """The one line for a disk that refuses: what, why, and that nothing recorded is lost."""
    return StorageError(
        f"'{path}': {error.strerror or error}; free space or give another --out "
        "(what was committed and the last checkpoint are intact; --resume goes on from there)"
    )


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one move: after a kill there is the old one or the new one, never a part.

    Raises:
        StorageError: the disk refuses; the old file is intact
    """
    try:
        _replace(path, data)
    except OSError as error:
        raise storage_error(path, error) from error


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace a JSON file in one move.

    Raises:
        StorageError: the disk refuses
    """
    write_bytes(path, _as_json(data))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        RunFolderError: missing or damaged
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunFolderError(f"'{path}': cannot be read ({error}); the file is damaged") from error
    if not isinstance(data, dict):
        raise RunFolderError(f"'{path}': is not a JSON object; the file is damaged")
    return data


def _as_json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=2) + "\n").encode()


def _replace(path: Path, data: bytes) -> None:
    """Raises OSError: the disk refuses; the old file is intact."""
    temporary = path.with_name(path.name + _TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _sync_folder(path: Path) -> None:
    """Make a rename last through a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
