"""Whether an episode went well, where the environment tells."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from sabsim.envs import is_minigrid

TOLD = ("success", "correct", "passed", "is_success")
"""Entries of the last info that tell; -1 and None mean that nothing was to be judged."""
DECISION = "correct"
"""Of these, the one that judges a decision: it is the episode's only where the episode ended with that decision."""


def pays_success(environment: gym.Env[Any, Any]) -> bool:
    """Whether a reward above 0 at a terminated episode's end is this kind of environment's success, as in MiniGrid."""
    return is_minigrid(environment)


def succeeded(info: dict[str, Any], *, terminated: bool, reward: float, pays: bool) -> bool | None:
    """Whether an episode that ended with ``info``, ``terminated`` or cut off, and ``reward`` went well; None: not told.

    ``pays``: what ``pays_success`` says of the environment; what the info tells goes first.
    """
    for name in TOLD:
        if name in info:
            value = info[name]
            unjudged = value is None or value == -1 or (name == DECISION and not terminated)
            return None if unjudged else bool(value)
    return terminated and reward > 0 if pays else None
