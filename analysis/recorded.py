"""What a run has recorded, as arrays: its single steps, replays, remindings and episodes, joined by stream and episode.

A table is a dict of arrays of one length; columns are those of docs/run-folder.md and docs/agents.md. What a run records of
how much is told there: replays and episodes of the first streams, single steps and remindings of one episode in
`record_every` only. `agent_runs` and `task_runs` read the two kinds of run; measures take either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

from .folders import Run

Table = dict[str, NDArray[Any]]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

_INTEGERS = {"step", "stream", "episode", "position", "action", "source_step", "lag", "replayed_steps", "update_step"}
_INTEGERS |= {"first_step", "last_step", "length", "causal_step", "scored"}
_EVENTS = ("step", "stream", "episode", "source_step", "lag", "weight")


@dataclass(frozen=True)
class Recorded:
    """What a run has recorded.

    Attributes:
        run: the folder
        steps: single steps, by stream and then time: `step`, `stream`, `episode`, `position` (from 0 in the episode);
            `place` (NaN where not told or not a number); `causal_step` (position, -1 where not told); `replays` and
            `remindings`, how many the step has triggered, and `credit`, the sum over its replays; further columns by kind
        replays: one row per replay event: `step`, `stream`, `episode`, `source_step`, `lag`, `weight`, `credit`,
            `replayed_steps`, `update_step` (when the replay took place); `position` of the trigger in its episode, and
            `row`, that of the trigger in `steps` (-1 where its single steps are not recorded); the learning signal at the
            trigger, by kind
        remindings: the same of forward events, without `credit`, `replayed_steps` and signal; of recorded steps only
        episodes: those that have ended: `stream`, `episode`, `first_step`, `last_step`, `length`; further columns by kind
        left_out: replays whose episode's beginning is not recorded (the run was stopped in it), or that reach beyond it
        beyond: of these, those that reach beyond it, each by the key of its episode; in a text, which is not reset where a
            passage ends, many do. Rates count them
        remindings_beyond: so many remindings of recorded steps do too
    """

    run: Run
    steps: Table
    replays: Table
    remindings: Table
    episodes: Table
    left_out: int
    beyond: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    remindings_beyond: int = 0

    signals: ClassVar[tuple[str, ...]] = ()
    """Columns of `replays` that hold the learning signal at the trigger."""
    marked: ClassVar[str] = "marked"
    """What a step is that the learning signal comes at."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.run.path.resolve().name

    @property
    def what(self) -> str:
        """The environment's id, or the task's name."""
        raise NotImplementedError

    @property
    def credit(self) -> str:
        """The credit rule's name."""
        return str(self.run.config["learner"].get("credit"))

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.run.config["run"]["seed"])

    @property
    def window(self) -> int:
        """Steps from one update to the next; a replay is triggered somewhere in its window."""
        raise NotImplementedError

    def marks(self) -> Bools:
        """Which of `steps` the learning signal comes at: `marked` says in a word what they are, `(steps,)`."""
        raise NotImplementedError

    def labels(self) -> tuple[Bools, Bools]:
        """Of each replay: whether its trigger had the outcome that is set against the other, and whether that is known.

        Both `(replays,)`. Of agents: a reward above 0. Of tasks: a wrong answer.
        """
        raise NotImplementedError

    def need_replays(self) -> None:
        """Raises RunFolderError: if nothing was replayed."""
        if not len(self.replays["step"]):
            raise RunFolderError(f"'{self.run.path}': no replay is recorded (credit {self.credit})")

    def need_steps(self) -> None:
        """Raises RunFolderError: if no single step was recorded."""
        if not len(self.steps["step"]):
            raise RunFolderError(f"'{self.run.path}': no single step is recorded; train it with --record-streams 1 or more")

    def need_marks(self) -> None:
        """Raises RunFolderError: if the learning signal came at no recorded step."""
        self.need_steps()
        if not self.marks().any():
            count = len(self.steps["step"])
            raise RunFolderError(f"'{self.run.path}': none of the {count:,} recorded steps was {self.marked}")

    def need_places(self) -> None:
        """Raises RunFolderError: if no recorded step tells a place."""
        self.need_steps()
        if not np.isfinite(self.steps["place"]).any():
            raise RunFolderError(f"'{self.run.path}': no recorded step tells a place")


def check_numbers(run: Run, numbers: dict[str, str]) -> None:
    """Raises RunFolderError: if a group of `config.json` lacks its whole number."""
    for part, name in numbers.items():
        group = run.config.get(part)
        if not isinstance(group, dict) or not isinstance(group.get(name), int):
            raise RunFolderError(f"'{run.path / 'config.json'}': {part} has no {name}; the file is damaged")


def keys(stream: NDArray[Any], step: NDArray[Any]) -> Ints:
    """One integer per pair, ordered by stream and then by step; steps below 2^40."""
    return (stream.astype(np.int64) << 40) + step.astype(np.int64)


def read_table(run: Run, table: str, columns: tuple[str, ...], rest: str) -> Table:
    """`SELECT columns FROM table rest` as arrays; integers are -1, other numbers NaN, and text is empty where not told.

    Raises:
        RunFolderError: the database cannot be read
    """
    names = ", ".join(f'"{name}"' for name in columns)
    rows = run.rows(f"SELECT {names} FROM {table} {rest}")
    try:
        return {name: _column([row[place] for row in rows], name) for place, name in enumerate(columns)}
    except (TypeError, ValueError, OverflowError) as error:
        raise RunFolderError(f"'{run.path / 'run.sqlite'}': table {table} is damaged ({error})") from error


class Events(NamedTuple):
    """What `Recorded` has of a run's events, by the same names."""

    replays: Table
    remindings: Table
    left_out: int
    beyond: Ints
    remindings_beyond: int


def read_events(run: Run, steps: Table, episodes: Table, signals: tuple[str, ...]) -> Events:
    """Replays and remindings with the position and the row of their triggers, and which were left out.

    Adds `replays`, `credit` and `remindings` to `steps`.

    Raises:
        RunFolderError: the database cannot be read
    """
    wanted = (*_EVENTS, "credit", "replayed_steps", "update_step", *signals)
    replays, far, left_out = _joined(read_table(run, "events", wanted, _of("replay")), steps, episodes)
    remindings, far_reads, _ = _joined(read_table(run, "events", _EVENTS, _of("reminding")), steps, episodes)
    remindings = _chosen(remindings, remindings["row"] >= 0)
    count, inside = len(steps["step"]), replays["row"] >= 0
    here = replays["row"][inside]
    steps["replays"] = np.bincount(here, minlength=count)
    steps["credit"] = np.bincount(here, weights=replays["credit"][inside], minlength=count)
    steps["remindings"] = np.bincount(remindings["row"], minlength=count)
    beyond = keys(far["stream"], far["episode"])
    return Events(replays, remindings, left_out, beyond, int((far_reads["row"] >= 0).sum()))


def rows_at(steps: Table, stream: NDArray[Any], step: NDArray[Any]) -> Ints:
    """The row in `steps` of each pair, or -1."""
    known, wanted = keys(steps["stream"], steps["step"]), keys(stream, step)
    if not len(known):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, at, -1)


def _of(kind: str) -> str:
    return f"WHERE kind = '{kind}' ORDER BY stream, step, id"


def _column(values: list[Any], name: str) -> NDArray[Any]:
    if name == "phase":
        return np.array(["" if value is None else str(value) for value in values], dtype=np.str_)
    if name in _INTEGERS:
        return np.array([-1 if value is None else value for value in values], dtype=np.int64)
    return np.array([value if isinstance(value, int | float) else np.nan for value in values], dtype=np.float64)


def _joined(events: Table, steps: Table, episodes: Table) -> tuple[Table, Table, int]:
    """Events with `position` and `row`, those that begin before their episode apart, and how many are not the former."""
    events["position"] = events["step"] - _first_steps(events, steps, episodes)
    events["row"] = rows_at(steps, events["stream"], events["step"])
    known = (events["position"] >= events["lag"]) & (events["lag"] >= 1)
    beyond = (events["position"] >= 0) & (events["position"] < events["lag"])
    return _chosen(events, known), _chosen(events, beyond), int((~known).sum())


def _chosen(table: Table, rows: Bools) -> Table:
    return {name: column[rows] for name, column in table.items()}


def _first_steps(events: Table, steps: Table, episodes: Table) -> Ints:
    """When the episode of each event began; far in the future where that is not recorded, so that no lag fits."""
    stream = np.concatenate([episodes["stream"], steps["stream"]])
    known = keys(stream, np.concatenate([episodes["episode"], steps["episode"]]))
    begun = np.concatenate([episodes["first_step"], steps["step"] - steps["position"]])
    known, place = np.unique(known, return_index=True)
    wanted = keys(events["stream"], events["episode"])
    found = np.full(len(wanted), np.iinfo(np.int64).max // 2)
    if len(known):
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        found = np.where(known[at] == wanted, begun[place][at], found)
    return found
