"""TMaze: the two lengths are what the arguments say, and returns are what the docstring says."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.envs.t_maze import BACK, CUE_DOWN, CUE_UP, DOWN, FORWARD, JUNCTION, ORACLE, START, UP, TMaze

Episode = list[tuple[np.ndarray, int, float, bool, dict[str, Any]]]


def episode(env: TMaze, actions: Any, seed: int | None = None) -> Episode:
    """(observation before, action, reward, terminated, info after) of every step; ``actions``: a function of the env."""
    observation, _ = env.reset(seed=seed)
    steps: Episode = []
    over = False
    while not over:
        action = actions(env)
        after, reward, over, truncated, info = env.step(action)
        assert not truncated
        steps.append((observation, action, reward, over, info))
        observation = after
    return steps


@pytest.mark.parametrize("walk", [False, True])
@pytest.mark.parametrize(("memory", "credit"), [(1, 1), (5, 1), (1, 7), (20, 1), (12, 30)])
def test_the_lengths_of_the_passive_maze(memory: int, credit: int, walk: bool) -> None:
    env = TMaze(memory_length=memory, credit_length=credit, walk=walk)
    for seed in range(6):
        steps = episode(env, TMaze.optimal_action, seed)
        cues = [t for t, s in enumerate(steps) if s[0][CUE_UP] or s[0][CUE_DOWN]]
        turns = [t for t, s in enumerate(steps) if s[0][JUNCTION]]
        assert cues == [0]
        assert turns == [memory]
        assert steps[memory][1] in (UP, DOWN)
        paid = [t + 1 for t, s in enumerate(steps) if s[2]]  # a reward comes with the observation after the action
        assert paid == [memory + credit]
        assert len(steps) == env.horizon == memory + credit
        assert steps[-1][4]["causal_step"] == steps[-1][4]["turn_step"] == memory
        assert steps[-1][4]["success"] == 1.0


@pytest.mark.parametrize("walk", [False, True])
@pytest.mark.parametrize(("memory", "credit"), [(2, 4), (5, 7), (5, 30), (48, 50), (10, 100)])
def test_the_lengths_of_the_active_maze(memory: int, credit: int, walk: bool) -> None:
    env = TMaze(active=True, memory_length=memory, credit_length=credit, walk=walk)
    for seed in range(6):
        steps = episode(env, TMaze.optimal_action, seed)
        assert steps[0][1] == BACK
        cues = [t for t, s in enumerate(steps) if s[0][CUE_UP] or s[0][CUE_DOWN]]
        (turn,) = [t for t, s in enumerate(steps) if s[0][JUNCTION]]
        assert cues == [1]
        assert turn - cues[0] == memory
        paid = [t + 1 for t, s in enumerate(steps) if s[2]]
        assert paid == [credit], "the decisive action is that of step 0"
        assert len(steps) == env.horizon == credit
        assert steps[-1][4]["causal_step"] == 0
        assert steps[-1][4]["cue_step"] == 1


def test_whoever_passes_the_oracle_by_is_not_told() -> None:
    env = TMaze(active=True, memory_length=6, credit_length=12)
    rewards = []
    for seed in range(200):
        steps = episode(env, lambda e: UP if e.position == 6 else FORWARD, seed)
        assert not any(s[0][CUE_UP] or s[0][CUE_DOWN] for s in steps)
        assert steps[-1][4]["cue_step"] == steps[-1][4]["causal_step"] == -1
        rewards.append(sum(s[2] for s in steps))
    assert 0.4 < np.mean(rewards) < 0.6


@pytest.mark.parametrize("active", [False, True])
def test_the_lengths_hold_for_every_policy_unless_it_walks(active: bool) -> None:
    env = TMaze(active=active, memory_length=9, credit_length=14)
    generator = np.random.default_rng(0)
    for seed in range(100):
        steps = episode(env, lambda e: int(generator.integers(4)), seed)
        info = steps[-1][4]
        if info["cue_step"] >= 0 and steps[-1][2]:
            assert info["turn_step"] - info["cue_step"] == 9
        if steps[-1][2]:
            went = info["causal_step"]
            assert went == (-1 if active and info["cue_step"] < 0 else 0 if active else info["turn_step"])
            assert went < 0 or len(steps) - went == 14


@pytest.mark.parametrize(("active", "expected"), [(False, 0.25), (True, 0.390625)])
def test_the_stated_returns(active: bool, expected: float) -> None:
    env, generator, episodes = TMaze(active=active), np.random.default_rng(0), 3000
    assert all(sum(s[2] for s in episode(env, TMaze.optimal_action, k)) == 1.0 for k in range(20))
    got = [sum(s[2] for s in episode(env, lambda e: int(generator.integers(4)), k)) for k in range(episodes)]
    assert np.mean(got) == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / episodes))


def test_walking_takes_the_steps_it_takes() -> None:
    env = TMaze(memory_length=3, credit_length=2, walk=True, slack=4)
    env.reset(seed=0)
    script = [UP, FORWARD, BACK, FORWARD, FORWARD, FORWARD, FORWARD, UP, DOWN]
    steps = [env.step(action) for action in script]
    assert [s[4]["position"] for s in steps] == [0, 1, 0, 1, 2, 3, 3, 4, 4]
    assert [s[2] for s in steps] == [False] * 8 + [True], "the deadline is at 3 + 2 + 4 steps"
    assert steps[2][0][ORACLE] == steps[2][0][START] == 1
    assert not steps[2][0][CUE_UP]
    assert not steps[2][0][CUE_DOWN], "the cue is shown once"
    assert steps[-1][4]["success"] == 0.0


@pytest.mark.parametrize("slack", [0, 3])
def test_the_penalty_of_the_paper(slack: int) -> None:
    """Arms of one step, horizon T = memory + 1: a step that leaves the animal behind costs 1 / (T - 1), slack or not."""
    env = TMaze(memory_length=4, walk=True, penalty=1.0, slack=slack)
    env.reset(seed=0)
    rewards = [env.step(action)[1] for action in [FORWARD, FORWARD, BACK, FORWARD, FORWARD]]
    assert rewards == [0, 0, -0.25, -0.25, -0.25]
    env = TMaze(active=True, memory_length=4, walk=True, penalty=1.0, slack=slack)
    env.reset(seed=0)
    rewards = [env.step(action)[1] for action in [BACK, FORWARD, FORWARD, FORWARD, FORWARD, env.goal and UP]]
    assert rewards[:5] == [0] * 5, "going to the oracle costs nothing"


def test_both_goals_come_and_the_cue_tells_which() -> None:
    env = TMaze(memory_length=2)
    shown = []
    for seed in range(60):
        observation, info = env.reset(seed=seed)
        assert observation[CUE_UP] + observation[CUE_DOWN] == 1
        assert bool(observation[CUE_UP]) == (info["goal"] == "up")
        shown.append(bool(observation[CUE_UP]))
    assert 15 < sum(shown) < 45


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory_length": 0}, "memory_length is 0; it must be an integer of at least 1"),
        ({"memory_length": 1, "active": True}, "memory_length is 1; it must be an integer of at least 2"),
        ({"credit_length": 0}, "credit_length is 0; it must be an integer of at least 1"),
        (
            {"memory_length": 10, "credit_length": 11, "active": True},
            "credit_length is 11; it must be an integer of at least 12",
        ),
        ({"active": 1}, "active is 1; it must be True or False"),
        ({"walk": "no"}, "walk is 'no'; it must be True or False"),
        ({"slack": -1}, "slack is -1; it must be an integer of at least 0"),
        ({"reward": -0.5}, "reward is -0.5; it must be a number of at least 0"),
        ({"penalty": float("inf")}, "penalty is inf; it must be a number of at least 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TMaze(**arguments)


@settings(max_examples=60, deadline=None)
@given(
    memory=st.integers(2, 15),
    extra=st.integers(0, 12),
    active=st.booleans(),
    walk=st.booleans(),
    slack=st.integers(0, 5),
    penalty=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 1000),
)
def test_any_arguments(memory: int, extra: int, active: bool, walk: bool, slack: int, penalty: float, seed: int) -> None:
    credit = extra + (memory + 2 if active else 1)
    env = TMaze(
        memory_length=memory, credit_length=credit, active=active, walk=walk, slack=slack, penalty=penalty, reward=2.0
    )
    steps = episode(env, TMaze.optimal_action, seed)
    assert sum(s[2] for s in steps) == 2.0
    assert len(steps) - steps[-1][4]["causal_step"] == credit
    generator = np.random.default_rng(seed)
    steps = episode(env, lambda e: int(generator.integers(4)))
    assert len(steps) <= env.horizon + slack
    assert all(s[0] in env.observation_space for s in steps)
    # Rounding: a sum of many equal penalties against their product.
    assert sum(s[2] for s in steps) >= -penalty * (env.horizon + slack) / (env.horizon - 1) - 1e-9
