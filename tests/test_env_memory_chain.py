"""MemoryChain: what is shown when, what is judged, and the returns that its docstring states."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.envs.memory_chain import MemoryChain


def test_the_context_is_shown_once_and_the_question_last() -> None:
    env = MemoryChain(memory_length=5, num_bits=3)
    observation, info = env.reset(seed=1)
    seen, phases, rewards = [observation], [info["phase"]], []
    for _ in range(5):
        observation, reward, terminated, truncated, info = env.step(0)
        seen.append(observation)
        phases.append(info["phase"])
        rewards.append(reward)
        assert not truncated
        assert info["causal_step"] == (0 if terminated else -1)
    assert terminated
    assert phases == ["context", "wait", "wait", "wait", "question", "end"]
    assert np.abs(seen[0][2:]).tolist() == [1, 1, 1]
    assert not np.any([s[2:] for s in seen[1:]])
    np.testing.assert_allclose([s[0] for s in seen], np.linspace(1, 0, 6), rtol=1e-6)
    assert seen[4][1] == info["query"]
    assert rewards[:4] == [0.0] * 4
    assert rewards[4] in (-1.0, 1.0)


@given(memory_length=st.integers(1, 40), num_bits=st.integers(1, 8), seed=st.integers(0, 2**31), right=st.booleans())
@settings(max_examples=60, deadline=None)
def test_only_the_last_action_counts(memory_length: int, num_bits: int, seed: int, right: bool) -> None:
    env = MemoryChain(memory_length=memory_length, num_bits=num_bits)
    observation, info = env.reset(seed=seed)
    shown = int(observation[2 + info["query"]] > 0)
    assert shown == info["context"]
    rng = np.random.default_rng(seed)
    for _ in range(memory_length - 1):
        _, reward, terminated, _, info = env.step(int(rng.integers(2)))
        assert (reward, terminated, info["correct"]) == (0.0, False, -1)
    answer = env.optimal_action() if right else 1 - env.optimal_action()
    observation, reward, terminated, _, info = env.step(answer)
    assert observation in env.observation_space
    assert (reward, terminated, info["correct"]) == ((1.0, True, 1) if right else (-1.0, True, 0))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)


def test_returns_of_the_policies() -> None:
    env = MemoryChain(memory_length=3)
    rng = np.random.default_rng(0)
    returns: dict[bool, list[float]] = {True: [], False: []}
    for optimal, episodes in ((True, 200), (False, 4000)):
        for episode in range(episodes):
            env.reset(seed=0 if episode == 0 else None)
            terminated = False
            while not terminated:
                _, reward, terminated, _, _ = env.step(env.optimal_action() if optimal else int(rng.integers(2)))
            returns[optimal].append(reward)
    assert set(returns[True]) == {1.0}
    assert abs(np.mean(returns[False])) < 4 / np.sqrt(4000)


def test_contexts_and_questions_are_uniform() -> None:
    env = MemoryChain(memory_length=1, num_bits=4)
    infos = [env.reset(seed=5 if i == 0 else None)[1] for i in range(2000)]
    assert abs(np.mean([i["context"] for i in infos]) - 0.5) < 0.05
    assert np.abs(np.bincount([i["query"] for i in infos], minlength=4) / 2000 - 0.25).max() < 0.04


@pytest.mark.parametrize(
    ("argument", "value"), [("memory_length", 0), ("memory_length", 2.0), ("num_bits", True), ("render_mode", 3)]
)
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{argument} is {value!r}"):
        MemoryChain(**{argument: value})  # type: ignore[arg-type]
