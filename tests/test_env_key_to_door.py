"""KeyToDoor: MiniGrid's view to the byte, three rooms, what opens the door, and the returns that its docstring states."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.minigrid_env import MiniGridEnv
from sabsim.envs.key_to_door import DONE, PICKUP, TOGGLE, KeyToDoor


def episode(
    env: KeyToDoor, rng: np.random.Generator | None, without_key: bool = False
) -> tuple[float, dict[str, Any], int]:
    """Return, last info and length of an episode of the optimal (``rng`` None) or the random policy."""
    _, info = env.reset()
    total, over, steps = 0.0, False, 0
    while not over:
        action = env.optimal_action() if rng is None else int(rng.integers(7))
        if without_key and action == PICKUP:
            action = DONE
        _, reward, over, truncated, info = env.step(action)
        assert not truncated
        total += reward
        steps += 1
    return total, info, steps


@given(room_size=st.integers(4, 9), show_key=st.booleans(), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_the_view_is_minigrids(room_size: int, show_key: bool, seed: int) -> None:
    env = KeyToDoor(room_size=room_size, apples=2, show_key=show_key, apple_steps=15)
    observation, info = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    over = False
    while not over:
        theirs = MiniGridEnv.gen_obs(env)
        if show_key and info["has_key"]:
            assert observation["image"][3, 6, 0] == OBJECT_TO_IDX["key"]
        else:
            assert env.carrying is None
        np.testing.assert_array_equal(observation["image"], theirs["image"])
        assert observation["image"].dtype == np.uint8
        assert observation["direction"] == theirs["direction"]
        action = env.optimal_action() if rng.random() < 0.5 else int(rng.integers(7))
        observation, _, over, _, info = env.step(action)
    np.testing.assert_array_equal(observation["image"], MiniGridEnv.gen_obs(env)["image"])


@pytest.mark.parametrize("apple_steps", [0, 7])
def test_each_room_has_its_time(apple_steps: int) -> None:
    env = KeyToDoor(key_steps=3, apple_steps=apple_steps, door_steps=4)
    _, info = env.reset(seed=0)
    phases, over = [info["phase"]], False
    while not over:
        _, _, over, truncated, info = env.step(DONE)
        assert not truncated
        phases.append(info["phase"])
    assert phases == ["key"] * 3 + ["apples"] * apple_steps + ["door"] * 5
    with pytest.raises(gym.error.ResetNeeded):
        env.step(DONE)


def test_the_door_needs_the_key() -> None:
    env = KeyToDoor()
    env.reset(seed=4)
    total, info, steps = episode(env, None, without_key=True)
    assert (total, info["success"], info["causal_step"], info["key_step"], steps) == (4.0, 0, -1, -1, 100)
    env.reset(seed=4)
    while env.phase < 2:
        env.step(DONE)
    env.has_key = 1  # so that the policy goes to the door
    while env.optimal_action() != TOGGLE:
        env.step(env.optimal_action())
    env.has_key = 0
    _, reward, over, _, info = env.step(TOGGLE)
    assert (reward, over, info["success"]) == (0.0, False, 0)
    env.has_key, env.key_step = 1, 3
    _, reward, over, _, info = env.step(TOGGLE)
    assert (reward, over, info["success"], info["causal_step"]) == (10.0, True, 1, 3)


def test_the_causal_step_is_that_of_the_pick_up() -> None:
    env = KeyToDoor()
    _, info = env.reset(seed=2)
    picked, over, steps = -1, False, 0
    while not over:
        action = env.optimal_action()
        if action == PICKUP:
            picked = steps
        _, reward, over, _, info = env.step(action)
        steps += 1
        assert info["causal_step"] == (picked if over else -1)
    assert picked >= 0
    assert reward == 10.0


def test_the_optimal_return_is_the_greatest_possible() -> None:
    env = KeyToDoor()
    env.reset(seed=7)
    assert {episode(env, None)[0] for _ in range(300)} == {14.0}


def test_the_random_return() -> None:
    env = KeyToDoor()
    env.reset(seed=8)
    rng = np.random.default_rng(8)
    returns = [episode(env, rng)[0] for _ in range(600)]
    assert np.mean(returns) == pytest.approx(1.35, abs=4 * 1.7 / np.sqrt(600))


def test_apples_pay_their_mean_with_their_variance() -> None:
    env = KeyToDoor(apple_reward=2.0, apple_variance=6.0)
    env.reset(seed=9)
    paid = np.array([env._apple() for _ in range(20_000)])
    assert set(paid.tolist()) == {0.0, 5.0}
    assert paid.mean() == pytest.approx(2.0, abs=0.08)
    assert paid.var() == pytest.approx(6.0, rel=0.03)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("room_size", 3), ("apples", 9), ("apples", -1), ("apple_reward", -1.0), ("apple_variance", -1.0),
        ("door_reward", None), ("key_steps", 0), ("apple_steps", -1), ("door_steps", 0), ("show_key", 1),
        ("render_mode", "human"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{argument} is {value!r}"):
        KeyToDoor(**{argument: value})  # type: ignore[arg-type]


def test_variance_needs_a_reward() -> None:
    with pytest.raises(ValueError, match=r"apple_variance is 1\.0; it must be 0 where apple_reward is 0"):
        KeyToDoor(apple_reward=0.0, apple_variance=1.0)


def test_an_action_outside_the_space_is_refused() -> None:
    env = KeyToDoor()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action is 7"):
        env.step(7)
