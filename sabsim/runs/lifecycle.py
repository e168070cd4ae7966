"""How any kind of run begins, goes on after a kill, or is found finished: what tasks' and agents' runs have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs.checkpoint import Checkpoint
from sabsim.runs.database import TABLES, RunDatabase
from sabsim.runs.folder import Description, RunFolder, read_json
from sabsim.runs.progress import Display

Tables = Mapping[str, Mapping[str, str]]


def may_change_threads(backend: str, *, encoder: str = "none") -> bool:
    """Whether a run may go on with other threads: compiled C adds up in one order whatever they are, torch may not."""
    return backend == "native" and encoder == "none"


class Runs(Protocol):
    """A loop that runs to its end."""

    def save(self) -> None:
        """Commit the rows and replace the checkpoint."""

    def run(self) -> dict[str, Any]:
        """To the end; returns what `summary.json` holds."""


@contextmanager
def _opened(folder: RunFolder, tables: Tables) -> Iterator[RunDatabase]:
    database = RunDatabase(folder.database, tables)
    try:
        yield database
    finally:
        database.close()


def start(
    folder: RunFolder,
    loop_of: Callable[[RunDatabase], Runs],
    *,
    tables: Tables = TABLES,
    config: Description | None = None,
) -> dict[str, Any]:
    """Run from the beginning. The first checkpoint comes before the first row.

    Arguments:
        config: what replaces the description in the folder once it is known that the run can be run

    Raises:
        RunFolderError: there are rows, but no checkpoint that they could belong to
    """
    with _opened(folder, tables) as database:
        if any(database.counts().values()):
            raise RunFolderError(
                f"'{folder.checkpoint}': the checkpoint is missing, run.sqlite has rows; put back a copy of "
                "it, or start again with another --out"
            )
        loop = loop_of(database)
        if config is not None:
            _accept(folder, config)
        loop.save()
        return loop.run()


def go_on(
    folder: RunFolder,
    checkpoint: Checkpoint,
    loop_of: Callable[[RunDatabase], Runs],
    *,
    tables: Tables = TABLES,
    config: Description,
) -> dict[str, Any]:
    """Run from the last checkpoint, which `loop_of` restores; rows recorded after it are dropped and recorded again.

    `config` as for `start`: a run that is refused, for its database or checkpoint, keeps its own and its final figures.
    """
    with _opened(folder, tables) as database:
        database.trim(checkpoint.numbers["rows"])
        loop = loop_of(database)
        _accept(folder, config)
        return loop.run()


def _accept(folder: RunFolder, config: Description) -> None:
    """The folder is that of a run at work, with these options: it has no final figures."""
    folder.write_config(config)
    folder.summary.unlink(missing_ok=True)


def finished(
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    display: Display,
    *,
    done: int,
    wanted: int,
    stored: int,
    what: tuple[str, str],
    goal: float | None,
) -> dict[str, Any] | None:
    """The summary of a run of which nothing is left to do, told to the user; None if something is.

    Arguments:
        done, wanted, stored: how much is trained, was asked for now, and was asked for when the run was begun
        what: the option that says so, and its unit
        goal: `stop_at` of the run

    Raises:
        ConfigError: less is wanted than is done
    """
    option, unit = what
    if checkpoint is not None and folder.summary.exists():
        if checkpoint.numbers["reached"]:
            display.note(f"'{folder.path}' is finished: it reached stop_at = {goal} at {done} {unit}")
            return read_json(folder.summary)
        if done >= wanted == stored:
            display.note(f"'{folder.path}' is finished at {done} {unit}; a larger --{option} goes on")
            return read_json(folder.summary)
    if wanted < min(done, stored):
        raise ConfigError(f"{option} = {wanted}: '{folder.path}' has {done} {unit} already")
    return None
