"""UmbrellaChain: forecast, umbrella, noise, and the returns that its docstring states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.envs.umbrella_chain import UmbrellaChain


@given(
    length=st.integers(1, 30),
    distractors=st.integers(0, 12),
    noise=st.sampled_from([0.0, 0.5, 1.0]),
    first=st.integers(0, 1),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_the_first_action_decides_the_last_reward(
    length: int, distractors: int, noise: float, first: int, seed: int
) -> None:
    env = UmbrellaChain(chain_length=length, n_distractor=distractors, noise=noise)
    observation, info = env.reset(seed=seed)
    need = info["need"]
    for step in range(1, length + 1):
        assert observation in env.observation_space
        assert observation[0] == need
        assert set(observation[3:].tolist()) <= {0.0, 1.0}
        observation, reward, terminated, truncated, info = env.step(first if step == 1 else (step + first) % 2)
        assert observation[1] == info["has"] == first
        assert observation[2] == pytest.approx(1 - step / length)
        assert not truncated
        assert terminated == (step == length)
        assert info["causal_step"] == (0 if terminated else -1)
        assert abs(reward) == (1.0 if terminated else noise)
    assert reward == (1.0 if first == need else -1.0)
    assert info["correct"] == int(first == need)


def test_returns_of_the_policies() -> None:
    env = UmbrellaChain()
    rng = np.random.default_rng(0)
    for optimal, expected in ((True, 1.0), (False, 0.0)):
        returns = []
        for number in range(1500):
            env.reset(seed=1 if number == 0 else None)
            total, terminated = 0.0, False
            while not terminated:
                _, reward, terminated, _, _ = env.step(env.optimal_action() if optimal else int(rng.integers(2)))
                total += reward
            returns.append(total)
        assert np.mean(returns) == pytest.approx(expected, abs=4 * 4.5 / np.sqrt(1500))
        assert np.std(returns) == pytest.approx(np.sqrt(19 + (0 if optimal else 1)), rel=0.08)


def test_forecast_umbrella_and_distractors_are_independent_and_uniform() -> None:
    env = UmbrellaChain(n_distractor=6)
    seen = np.array([env.reset(seed=2 if i == 0 else None)[0] for i in range(3000)])[:, [0, 1, 3, 4, 5, 6, 7, 8]]
    assert np.abs(seen.mean(axis=0) - 0.5).max() < 0.04
    assert np.abs(np.corrcoef(seen.T) - np.eye(8)).max() < 0.08


@pytest.mark.parametrize(
    ("argument", "value"),
    [("chain_length", 0), ("n_distractor", -1), ("noise", -0.1), ("noise", float("nan")), ("render_mode", 3)],
)
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{argument} is {value!r}"):
        UmbrellaChain(**{argument: value})  # type: ignore[arg-type]
