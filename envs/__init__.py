"""Gymnasium environments with delayed reward, and their wrappers.

Importing this package registers every environment as ``sabsim/NAME-v0``. Gymnasium 1.x no longer loads plugins by
itself (the entry-point group ``gymnasium.envs`` is not read), so name the module once: ``import sabsim.envs``, or
``gymnasium.make("sabsim.envs:sabsim/TMaze-v0")``. The modules of the environments are imported when one is made.
"""

from __future__ import annotations

from typing import NamedTuple

import gymnasium as gym

from ._minigrid_state import is_minigrid
from .saving import get_state, set_state
from .wrappers import OneHot, PreviousActionReward, TimeLimitAware


class Entry(NamedTuple):
    """Where an environment is, and after how many steps an endless one is truncated (None: its episodes end)."""

    entry_point: str
    max_episode_steps: int | None = None


# One line each, in the order of docs/environments.md.
ENVIRONMENTS: dict[str, Entry] = {
    "LinearTrack": Entry("sabsim.envs.linear_track:LinearTrack", 20_000),
    "TMaze": Entry("sabsim.envs.t_maze:TMaze"),
    "Exam": Entry("sabsim.envs.exam:Exam"),
    "TraceConditioning": Entry("sabsim.envs.trace_conditioning:TraceConditioning", 1_000),
    "KeyToDoor": Entry("sabsim.envs.key_to_door:KeyToDoor"),
    "DelayedMatch": Entry("sabsim.envs.delayed_match:DelayedMatch", 1_000),
    "Alternation": Entry("sabsim.envs.alternation:Alternation", 1_000),
    "MemoryChain": Entry("sabsim.envs.memory_chain:MemoryChain"),
    "DiscountingChain": Entry("sabsim.envs.discounting_chain:DiscountingChain"),
    "UmbrellaChain": Entry("sabsim.envs.umbrella_chain:UmbrellaChain"),
}


def register_all() -> None:
    """Registers what is not yet registered; calling it again changes nothing."""
    for name, entry in ENVIRONMENTS.items():
        if (env_id := f"sabsim/{name}-v0") not in gym.registry:
            gym.register(id=env_id, entry_point=entry.entry_point, max_episode_steps=entry.max_episode_steps)


register_all()

__all__ = [
    "ENVIRONMENTS",
    "Entry",
    "OneHot",
    "PreviousActionReward",
    "TimeLimitAware",
    "get_state",
    "is_minigrid",
    "register_all",
    "set_state",
]
