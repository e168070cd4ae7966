"""MiniGrid's own environments, saved by their attributes, go on bit for bit."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import minigrid  # noqa: F401 - registers its environments
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from sabsim.envs import get_state, set_state

IDS = [
    "MiniGrid-DoorKey-5x5-v0",
    "MiniGrid-MemoryS7-v0",
    "MiniGrid-MemoryS13Random-v0",
    "MiniGrid-Dynamic-Obstacles-6x6-v0",  # its balls are on the grid and in a list
    "MiniGrid-KeyCorridorS3R1-v0",  # rooms
    "MiniGrid-ObstructedMaze-1Dlhb-v0",  # a key in a box
    "MiniGrid-PutNear-6x6-N2-v0",
    "BabyAI-GoToLocal-v0",  # instructions that hold the environment
]


def play(env: gym.Env[Any, Any], actions: list[int]) -> list[Any]:
    """What comes of the actions, episode after episode."""
    trace: list[Any] = []
    for action in actions:
        trace.append(env.step(action))
        if trace[-1][2] or trace[-1][3]:
            trace.append(env.reset())
    return trace


@pytest.mark.parametrize("env_id", IDS)
def test_a_thousand_steps_from_a_saved_state_are_the_same(env_id: str) -> None:
    draw = np.random.default_rng(0)
    env, other = gym.make(env_id), gym.make(env_id)
    env.reset(seed=1)
    other.reset(seed=2)
    play(other, draw.integers(0, 7, 50).tolist())
    for moment in range(5):
        # Not drop and done: keys are carried, doors opened, boxes too.
        play(env, draw.choice([0, 1, 2, 2, 3, 5], 137 + moment).tolist())
        saved = json.loads(json.dumps(get_state(env)))
        actions = draw.integers(0, 7, 200).tolist()
        after = play(env, actions)
        set_state(other, saved)
        assert get_state(other) == saved
        assert data_equivalence(play(other, actions), after, exact=True)


def test_what_is_not_minigrids_is_refused() -> None:
    env = gym.make("MiniGrid-DoorKey-5x5-v0")
    env.reset(seed=0)
    env.unwrapped.friend = object()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="DoorKeyEnv cannot be saved: its friend holds object"):
        get_state(env)
    del env.unwrapped.friend  # type: ignore[attr-defined]
    saved = get_state(env)
    saved["env"]["objects"][0][0] = "os"
    with pytest.raises(ValueError, match="only MiniGrid's are known"):
        set_state(env, saved)
