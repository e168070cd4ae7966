"""What a sweep on Ray does on the nodes: sees that a node is fit, keeps others out of a run folder, runs, and tells.

Nothing here imports Ray: tasks are plain functions.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import torch

from sabsim.errors import RunFolderError, SabsimError
from sabsim.runs.interrupts import Interrupted
from sabsim.runs.machine import git_revision, sabsim_version
from sabsim.runs.progress import Display, Standing
from sabsim.runs.sweep import Planned, Work, in_words

PATIENCE = 600.0
"""Seconds to wait for a run folder that another process holds: a dead machine's locks end after a minute or two on NFS."""
_LOOK = 1.0
"""Seconds between two tries, and between two reports of a run."""


@dataclass(frozen=True)
class Ground:
    """What all nodes of a sweep have in common.

    ``folder``: in which relative paths begin, None if there are none. ``marker``: a file that the sweep holds locked,
    ``token``: what it says. ``versions``: of sabsim, its revision and torch. ``environment``: variables that go along.
    """

    folder: str | None
    marker: str
    token: str
    versions: tuple[str, str, str]
    environment: Mapping[str, str]


@cache
def versions() -> tuple[str, str, str]:
    """Of sabsim, its git revision and torch: with others a run comes to other figures."""
    return sabsim_version(), git_revision(), torch.__version__


def unfit(ground: Ground, *, begun: bool = False) -> str | None:
    """Why this node cannot take part, in words; None if it can, and its process now stands on the common ground.

    ``begun``: the sweep has begun; an edit of the sources, which changes the revision, does not end what is under way.
    """
    os.environ.update(ground.environment)
    try:
        if ground.folder is not None:
            os.chdir(ground.folder)
        with open(ground.marker, "r+b") as file:
            told = file.read().decode(errors="replace")
            holds = not locked(file)
    except OSError as error:
        return f"does not see '{ground.marker}' ({error.strerror}); give an --out that all nodes share"
    if told != ground.token:
        return f"sees another '{ground.marker}'; give an --out that all nodes share"
    if not holds:
        return f"does not see that '{ground.marker}' is locked; share --out by a file system whose locks hold on all nodes"
    if versions() != ground.versions:
        names = ("sabsim", "revision", "torch")
        pairs = zip(names, versions(), ground.versions, strict=True)
        asked = (pair for pair in pairs if not (begun and pair[0] == "revision"))
        other = [f"{name} {here}, not {there}" for name, here, there in asked if here != there]
        return f"has {'; '.join(other)}; install the same on all nodes" if other else None
    return None


def do(run: Planned, work: Work, ground: Ground, board: Any) -> tuple[dict[str, Any] | None, str]:
    """One run, from where its folder stands: its summary, or None and why it failed.

    Raises KeyboardInterrupt: Ray was asked to cancel it; a checkpoint was saved.
    """
    why = unfit(ground, begun=True)
    if why is not None:
        return None, f"a node {why}"
    try:
        with alone(run.out):
            return work(run.config, out=run.out, resume=True, display=_Reporter(run.name, board)), ""
    except Interrupted as stop:
        if stop.status == 128 + signal.SIGTERM:
            # The node is being shut down and the checkpoint is saved. To Ray this is a worker that died: it tries again
            # elsewhere, which a task that ends with an error does not get.
            os._exit(stop.status)
        raise
    except SabsimError as error:
        return None, str(error)


@contextmanager
def alone(out: Path, *, patience: float = PATIENCE) -> Iterator[None]:
    """Keeps every other node's task out of the run folder ``out``; waits for one that is in it, ``patience`` seconds.

    A node that Ray takes for dead may go on for a while. The folder's own lock is not enough: over NFS it holds on one
    machine only, because it is a folder that is locked. This one is a file beside it, ``.NAME.lock``, which stays: were it
    removed, two could each hold a lock of that name.

    Raises RunFolderError: still held, or cannot be made.
    """
    path = out.with_name(f".{out.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            end = time.monotonic() + patience
            while not locked(file):
                if time.monotonic() >= end:
                    raise RunFolderError(f"'{out}': another process is writing this run; wait for it or stop it")
                time.sleep(_LOOK)
            yield
    except OSError as error:
        if isinstance(error, SabsimError):
            raise
        raise RunFolderError(f"'{path}': {error.strerror or error}; give an --out that all nodes can write") from error


def locked(file: IO[bytes]) -> bool:
    """Whether this process now has the lock of the file, which must be open for writing: NFS gives none otherwise."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


class Board:
    """An actor: the last that each run has told since the sweep looked."""

    def __init__(self) -> None:
        self._news: dict[str, tuple[int, int, str]] = {}

    def tell(self, name: str, done: int, budget: int, told: str) -> None:
        """A run at work has moved."""
        self._news[name] = (done, budget, told)

    def read(self) -> dict[str, tuple[int, int, str]]:
        """The news, by run; they are told once."""
        news, self._news = self._news, {}
        return news


class _Reporter(Display):
    """Tells the board how a run stands."""

    def __init__(self, name: str, board: Any) -> None:
        self._name, self._board, self._reported = name, board, 0.0

    def due(self) -> bool:
        return time.monotonic() - self._reported >= _LOOK

    def update(self, status: Standing) -> None:
        self._reported = time.monotonic()
        self._board.tell.remote(self._name, status.done, status.budget, in_words(status))
