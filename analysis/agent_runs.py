"""What an agent's run has recorded: rewards are its learning signal. Columns are those of docs/agents.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from sabsim.errors import RunFolderError

from .folders import Run, read_run
from .recorded import Bools, Recorded, check_numbers, read_events, read_table

_STEPS = ("step", "stream", "episode", "position", "action", "reward", "value", "td_error", "place", "epoch", "phase")
_EPISODES = ("stream", "episode", "first_step", "last_step", "return", "length", "success")


@dataclass(frozen=True)
class AgentRun(Recorded):
    """An agent's run.

    `steps` has also `action`, `reward`, `value`, `td_error`, `epoch` (NaN where not told) and `phase` (text, empty where
    not told); `replays` has `reward` and `td_error` of the trigger; `episodes` has `return` and `success` (NaN where not
    told).
    """

    signals: ClassVar[tuple[str, ...]] = ("td_error", "reward")
    marked: ClassVar[str] = "paid"

    @property
    def env(self) -> str:
        """The environment's id."""
        return str(self.run.config["env"])

    @property
    def what(self) -> str:
        """The environment's id."""
        return self.env

    @property
    def window(self) -> int:
        """Steps from one update to the next."""
        return int(self.run.config["learner"]["window"])

    def marks(self) -> Bools:
        """Steps that were paid: their reward is not 0."""
        paid: Bools = self.steps["reward"] != 0
        return paid

    def labels(self) -> tuple[Bools, Bools]:
        """Whether the trigger was rewarded (reward > 0), and whether its reward is known."""
        reward = self.replays["reward"]
        return reward > 0, np.isfinite(reward)


def read_agent_run(path: str | Path) -> AgentRun:
    """Read the tables of an agent's run folder, finished or still being written.

    Raises:
        RunFolderError: no run folder, one of a supervised task, a damaged file, or another format version
    """
    run = read_run(path)
    if not run.agent:
        raise RunFolderError(f"'{run.path}': is the run of a supervised task; an agent's is needed ('sabsim agent')")
    _check_description(run)
    steps = read_table(run, "steps", (*_STEPS, "causal_step"), "ORDER BY stream, step")
    episodes = read_table(run, "episodes", _EPISODES, "ORDER BY stream, episode")
    events = read_events(run, steps, episodes, AgentRun.signals)
    return AgentRun(run=run, steps=steps, episodes=episodes, **events._asdict())


def _check_description(run: Run) -> None:
    check_numbers(run, {"run": "seed", "learner": "window"})
    if not isinstance(run.config.get("env"), str) or not isinstance(run.config.get("env_args"), dict):
        raise RunFolderError(f"'{run.path / 'config.json'}': no environment and its arguments; the file is damaged")
