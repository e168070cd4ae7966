"""What the run of a supervised task has recorded: the loss is its learning signal. Columns: docs/run-folder.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from sabsim.errors import RunFolderError

from .agent_runs import AgentRun, read_agent_run
from .folders import Run, read_run
from .recorded import Bools, Ints, Recorded, Table, check_numbers, read_events, read_table

_STEPS = ("step", "stream", "episode", "position", "loss", "scored", "correct")
_EPISODES = ("stream", "episode", "first_step", "last_step", "loss", "metric")
_DIGITS = 10
"""Digits that copying shows and wants."""


@dataclass(frozen=True)
class TaskRun(Recorded):
    """The run of a supervised task; an episode is a sequence.

    `steps` has also `loss`, `scored` (1 where the step counts for the metric) and `correct` (the step's metric, NaN where
    not scored); `replays` has `loss` of the trigger; `episodes` has `loss` and `metric`. `place` is NaN: a sequence has
    positions only. `causal_step` is known for copying: output i wants what was shown at step i.
    """

    signals: ClassVar[tuple[str, ...]] = ("loss",)
    marked: ClassVar[str] = "scored"

    @property
    def what(self) -> str:
        """The task's name."""
        return str(self.run.config["task"])

    @property
    def window(self) -> int:
        """Steps from one update to the next."""
        learner = self.run.config["learner"]
        return int(learner.get("update_every") or learner["k_trunc"])

    def marks(self) -> Bools:
        """Steps that count for the metric."""
        scored: Bools = self.steps["scored"] == 1
        return scored

    def labels(self) -> tuple[Bools, Bools]:
        """Whether the trigger's answer was wrong; known where its single step is recorded and counts as right or wrong."""
        row = self.replays["row"]
        known = row >= 0
        if self.run.metric != "accuracy" or not known.any():
            return np.zeros(len(row), dtype=bool), np.zeros(len(row), dtype=bool)
        correct = np.where(known, self.steps["correct"][row], np.nan)
        return correct < 0.5, np.isfinite(correct)


def read_task_run(path: str | Path) -> TaskRun:
    """Read the tables of a supervised task's run folder, finished or still being written.

    Raises:
        RunFolderError: no run folder, one of an agent, a damaged file, or another format version
    """
    run = read_run(path)
    if run.agent:
        raise RunFolderError(f"'{run.path}': is an agent's run; that of a supervised task is needed ('sabsim run')")
    check_numbers(run, {"run": "seed", "learner": "k_trunc"})
    if not isinstance(run.config.get("task"), str):
        raise RunFolderError(f"'{run.path / 'config.json'}': no task; the file is damaged")
    steps = read_table(run, "steps", _STEPS, "ORDER BY stream, step")
    steps["place"] = np.full(len(steps["step"]), np.nan)
    steps["causal_step"] = _causal_steps(run, steps)
    episodes = read_table(run, "episodes", _EPISODES, "ORDER BY stream, episode")
    episodes["length"] = episodes["last_step"] - episodes["first_step"] + 1
    events = read_events(run, steps, episodes, TaskRun.signals)
    return TaskRun(run=run, steps=steps, episodes=episodes, **events._asdict())


def read_recorded(path: str | Path) -> AgentRun | TaskRun:
    """Read a run folder of either kind.

    Raises:
        RunFolderError: no run folder, a damaged file, or another format version
    """
    return read_agent_run(path) if read_run(path).agent else read_task_run(path)


def _causal_steps(run: Run, steps: Table) -> Ints:
    """Copying: output i, the step at position T + 10 + i, wants the digit shown at position i; -1 elsewhere."""
    causal = np.full(len(steps["step"]), -1)
    if run.config["task"] == "copying":
        options = run.config.get("task_options")
        if not isinstance(options, dict) or not isinstance(options.get("T"), int):
            raise RunFolderError(f"'{run.path / 'config.json'}': copying without its T; the file is damaged")
        scored = steps["scored"] == 1
        causal[scored] = steps["position"][scored] - (options["T"] + _DIGITS)
    return causal
