"""Exam: one choice, paid at once or `delay` steps later; everything else is chance."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.envs.exam import PLAY, STUDY, Exam


def rewards_of(env: Exam, choice: int, seed: int | None = None) -> list[tuple[float, dict[str, Any]]]:
    """(reward, info) of every step of an episode in which ``choice`` is made at every step."""
    env.reset(seed=seed)
    steps, over = [], False
    while not over:
        _, reward, over, truncated, info = env.step(choice)
        assert not truncated
        steps.append((reward, info))
    return steps


@pytest.mark.parametrize(("delay", "lead"), [(2, 0), (50, 0), (7, 3)])
def test_when_the_choice_is_paid(delay: int, lead: int) -> None:
    env = Exam(delay=delay, lead=lead, distraction_rate=0.0)
    for choice, name, paid in ((STUDY, "study", lead + delay), (PLAY, "play", lead + 1)):
        steps = rewards_of(env, choice)
        assert len(steps) == lead + delay
        (at,) = [t for t, (reward, _) in enumerate(steps, 1) if reward]
        assert at == paid
        assert steps[-1][1]["choice"] == name
        assert steps[-1][1]["passed"] == float(choice == STUDY)
        causes = {t: info["causal_step"] for t, (_, info) in enumerate(steps, 1) if info["causal_step"] >= 0}
        assert causes == {paid: lead, lead + delay: lead}


def test_only_the_choice_at_the_decision_counts() -> None:
    env = Exam(delay=6, lead=2, distraction_rate=0.0)
    env.reset(seed=0)
    total = sum(env.step(action)[1] for action in [PLAY, PLAY, STUDY, PLAY, PLAY, PLAY, PLAY, PLAY])
    assert total == 1.0


def test_distractions_are_the_same_whatever_was_chosen() -> None:
    """The two choices with the same seed differ in the play reward and the result only, in observations not before it."""
    for seed in range(5):
        env, traces = Exam(), []
        for choice in (STUDY, PLAY):
            observations = [env.reset(seed=seed)[0]]
            rewards = []
            for _ in range(50):
                observation, reward, *_ = env.step(choice)
                observations.append(observation)
                rewards.append(reward)
            traces.append((np.array(observations), np.array(rewards)))
        (seen, studied), (seen_too, played) = traces
        np.testing.assert_array_equal(seen[:-1], seen_too[:-1])
        np.testing.assert_allclose(played - studied, [0.1] + [0.0] * 48 + [-1.0], atol=1e-12)
        assert np.count_nonzero(studied[:-1]) > 5


def test_the_stated_returns() -> None:
    env, episodes, generator = Exam(), 600, np.random.default_rng(0)
    error = 4 * np.sqrt(49 * (0.3 * (0.05**2 + 0.02**2) - 0.015**2) / episodes)
    for choice, expected in ((STUDY, 1.735), (PLAY, 0.835)):
        got = [sum(r for r, _ in rewards_of(env, choice, k)) for k in range(episodes)]
        assert np.mean(got) == pytest.approx(expected, abs=error)
    assert env.optimal_action() == STUDY
    got = [sum(r for r, _ in rewards_of(env, int(generator.integers(2)), k)) for k in range(episodes)]
    assert np.mean(got) == pytest.approx(1.285, abs=error + 4 * 0.45 / np.sqrt(episodes))


def test_phases_and_observations() -> None:
    env = Exam(delay=4, lead=2, distraction_rate=0.0)
    observation, info = env.reset(seed=0)
    seen = [(info["phase"], observation.tolist())]
    for _ in range(6):
        observation, _, over, _, info = env.step(STUDY)
        seen.append((info["phase"], observation.tolist()))
    waiting, deciding, marking, result = [0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]
    before, after = ("before", waiting), ("waiting", waiting)
    assert seen == [before, before, ("decision", deciding), after, after, ("exam", marking), ("exam", result)]
    assert over


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"delay": 1}, "delay is 1; it must be an integer of at least 2"),
        ({"lead": -1}, "lead is -1; it must be an integer of at least 0"),
        ({"play_reward": 1.0}, "play_reward is 1.0; it must be less than exam_reward, 1.0"),
        ({"exam_reward": "big"}, "exam_reward is 'big'; it must be a number of at least 0"),
        ({"noise": -0.1}, "noise is -0.1; it must be a number of at least 0"),
        ({"distraction": -0.1}, "distraction is -0.1; it must be a number of at least 0"),
        ({"distraction_rate": 1.5}, "distraction_rate is 1.5; it must be a number from 0 to 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Exam(**arguments)


@settings(max_examples=40, deadline=None)
@given(
    delay=st.integers(2, 30),
    lead=st.integers(0, 5),
    rate=st.floats(0, 1),
    noise=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 1000),
)
def test_studying_beats_playing_by_the_difference(delay: int, lead: int, rate: float, noise: float, seed: int) -> None:
    env = Exam(delay=delay, lead=lead, distraction_rate=rate, noise=noise, exam_reward=2.0, play_reward=0.5)
    studied, played = (sum(r for r, _ in rewards_of(env, choice, seed)) for choice in (STUDY, PLAY))
    assert studied - played == pytest.approx(1.5)
