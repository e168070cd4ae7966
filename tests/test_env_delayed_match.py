"""DelayedMatch: the course of a trial, what is judged, and the returns that its docstring states."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sabsim.envs  # noqa: F401 (registers)
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.envs.delayed_match import MATCH, NON_MATCH, WAIT, DelayedMatch


def rollout(env: DelayedMatch, steps: int, seed: int, policy: str = "optimal") -> list[tuple[Any, ...]]:
    """(observation answered, info with it, reward, next info) of each step."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    rows = []
    for _ in range(steps):
        action = env.optimal_action() if policy == "optimal" else int(rng.integers(3))
        before, told = observation, info
        observation, reward, terminated, truncated, info = env.step(action)
        assert not terminated
        assert not truncated
        rows.append((before, told, action, reward, info))
    return rows


@given(
    stimuli=st.integers(2, 6),
    shortest=st.integers(0, 6),
    more=st.integers(0, 6),
    interval=st.integers(0, 4),
    distractors=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=50, deadline=None)
def test_the_course_of_the_trials(
    stimuli: int, shortest: int, more: int, interval: int, distractors: float, seed: int
) -> None:
    """Read from the observations alone, the trials are what ``info`` says, and the rule gives the rewards."""
    env = DelayedMatch(
        stimuli=stimuli,
        delay_min=shortest,
        delay_max=shortest + more,
        distractors=distractors,
        reward=2.0,
        penalty=0.5,
        interval=interval,
    )
    sample_at = shown = -1
    for step, (observation, told, action, reward, after) in enumerate(rollout(env, 150, seed, "random")):
        assert observation in env.observation_space
        stimulus, is_sample, is_test = observation[:stimuli], observation[stimuli], observation[stimuli + 1]
        assert {"sample": is_sample, "test": is_test}.get(told["phase"], 1 - is_sample - is_test) == 1
        if is_sample:
            sample_at, shown = step, int(stimulus.argmax())
            assert shown == told["sample"]
        if is_test:
            assert step - sample_at - 1 == told["delay"]
            assert shortest <= told["delay"] <= shortest + more
            match = int(stimulus.argmax()) == shown
            assert match == told["match"]
            right = action == (MATCH if match else NON_MATCH)
            assert reward == (0.0 if action == WAIT else 2.0 if right else -0.5)
            assert after["outcome"] == ("missed" if action == WAIT else "right" if right else "wrong")
            assert after["correct"] == int(right)
            assert after["causal_step"] == sample_at
        else:
            assert (reward, after["outcome"], after["correct"], after["causal_step"]) == (0.0, "none", -1, -1)
        if told["phase"] == "delay" and distractors in (0.0, 1.0):
            assert stimulus.sum() == distractors
        if told["phase"] == "interval":
            assert stimulus.sum() == 0


def test_trials_are_drawn_uniformly() -> None:
    env = DelayedMatch(stimuli=3, delay_min=1, delay_max=4, interval=0)
    tests = [(told, row) for row, told, *_ in rollout(env, 20_000, 1) if told["phase"] == "test"]
    for key, kinds in (("delay", 4), ("sample", 3), ("match", 2)):
        shares = np.array(list(Counter(told[key] for told, _ in tests).values())) / len(tests)
        assert len(shares) == kinds
        assert np.abs(shares - 1 / kinds).max() < 0.03
    others = Counter((told["sample"], int(row[:3].argmax())) for told, row in tests if not told["match"])
    assert len(others) == 6
    assert min(others.values()) > 0.7 * max(others.values())


@pytest.mark.parametrize("policy", ["optimal", "random"])
def test_returns_of_the_policies(policy: str) -> None:
    env = gym.make("sabsim/DelayedMatch-v0", disable_env_checker=True)
    rng = np.random.default_rng(0)
    returns = []
    for episode in range(60):
        env.reset(seed=3 if episode == 0 else None)
        total, truncated, steps = 0.0, False, 0
        while not truncated:
            action = env.unwrapped.optimal_action() if policy == "optimal" else int(rng.integers(3))  # type: ignore[attr-defined]
            _, reward, terminated, truncated, _ = env.step(action)
            assert not terminated
            total += float(reward)
            steps += 1
        assert steps == 1000
        returns.append(total)
    expected, spread = (47.3, 1.1) if policy == "optimal" else (0.0, 5.6)
    assert np.mean(returns) == pytest.approx(expected, abs=4 * spread / np.sqrt(60))
    assert np.std(returns) == pytest.approx(spread, rel=0.4)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("stimuli", 1), ("delay_min", -1), ("delay_max", 9), ("distractors", 1.5), ("reward", -1), ("penalty", "1"),
        ("interval", -1),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{argument} is {value!r}"):
        DelayedMatch(**{argument: value})  # type: ignore[arg-type]
