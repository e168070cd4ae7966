"""Alternation: walls, door, rule, and the returns that its docstring states."""

from __future__ import annotations

from typing import Literal

import gymnasium as gym
import numpy as np
import pytest
import sabsim.envs  # noqa: F401 (registers)
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.envs.alternation import DOWN, LEFT, RIGHT, UP, Alternation

Maze = Literal["T", "W"]


def walk(env: Alternation, moves: str) -> list[float]:
    """Rewards of the moves, written as U, R, D and L."""
    return [env.step("URDL".index(move))[1] for move in moves]


def test_a_session_on_the_t_maze() -> None:
    env = Alternation(stem=2, arm=1, delay=0)
    env.reset(seed=0)
    assert walk(env, "UUL") == [0, 0, 1]  # the first visit is paid
    assert walk(env, "RRLL") == [0, 0, 0, 0]  # neither side pays before the rat has been home
    assert walk(env, "RDDUUL") == [0] * 6  # the side visited last
    assert walk(env, "RDDUUR") == [0, 0, 0, 0, 0, 1]
    assert env.step(RIGHT)[4]["visits"] == 3


def test_a_session_on_the_w_maze() -> None:
    env = Alternation(maze="W", stem=1, arm=2, delay=0)
    env.reset(seed=0)
    assert walk(env, "ULLD") == [0, 0, 0, 1]
    assert walk(env, "URRD") == [0, 0, 0, 1]  # home is a well too
    assert walk(env, "ULLD") == [0, 0, 0, 0]  # an outbound error
    assert walk(env, "URRRRD") == [0] * 6  # an inbound error: to the other side instead of home
    assert env.step(DOWN)[4]["last_side"] == "right"
    assert walk(env, "ULLD") == [0, 0, 0, 1]
    assert walk(env, "ULLD") == [0, 0, 0, 1]


def test_an_inbound_error_is_told_with_the_visit_that_decides_it() -> None:
    env = Alternation(maze="W", stem=1, arm=2, delay=0)
    env.reset(seed=0)
    walk(env, "ULLD")  # the left well, at step 4
    walk(env, "URRRR")  # past the way home
    info = env.step(DOWN)[4]
    assert (info["correct"], info["causal_step"]) == (0, 4)


def test_the_door_holds_the_rat_for_the_delay() -> None:
    env = Alternation(stem=1, arm=1, delay=3)
    env.reset(seed=0)
    walk(env, "ULR")
    observation, _, _, _, info = env.step(DOWN)
    held = 0
    while info["phase"] == "delay":
        assert observation[-2] == 1
        observation, _, _, _, info = env.step(UP)
        assert info["arm"] == "home"
        held += 1
    assert held == 3
    assert observation[-2] == 0
    assert env.step(UP)[4]["arm"] == "stem"


@given(
    maze=st.sampled_from(["T", "W"]),
    stem=st.integers(1, 5),
    arm=st.integers(2, 4),
    delay=st.integers(0, 5),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_random_walks_keep_the_rules(maze: Maze, stem: int, arm: int, delay: int, seed: int) -> None:
    """Rewards and causal steps recomputed from the positions alone."""
    env = Alternation(maze=maze, stem=stem, arm=arm, delay=delay, reward=0.5)
    observation, info = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    ready, last, last_at, here = True, 0, -1, (0, 0)
    foot = 0 if maze == "W" else stem
    for step in range(1, 400):
        action = env.optimal_action() if rng.random() < 0.7 else int(rng.integers(4))
        observation, reward, _, _, info = env.step(action)
        assert observation in env.observation_space
        assert observation[:-2].argmax() == info["position"]
        assert observation[-1] == (reward > 0)
        there = (info["x"], info["y"])
        assert abs(there[0] - here[0]) + abs(there[1] - here[1]) <= 1
        expected, cause = 0.0, -1
        if there != here and there[1] == foot and abs(there[0]) == arm:
            if ready:
                expected, cause = (0.5 if there[0] != last else 0.0), last_at
            ready, last, last_at = False, there[0], step
        elif there == (0, 0) and not ready:
            ready = True
            if maze == "W":
                expected, cause = 0.5, last_at
        assert reward == expected
        if reward:
            assert info["causal_step"] == cause
        here = there


@pytest.mark.parametrize(("maze", "expected"), [("T", 42.0), ("W", 62.0)])
def test_the_optimal_return(maze: Maze, expected: float) -> None:
    env = gym.make("sabsim/Alternation-v0", disable_env_checker=True, maze=maze)
    env.reset(seed=0)
    total, truncated, steps = 0.0, False, 0
    while not truncated:
        _, reward, terminated, truncated, _ = env.step(env.unwrapped.optimal_action())  # type: ignore[attr-defined]
        assert not terminated
        total += float(reward)
        steps += 1
    assert (total, steps) == (expected, 1000)


@pytest.mark.parametrize(("maze", "expected", "spread"), [("T", 2.7, 1.0), ("W", 3.0, 1.35)])
def test_the_random_return(maze: Maze, expected: float, spread: float) -> None:
    env = Alternation(maze=maze)
    rng = np.random.default_rng(0)
    returns = []
    for _ in range(100):
        env.reset(seed=0)
        returns.append(sum(env.step(action)[1] for action in rng.integers(4, size=1000).tolist()))
    assert np.mean(returns) == pytest.approx(expected, abs=4 * spread / np.sqrt(100))


@pytest.mark.parametrize(
    ("argument", "value"), [("maze", "Y"), ("stem", 0), ("arm", 0), ("delay", -1), ("reward", -0.5), ("render_mode", 3)]
)
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{argument} is {value!r}"):
        Alternation(**{argument: value})  # type: ignore[arg-type]


def test_an_action_outside_the_space_is_refused() -> None:
    env = Alternation()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action is 4"):
        env.step(4)
    assert env.step(LEFT)[4]["position"] == 0
