"""Several runs side by side, each in a process of its own: one leads, the others follow it sequence by sequence.

The followers get exactly as many training sequences as the leader needed: one that is ahead waits, and all stop where
the leader has stopped. Of `jobs` processes that compute at once the leader has one to itself; the followers take
turns, a block of steps each, on the others.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from sabsim.errors import ConfigError, SabsimError
from sabsim.runs.config import RunConfig
from sabsim.runs.interrupts import Interrupted
from sabsim.runs.progress import Display, Standing, Status
from sabsim.runs.train import train

_UNKNOWN, _HALT = 0, -1
_PAUSE = 0.02
"""Seconds between two looks at what the others do."""
_HANDOVER = 0.001
_REPORT_SECONDS = 0.25
_PATIENCE = 20.0
"""Seconds a process gets to save its checkpoint when asked to stop."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: how it is called, what it is, and its folder."""

    name: str
    config: RunConfig
    out: Path


class Board(Protocol):
    """Shows how the runs stand."""

    def update(self, name: str, status: Status) -> None:
        """Run `name` has moved."""

    def evaluated(self, name: str, status: Status) -> None:
        """Run `name` has done a held-out evaluation."""


@dataclass(frozen=True)
class _Shared:
    """What the processes know of each other.

    `progress`: sequences the leader has trained; `goal`: how many it needed, `_UNKNOWN` while it trains, `_HALT` if all
    are to stop at once; `turns`: of the followers.
    """

    progress: Synchronized[int]
    goal: Synchronized[int]
    turns: Semaphore

    @property
    def halted(self) -> bool:
        """Whether to stop at once: on request, or because the process that started this one is gone."""
        parent = multiprocessing.parent_process()
        return self.goal.value == _HALT or (parent is not None and not parent.is_alive())


class _Reporter(Display):
    """Tells the parent process how a run stands, stops the run where it should end; base of leader and follower."""

    def __init__(self, shared: _Shared, sender: Connection) -> None:
        self.shared, self._sender = shared, sender
        self._reported = 0.0

    def due(self) -> bool:
        return True

    def update(self, status: Standing) -> None:
        if time.monotonic() - self._reported >= _REPORT_SECONDS:
            self._reported = time.monotonic()
            self.tell("status", status)
        if self.shared.halted:
            signal.raise_signal(signal.SIGTERM)

    def evaluated(self, status: Standing) -> None:
        self.tell("evaluated", status)

    def tell(self, kind: str, what: object) -> None:
        """Send to the parent; one that is gone is noticed at the next block."""
        try:
            self._sender.send((kind, what))
        except OSError:
            self.shared.goal.value = _HALT


class _Leader(_Reporter):
    """Says after each block how far it is."""

    def update(self, status: Standing) -> None:
        self.shared.progress.value = status.done
        super().update(status)


class _Follower(_Reporter):
    """Computes in its turn only, and never beyond the leader."""

    def __enter__(self) -> Self:
        self._take_turn()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shared.turns.release()

    def update(self, status: Standing) -> None:
        super().update(status)
        if status.done >= status.budget:
            return
        self.shared.turns.release()
        # Whoever waits for a turn needs a moment to wake up and take it.
        time.sleep(_HANDOVER)
        while self.shared.goal.value == _UNKNOWN and status.done >= self.shared.progress.value:
            time.sleep(_PAUSE)
            if self.shared.halted:
                break
        self._take_turn()
        if self.shared.halted or _UNKNOWN < self.shared.goal.value <= status.done:
            # The loop saves a checkpoint and ends, as it would if a user asked.
            signal.raise_signal(signal.SIGTERM)

    def _take_turn(self) -> None:
        # After a halt nobody waits: the process that has the turn may have been killed.
        while not self.shared.turns.acquire(timeout=10 * _PAUSE):
            if self.shared.halted:
                return


def run_side_by_side(leader: Job, followers: Sequence[Job], *, jobs: int, board: Board) -> dict[str, dict[str, Any]]:
    """Train all runs and return their summaries by name; the leader's comes first.

    Arguments:
        leader: ends by its budget or its `stop_at`
        followers: end at the same number of sequences; none may have a `stop_at`
        jobs: processes that compute at once; with 1 the followers begin when the leader has ended
        board: what is shown meanwhile

    Raises:
        ConfigError: jobs < 1
        SabsimError: a run failed; the others were stopped
        KeyboardInterrupt: asked to stop; so were the runs, and each has saved a checkpoint
    """
    if jobs < 1:
        raise ConfigError(f"jobs = {jobs}: must be at least 1")
    context = multiprocessing.get_context("spawn")
    with _deaf():
        shared = _Shared(context.Value("q", _UNKNOWN), context.Value("q", _UNKNOWN), context.Semaphore(max(1, jobs - 1)))
    crew = _Crew(context, shared, board)
    with crew.stopped_at_the_end():
        crew.start(leader, _Leader)
        if jobs > 1:
            for job in followers:
                crew.start(job, _Follower)
        crew.wait_for([leader.name])
        shared.goal.value = crew.summaries[leader.name]["sequences"]
        if jobs > 1:
            # The leader's place is free.
            shared.turns.release()
        else:
            for job in followers:
                crew.start(_with_budget(job, shared.goal.value), _Follower)
        crew.wait_for([job.name for job in followers])
    return {job.name: crew.summaries[job.name] for job in (leader, *followers)}


class _Crew:
    """The processes at work and what they have told."""

    def __init__(self, context: SpawnContext, shared: _Shared, board: Board) -> None:
        self._context, self._shared, self._board = context, shared, board
        self._processes: dict[str, SpawnProcess] = {}
        self._receivers: dict[Connection, str] = {}
        self.summaries: dict[str, dict[str, Any]] = {}

    def start(self, job: Job, role: type[_Reporter]) -> None:
        """Begin a run in a process of its own."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(job, role, self._shared, sender), name=job.name, daemon=True)
        with _deaf():
            process.start()
        sender.close()
        self._processes[job.name], self._receivers[receiver] = process, job.name

    def wait_for(self, names: Sequence[str]) -> None:
        """Listen until these runs have ended."""
        while not all(name in self.summaries for name in names):
            for receiver in multiprocessing.connection.wait(list(self._receivers)):
                assert isinstance(receiver, Connection)
                self._hear(receiver)

    @contextmanager
    def stopped_at_the_end(self) -> Iterator[None]:
        """However the block ends, no process stays behind."""
        try:
            yield
        except BaseException:
            self._shared.goal.value = _HALT
            raise
        finally:
            for process in self._processes.values():
                process.join(_PATIENCE)
                if process.is_alive():
                    process.kill()
                    process.join()
            for receiver in self._receivers:
                receiver.close()

    def _hear(self, receiver: Connection) -> None:
        name = self._receivers[receiver]
        try:
            kind, what = receiver.recv()
        except EOFError:
            del self._receivers[receiver]
            receiver.close()
            self._ended(name)
            return
        if kind == "failed":
            raise type(what)(f"{name}: {what}")
        if kind == "done":
            self.summaries[name] = what
            return
        goal = self._shared.goal.value
        status = what if goal == _UNKNOWN else replace(what, budget=goal)
        (self._board.evaluated if kind == "evaluated" else self._board.update)(name, status)

    def _ended(self, name: str) -> None:
        """A process has closed its end; if it told no result, Ctrl-C reached it first, or something killed it."""
        if name in self.summaries:
            return
        process = self._processes[name]
        process.join(_PATIENCE)
        if process.exitcode == 128 + signal.SIGINT:
            raise KeyboardInterrupt
        raise SabsimError(f"{name}: its process ended with exit status {process.exitcode}; is there enough memory?")


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started inside, also those that multiprocessing starts for itself, do not hear Ctrl-C.

    A run hears it again as soon as it can save a checkpoint.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(job: Job, role: type[_Reporter], shared: _Shared, sender: Connection) -> None:
    """What a process does: the run, up to where the leader has stopped."""
    reporter = role(shared, sender)
    try:
        reporter.tell("done", _train(job, reporter, shared))
    except SabsimError as error:
        reporter.tell("failed", error)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


def _train(job: Job, reporter: _Reporter, shared: _Shared) -> dict[str, Any]:
    try:
        return train(job.config, out=job.out, display=reporter)
    except Interrupted:
        if shared.halted or shared.goal.value == _UNKNOWN:
            raise
    # It stands where the leader has stopped: with that as its budget it is finished, but for the final evaluation.
    ended = _with_budget(job, shared.goal.value)
    return train(ended.config, out=job.out, resume=True, display=reporter)


def _with_budget(job: Job, budget: int) -> Job:
    return replace(job, config=replace(job.config, run=replace(job.config.run, budget=budget)))
