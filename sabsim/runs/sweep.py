"""Many runs, a few at a time, each in a process of its own: experiments and tables.

A run is named, has a folder, and may wait for another one. Whatever kills the sweep, the same sweep begun again goes on:
finished runs are read from their folders, the others go on from their last checkpoints.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sabsim.errors import ConfigError, SabsimError, TimeUpError
from sabsim.runs.progress import Display, Standing, number

_LOOK = 0.2
"""Seconds between two looks at what the processes have told."""
_REPORT = 0.5
"""Seconds between two reports of a run."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One run of a sweep.

    ``name``: unique in the sweep. ``config``: what ``work`` makes a run of. ``out``: its run folder. ``after``: name of the
    run that must be finished before, if any.
    """

    name: str
    config: Any
    out: Path
    after: str | None = None


class Work(Protocol):
    """Trains a configuration in a folder, or goes on with what is there; a function of a module, as processes need it."""

    def __call__(self, config: Any, *, out: Path, resume: bool, display: Display) -> dict[str, Any]: ...


@dataclass
class Swept:
    """What came of a sweep: ``summaries`` of finished runs, ``failures`` of others in a line each, both by name.

    ``paused``: the same of runs whose time was up; the same sweep goes on with them.
    """

    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    paused: dict[str, str] = field(default_factory=dict)


class SweepDisplay:
    """How far the whole is and each run at work: bars on a terminal, elsewhere a line per finished run, or nothing."""

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self._console = Console(highlight=False, stderr=True, quiet=quiet)
        words, told = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[told]}"))
        self._progress = Progress(
            *(words, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), told),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
            transient=True,
        )
        self._total, self._done = total, 0
        self._whole = self._progress.add_task("all runs", total=total, told="")
        self._tasks: dict[str, Any] = {}
        self._over: set[str] = set()

    def __enter__(self) -> SweepDisplay:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, name: str, done: int, budget: int, told: str) -> None:
        """A run at work has moved; of one that has ended, nothing more is shown."""
        if name in self._over:
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=budget, told=told)
        self._progress.update(self._tasks[name], completed=done, total=budget, told=told)

    def ended(self, name: str, how: str) -> None:
        """A run is finished or has failed."""
        if name in self._tasks:
            self._progress.remove_task(self._tasks.pop(name))
        self._over.add(name)
        self._done += 1
        self._progress.update(self._whole, completed=self._done)
        if not self._console.is_terminal:
            self._console.print(f"{self._done}/{self._total} {name}: {how}", markup=False, soft_wrap=True)


class Hands(Protocol):
    """Whoever does the runs of a sweep: processes of this machine, or a cluster."""

    def submit(self, run: Planned) -> Future[dict[str, Any]]:
        """Begins a run, or goes on with it, as soon as there is room."""

    def result(self, future: Future[dict[str, Any]]) -> dict[str, Any]:
        """The summary of a run that has ended. Raises SabsimError: it failed."""

    def listen(self, display: SweepDisplay) -> None:
        """Shows what the runs at work have told since."""


def sweep(runs: Sequence[Planned], work: Work, *, jobs: int, display: SweepDisplay) -> Swept:
    """Does all runs, ``jobs`` at a time; one that fails does not stop the others.

    Raises ConfigError: for ``jobs`` below 1, two runs of one name, or one that waits for a run that is not there.
    KeyboardInterrupt: asked to stop; each run at work has saved a checkpoint.
    """
    if jobs < 1:
        raise ConfigError(f"jobs = {jobs}: must be at least 1")
    check(runs)
    context = multiprocessing.get_context("spawn")
    with _deaf():
        halt, told = context.Event(), context.SimpleQueue()
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare, initargs=(halt, told))
    try:
        return follow(runs, _Processes(pool, told, work), display)
    except BrokenProcessPool as error:
        raise SabsimError("a process of the sweep was killed; is there enough memory? the same command goes on") from error
    except BaseException:
        halt.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def check(runs: Sequence[Planned]) -> None:
    """Raises ConfigError: for two runs of one name, or one that waits for a run that is not there."""
    names = {run.name for run in runs}
    if len(names) < len(runs):
        raise ConfigError("two runs of a sweep have the same name")
    for run in runs:
        if run.after is not None and run.after not in names:
            raise ConfigError(f"run {run.name!r} waits for {run.after!r}, which is no run of the sweep")


def follow(runs: Sequence[Planned], hands: Hands, display: SweepDisplay) -> Swept:
    """Submits every run once that for which it waits is finished, until all have ended."""
    waiting, found = {run.name: run for run in runs}, Swept()
    at_work: dict[Future[dict[str, Any]], str] = {}
    with display:
        while waiting or at_work:
            for name in _ready(waiting, found):
                at_work[hands.submit(waiting.pop(name))] = name
            _drop_hopeless(waiting, found, display)
            hands.listen(display)
            for future in wait(at_work, timeout=_LOOK, return_when=FIRST_COMPLETED).done:
                _take(hands, future, at_work.pop(future), found, display)
    return found


@dataclass(frozen=True)
class _Processes:
    """Those of a pool."""

    pool: ProcessPoolExecutor
    told: Any
    work: Work

    def submit(self, run: Planned) -> Future[dict[str, Any]]:
        with _deaf():  # the pool starts its processes as it needs them
            return self.pool.submit(_run, run, self.work)

    def result(self, future: Future[dict[str, Any]]) -> dict[str, Any]:
        return future.result()

    def listen(self, display: SweepDisplay) -> None:
        while not self.told.empty():
            display.update(*self.told.get())


def _ready(waiting: Mapping[str, Planned], found: Swept) -> list[str]:
    return [name for name, run in waiting.items() if run.after is None or run.after in found.summaries]


def _drop_hopeless(waiting: dict[str, Planned], found: Swept, display: SweepDisplay) -> None:
    """Runs that wait for one that has failed, or has not come to its end, fail with it."""
    for name in [name for name, run in waiting.items() if run.after in found.failures | found.paused]:
        after = waiting.pop(name).after
        lost, how = (found.failures, "failed") if after in found.failures else (found.paused, "is not finished")
        lost[name] = f"waited for {after}, which {how}"
        display.ended(name, lost[name])


def _take(hands: Hands, future: Future[dict[str, Any]], name: str, found: Swept, display: SweepDisplay) -> None:
    try:
        found.summaries[name] = hands.result(future)
        display.ended(name, f"{number(found.summaries[name].get('seconds'))} s")
    except TimeUpError as error:
        found.paused[name] = str(error)
        display.ended(name, str(error))
    except BrokenExecutor:
        raise
    except Exception as error:  # no memory, for example: the other runs have nothing to do with it
        foreign = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        found.failures[name] = str(error) if isinstance(error, SabsimError) else foreign
        display.ended(name, f"failed: {found.failures[name]}")


# In the processes

_HALT: Any = None
_TOLD: Any = None
_AT_WORK = threading.Lock()
"""Held while a run is at work, which saves its checkpoint before it lets go."""


def _prepare(halt: Any, told: Any) -> None:
    global _HALT, _TOLD  # what a pool's process is given once, for all runs it does
    _HALT, _TOLD = halt, told
    threading.Thread(target=_outlive_no_parent, daemon=True).start()


def _outlive_no_parent() -> None:
    """Ends this process when the one that began the sweep is gone: nobody else would give it work, or end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        _HALT.set()
        with _AT_WORK:
            os._exit(1)


def _run(run: Planned, work: Work) -> dict[str, Any]:
    with _AT_WORK:
        if _HALT.is_set():  # a run that was queued when the sweep was to stop, taken up before this process has ended
            raise SabsimError("interrupted")
        try:
            return work(run.config, out=run.out, resume=True, display=_Reporter(run.name))
        except KeyboardInterrupt as error:
            raise SabsimError(str(error) or "interrupted") from None


class _Reporter(Display):
    """Tells the parent how a run stands, and stops it, checkpoint and all, when the sweep is to stop."""

    def __init__(self, name: str) -> None:
        self._name, self._reported = name, 0.0

    def due(self) -> bool:
        return time.monotonic() - self._reported >= _REPORT

    def update(self, status: Standing) -> None:
        self._reported = time.monotonic()
        if _HALT.is_set():
            signal.raise_signal(signal.SIGTERM)
            return
        _TOLD.put((self._name, status.done, status.budget, in_words(status)))


def in_words(status: Standing) -> str:
    """The first few figures of a run at work, for a line of the display."""
    return "  ".join(f"{title} {value}" for title, value in list(status.columns().items())[:4])


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C: they are told to stop, and save their checkpoints."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
