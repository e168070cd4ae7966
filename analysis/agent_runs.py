"""An agent's run as arrays: its single steps, its replays and its episodes, joined by stream and episode.

Columns are those of docs/agents.md; a table is a dict of arrays of one length. What a run records of how much is told
there: replays and episodes of the first streams, single steps and remindings of one episode in `record_every` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

from .folders import Run, read_run

Table = dict[str, NDArray[Any]]

_STEPS = ("step", "stream", "episode", "position", "action", "reward", "value", "td_error", "place", "epoch", "phase")
_REPLAYS = ("step", "stream", "episode", "source_step", "lag", "weight", "credit", "reward", "td_error", "replayed_steps")
_EPISODES = ("stream", "episode", "first_step", "last_step", "return", "length", "success")
_INTEGERS = {"step", "stream", "episode", "position", "action", "source_step", "lag", "replayed_steps"}
_INTEGERS |= {"first_step", "last_step", "length", "causal_step"}


@dataclass(frozen=True)
class AgentRun:
    """What an agent's run has recorded.

    Attributes:
        run: the folder
        steps: single steps, by stream and then time: `step`, `stream`, `episode`, `position`, `action`, `reward`, `value`,
            `td_error`; `place` and `epoch` (NaN where not told or not a number), `phase` (text, empty where not told),
            `causal_step` (position, -1 where not told); `replays` and `remindings`, how many the step has triggered, and
            `credit`, the sum over its replays
        replays: one row per replay event: `step`, `stream`, `episode`, `source_step`, `lag`, `weight`, `credit`, `reward`,
            `td_error`, `replayed_steps`; `position` of the trigger in its episode, and `row`, that of the trigger in
            `steps` (-1 where its single steps are not recorded)
        episodes: those that have ended: `stream`, `episode`, `first_step`, `last_step`, `return`, `length`, `success` (NaN
            where not told)
        left_out: replays whose episode's beginning is not recorded (the run was stopped in it), or that reach beyond it
    """

    run: Run
    steps: Table
    replays: Table
    episodes: Table
    left_out: int

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.run.path.resolve().name

    @property
    def env(self) -> str:
        """The environment's id."""
        return str(self.run.config["env"])

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
        return int(self.run.config["learner"]["window"])

    def need_replays(self) -> None:
        """Raises RunFolderError: if nothing was replayed."""
        if not len(self.replays["step"]):
            raise RunFolderError(f"'{self.run.path}': no replay is recorded (credit {self.credit})")

    def need_steps(self) -> None:
        """Raises RunFolderError: if no single step was recorded."""
        if not len(self.steps["step"]):
            raise RunFolderError(f"'{self.run.path}': no single step is recorded; train it with --record-streams 1 or more")

    def need_rewards(self) -> None:
        """Raises RunFolderError: if no recorded step was paid."""
        self.need_steps()
        if not self.steps["reward"].any():
            raise RunFolderError(f"'{self.run.path}': none of the {len(self.steps['step']):,} recorded steps was paid")


def read_agent_run(path: str | Path) -> AgentRun:
    """Read the tables of an agent's run folder, finished or still being written.

    Raises:
        RunFolderError: no run folder, one of a supervised task, a damaged file, or another format version
    """
    run = read_run(path)
    if not run.agent:
        raise RunFolderError(f"'{run.path}': is the run of a supervised task; an agent's is needed ('sabsim agent')")
    _check_description(run)
    steps = _table(run, "steps", (*_STEPS, "causal_step"), "ORDER BY stream, step")
    replays = _table(run, "events", _REPLAYS, "WHERE kind = 'replay' ORDER BY stream, step, id")
    episodes = _table(run, "episodes", _EPISODES, "ORDER BY stream, episode")
    replays["position"] = replays["step"] - _first_steps(replays, steps, episodes)
    known = (replays["position"] >= replays["lag"]) & (replays["lag"] >= 1)
    left_out = int((~known).sum())
    replays = {name: column[known] for name, column in replays.items()}
    replays["row"] = _rows_of(replays, steps)
    here = replays["row"][replays["row"] >= 0]
    count = len(steps["step"])
    steps["replays"] = np.bincount(here, minlength=count)
    steps["credit"] = np.bincount(here, weights=replays["credit"][replays["row"] >= 0], minlength=count)
    remindings = _table(run, "events", ("step", "stream"), "WHERE kind = 'reminding'")
    rows = _rows_of(remindings, steps)
    steps["remindings"] = np.bincount(rows[rows >= 0], minlength=count)
    return AgentRun(run, steps, replays, episodes, left_out)


def _check_description(run: Run) -> None:
    numbers = {"run": "seed", "learner": "window"}
    for part, name in numbers.items():
        group = run.config.get(part)
        if not isinstance(group, dict) or not isinstance(group.get(name), int):
            raise RunFolderError(f"'{run.path / 'config.json'}': {part} has no {name}; the file is damaged")
    if not isinstance(run.config.get("env"), str) or not isinstance(run.config.get("env_args"), dict):
        raise RunFolderError(f"'{run.path / 'config.json'}': no environment and its arguments; the file is damaged")


def keys(stream: NDArray[Any], step: NDArray[Any]) -> NDArray[np.int64]:
    """One integer per pair, ordered by stream and then by step; steps below 2^40."""
    return (stream.astype(np.int64) << 40) + step.astype(np.int64)


def _table(run: Run, table: str, columns: tuple[str, ...], rest: str) -> Table:
    names = ", ".join(f'"{name}"' for name in columns)
    rows = run.rows(f"SELECT {names} FROM {table} {rest}")
    return {name: _column([row[place] for row in rows], name) for place, name in enumerate(columns)}


def _column(values: list[Any], name: str) -> NDArray[Any]:
    if name == "phase":
        return np.array(["" if value is None else str(value) for value in values], dtype=np.str_)
    if name in _INTEGERS:
        return np.array([-1 if value is None else value for value in values], dtype=np.int64)
    return np.array([value if isinstance(value, int | float) else np.nan for value in values], dtype=np.float64)


def _first_steps(replays: Table, steps: Table, episodes: Table) -> NDArray[np.int64]:
    """When the episode of each replay began; far in the future where that is not recorded, so that no lag fits."""
    stream = np.concatenate([episodes["stream"], steps["stream"]])
    known = keys(stream, np.concatenate([episodes["episode"], steps["episode"]]))
    begun = np.concatenate([episodes["first_step"], steps["step"] - steps["position"]])
    known, place = np.unique(known, return_index=True)
    wanted = keys(replays["stream"], replays["episode"])
    found = np.full(len(wanted), np.iinfo(np.int64).max // 2)
    if len(known):
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        found = np.where(known[at] == wanted, begun[place][at], found)
    return found


def _rows_of(events: Table, steps: Table) -> NDArray[np.int64]:
    """The row in `steps` at which each event was triggered, or -1."""
    known, wanted = keys(steps["stream"], steps["step"]), keys(events["stream"], events["step"])
    if not len(known):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, at, -1)
