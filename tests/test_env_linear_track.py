"""LinearTrack: what pays when, and what an analysis reads in ``info``."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.envs.linear_track import LEFT, RIGHT, STAY, LinearTrack


def session(**arguments: Any) -> tuple[list[float], list[dict[str, Any]], float, int]:
    """One session of the optimal policy: rewards and infos on arrival, the return, the number of steps."""
    env = LinearTrack(**arguments)
    env.reset(seed=0)
    rewards, infos, total, steps, over = [], [], 0.0, 0, False
    while not over:
        _, reward, terminated, over, info = env.step(env.optimal_action())
        assert not terminated
        total, steps = total + reward, steps + 1
        if info["arrived"]:
            rewards.append(reward)
            infos.append(info)
    return rewards, infos, total, steps


@pytest.mark.parametrize(("kind", "expected"), [("4x", 90.0), ("0x", 50.0), ("equal", 60.0)])
def test_the_optimal_return(kind: str, expected: float) -> None:
    _, _, total, steps = session(session=kind)
    assert (total, steps) == (expected, 540)


@pytest.mark.parametrize("kind", ["4x", "0x", "equal"])
@pytest.mark.parametrize("end", [0, 1])
def test_only_the_changed_end_in_the_second_epoch_pays_otherwise(kind: str, end: int) -> None:
    rewards, infos, _, _ = session(session=kind, changed_end=end, laps_per_epoch=7, reward=0.5)
    assert [i["laps"] for i in infos] == list(range(1, 22))
    assert [i["epoch"] for i in infos] == [0] * 7 + [1] * 7 + [2] * 7
    assert [i["phase"] for i in infos] == ["before"] * 7 + ["changed"] * 7 + ["after"] * 7
    for reward, info in zip(rewards, infos, strict=True):
        changed = info["epoch"] == 1 and info["end"] == end
        assert reward == info["reward_size"] == 0.5 * ({"4x": 4, "0x": 0, "equal": 1}[kind] if changed else 1)
    assert {i["changed_end"] for i in infos} == {end}
    ends = [i["end"] for i in infos]
    assert all(a != b for a, b in itertools.pairwise(ends))


def test_the_changed_end_is_drawn_once_a_session_and_both_are_drawn() -> None:
    env = LinearTrack(laps_per_epoch=2)
    drawn = []
    for seed in range(40):
        _, first = env.reset(seed=seed)
        drawn.append(first["changed_end"])
        over = False
        while not over:
            *_, over, info = env.step(env.optimal_action())
            assert info["changed_end"] == drawn[-1]
    assert 10 <= sum(drawn) <= 30


def test_a_well_pays_only_who_comes_from_the_other_end() -> None:
    env = LinearTrack(length=4)
    env.reset(seed=0)
    ahead, back = env.optimal_action(), {RIGHT: LEFT, LEFT: RIGHT}[env.optimal_action()]
    script = [STAY, back, ahead, back, ahead, ahead, ahead, STAY, ahead, back, ahead, back, back, back]
    results = [env.step(action) for action in script]
    assert [r[1] for r in results] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert [r[4]["laps"] for r in results] == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2]
    sign = 1 if ahead == RIGHT else -1
    assert [sign * r[4]["direction"] for r in results] == [0, 0, 1, -1, 1, 1, 1, 0, 0, -1, 1, -1, -1, -1]
    # The first lap left the first end last at step 4 (the return at step 3 was no arrival), the second at step 11.
    assert [r[4]["causal_step"] for r in results] == [-1] * 6 + [4] + [-1] * 6 + [11]


def test_the_observation_tells_place_and_reward_and_not_the_epoch() -> None:
    env = LinearTrack(length=5, laps_per_epoch=2, session="4x", changed_end=1, reward=2.0)
    observation, _ = env.reset(seed=0)
    over = False
    while not over:
        observation, reward, _, over, info = env.step(env.optimal_action())
        expected = np.zeros(8, dtype=np.float32)
        expected[info["position"]] = 1
        expected[5] = reward / 8
        expected[6], expected[7] = info["end"] == 0, info["end"] == 1
        np.testing.assert_array_equal(observation, expected)


def test_place_fields_of_some_width() -> None:
    env = LinearTrack(length=9, field_width=1.5)
    observation, info = env.reset(seed=0)
    apart = np.arange(9) - info["position"]
    np.testing.assert_allclose(observation[:9], np.exp(-((apart / 1.5) ** 2) / 2), rtol=1e-6)


def test_the_random_policy() -> None:
    """1.5 * 9 * 10 = 135 steps a lap in the mean, from the hitting time of a lazy random walk with a reflecting end."""
    generator = np.random.default_rng(0)
    env = LinearTrack(laps_per_epoch=1000)
    env.reset(seed=0)
    laps = 0
    for action in generator.integers(3, size=100_000):
        *_, over, info = env.step(action)
        laps = info["laps"]
        assert not over
    assert laps / 100 == pytest.approx(1000 / 135, rel=0.1)


def test_the_registered_limit_truncates() -> None:
    env = gym.make("sabsim/LinearTrack-v0", max_episode_steps=50)
    env.reset(seed=0)
    ends = [env.step(STAY)[2:4] for _ in range(50)]
    assert ends == [(False, False)] * 49 + [(False, True)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 1}, "length is 1; it must be an integer of at least 2"),
        ({"length": 2.5}, "length is 2.5; it must be an integer of at least 2"),
        ({"laps_per_epoch": 0}, "laps_per_epoch is 0; it must be an integer of at least 1"),
        ({"session": "2x"}, "session is '2x'; it must be '4x', '0x' or 'equal'"),
        ({"changed_end": 2}, "changed_end is 2; it must be 'random', 0 or 1"),
        ({"changed_end": True}, "changed_end is True; it must be 'random', 0 or 1"),
        ({"reward": -1.0}, "reward is -1.0; it must be a number of at least 0"),
        ({"reward": float("nan")}, "reward is nan; it must be a number of at least 0"),
        ({"field_width": float("inf")}, "field_width is inf; it must be a number of at least 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$".replace("(", r"\(").replace(")", r"\)")):
        LinearTrack(**arguments)


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(2, 12),
    laps=st.integers(1, 4),
    kind=st.sampled_from(["4x", "0x"]),
    end=st.sampled_from(["random", 0, 1]),
    width=st.sampled_from([0.0, 0.7, 3.0]),
    seed=st.integers(0, 1000),
)
def test_any_arguments(length: int, laps: int, kind: Any, end: Any, width: float, seed: int) -> None:
    env = LinearTrack(length=length, laps_per_epoch=laps, session=kind, changed_end=end, field_width=width)
    observation, info = env.reset(seed=seed)
    steps, total, over = 0, 0.0, False
    arrivals: list[tuple[int, int]] = []
    while not over:
        assert observation in env.observation_space
        observation, reward, _, over, info = env.step(env.optimal_action())
        steps, total = steps + 1, total + reward
        if info["arrived"]:
            arrivals.append((info["epoch"], info["end"]))
    assert steps == 3 * laps * (length - 1)
    factor = {"4x": 4, "0x": 0, "equal": 1}[kind]
    assert total == sum(factor if a == (1, info["changed_end"]) else 1 for a in arrivals)
