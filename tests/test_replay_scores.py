"""Scores of order against obvious implementations; sequences and places on made-up runs; comparison and GEE."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.analysis.agent_runs import AgentRun
from sabsim.analysis.compare import permutation_p, two_samples
from sabsim.analysis.folders import Run
from sabsim.analysis.nulls import column_rotation, random_walk, time_swap
from sabsim.analysis.peri_reward import peri_reward
from sabsim.analysis.places import experience, place_map
from sabsim.analysis.scores import line_fit, max_jump, sequenceness, weighted_correlation
from sabsim.analysis.sensitivity import gee_near_reward, gee_rate
from sabsim.analysis.sequences import TRIGGERS, events, sequences
from scipy import stats

from sabsim.errors import ConfigError, RunFolderError


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Scores


def test_weighted_correlation_is_that_of_repeated_points() -> None:
    count = generator().integers(0, 5, (7, 4))
    x, t = np.nonzero(count)
    points = np.repeat(np.stack([x, t], axis=1), count[x, t], axis=0)
    expected = np.corrcoef(points.T)[0, 1]
    assert weighted_correlation(count) == pytest.approx(expected)
    assert weighted_correlation(np.stack([count, 3.5 * count])) == pytest.approx([expected, expected])
    assert np.isnan(weighted_correlation(np.eye(4)[:, [1, 1, 1]]))


def test_line_fit_tries_every_line() -> None:
    p = generator(1).random((6, 5))
    best = 0.0
    for first, last in itertools.product(range(6), repeat=2):
        total = 0.0
        for time in range(5):
            at = round(first + (last - first) * time / 4)
            total += sum(p[place, time] for place in range(6) if abs(place - at) <= 1)
        best = max(best, total / 5)
    assert line_fit(p)[0] == pytest.approx(best)
    straight = np.zeros((9, 5))
    straight[[0, 2, 4, 6, 8], range(5)] = 1
    assert line_fit(np.stack([straight, straight[::-1]]), band=0) == (pytest.approx([1, 1]), pytest.approx([2, -2]))
    assert max_jump(straight) == pytest.approx(2 / 9)
    assert max_jump(np.eye(6)[:, [0, 1, 1, 4]]) == pytest.approx(3 / 6)


def test_sequenceness_equals_two_regressions() -> None:
    """And, run once outside the tests, TDLM-Python 0.5.1 to 1e-15 (docs/analysis.md)."""
    x, forward = generator(2).random((50, 4)), np.eye(4, k=1)
    found = np.array(sequenceness(x, forward, max_lag=3))
    design = np.stack([m.ravel() for m in (forward, forward.T, np.eye(4), np.ones((4, 4)))], axis=1)
    for lag in (1, 2, 3):
        before = np.vstack([np.zeros((lag, 4)), x[:-lag]])
        first = np.linalg.lstsq(np.column_stack([before, np.ones(50)]), x, rcond=None)[0][:-1]
        second = np.linalg.lstsq(design, first.ravel(), rcond=None)[0]
        assert found[:, lag - 1] == pytest.approx(second[:2])
    replayed = np.eye(4)[np.tile([0, 1, 2, 3], 10)]
    forwardness, backwardness = sequenceness(replayed, forward, max_lag=1)
    assert forwardness > backwardness + 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: weighted_correlation([1.0]), r"shape \(1,\)"),
        (lambda: line_fit(-np.eye(3)), "negative"),
        (lambda: line_fit(np.eye(3), band=-1), "band = -1"),
        (lambda: max_jump(np.ones((3, 1))), "1 times"),
        (lambda: sequenceness(np.ones((9, 3)), np.eye(2), max_lag=1), "states must be the same"),
        (lambda: sequenceness(np.ones((9, 2)), np.ones((2, 2)), max_lag=1), "as likely backwards"),
        (lambda: sequenceness(np.ones((9, 2)), np.eye(2, k=1), max_lag=9), "max_lag = 9"),
        (lambda: two_samples([1.0], [1.0, 2.0]), "at least 2"),
        (lambda: gee_rate([1, 2], [1, 1], [0, 1], seeds=[0, 0]), "1 seeds; at least 4"),
        (lambda: gee_rate([0, 0], [1, 1], [0, 1], seeds=[0, 1]), "not all 0"),
        (lambda: next(random_walk([[5]], [[5]], 1, generator())), "outside 0"),
    ],
)
def test_mistakes_are_told(call: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()  # type: ignore[operator]


# Nulls of order


def test_random_walks_stay_inside_and_keep_jumps() -> None:
    source = np.array([[0, 2, 4], [9, 8, 5]])
    room = np.array([[5, 5, 7], [10, 10, 10]])
    for walk in random_walk(source, room, 200, generator()):
        assert (walk[:, 0] == source[:, 0]).all()
        assert ((walk >= 0) & (walk < room)).all()
        assert set(np.abs(np.diff(walk[1])).tolist()) <= {0, 1, 2, 3}


def test_random_walks_go_either_way_and_are_turned_back_at_the_ends() -> None:
    (free,) = random_walk(np.tile([50, 60], (400, 1)), np.full((400, 2), 1000), 1, generator())
    assert set(free[:, 1].tolist()) == {40, 60}
    assert 0.4 < (free[:, 1] == 60).mean() < 0.6
    # A jump of 3 to the left of position 0 leads to position 3 as well.
    (walled,) = random_walk(np.tile([0, 3], (50, 1)), np.full((50, 2), 5), 1, generator())
    assert (walled[:, 1] == 3).all()


def test_shuffles_keep_what_they_say() -> None:
    p = generator(3).random((6, 4))
    (swapped,), (rotated,) = time_swap(p, 1, generator(1)), column_rotation(p, 1, generator(1))
    assert sorted(map(tuple, swapped.T)) == sorted(map(tuple, p.T))
    assert np.sort(rotated, axis=0) == pytest.approx(np.sort(p, axis=0))
    assert not np.array_equal(rotated, p)


# Runs made up: one trigger at the end of each window of 5, in episodes of 50 steps


def made_up(sources: np.ndarray, place: np.ndarray | None = None) -> AgentRun:
    """`sources` `(episodes, triggers)`: positions replayed at positions 9, 14, 19, ... of each episode."""
    episodes, triggers = sources.shape
    position, episode = np.tile(np.arange(50), episodes), np.repeat(np.arange(episodes), 50)
    at = np.tile(9 + 5 * np.arange(triggers), episodes)
    row = 50 * np.repeat(np.arange(episodes), triggers) + at
    zeros = np.zeros(len(position), int)
    steps = {"step": np.arange(len(position)), "stream": zeros, "episode": episode, "position": position}
    steps["place"] = np.tile(np.arange(50.0) if place is None else place, episodes)
    replays = {name: steps[name][row] for name in ("step", "stream", "episode", "position")}
    replays |= {"row": row, "lag": at - sources.ravel(), "source_step": row - at + sources.ravel(), "credit": row + 1.0}
    config = {"env": "made-up", "env_args": {}, "learner": {"window": 5, "credit": "sab"}, "run": {"seed": 0}}
    ended = {"length": np.full(episodes, 50)}
    return AgentRun(Run(Path("made-up"), config, {}), steps, replays, {}, ended, 0)


def test_direction_is_that_of_experience() -> None:
    found = sequences(made_up(np.tile(2 * np.arange(1, TRIGGERS + 1), (30, 1))), draws=99)
    assert (found.n, found.reverse) == (30, 0)
    assert found.correlation == pytest.approx(1)
    assert found.line_score > 0.9
    assert found.forwardness[0] > found.backwardness[0]
    with pytest.raises(RunFolderError, match="never changes"):
        sequences(made_up(np.full((4, 5), 3)))
    with pytest.raises(RunFolderError, match="5 consecutive triggers"):
        events(made_up(np.zeros((4, 3), int)))


def test_constant_lag_is_a_drift_and_no_direction() -> None:
    """Sources always 4 steps back go forward with the agent; lag-matched sources do as well."""
    found = sequences(made_up(np.tile(5 + 5 * np.arange(8), (40, 1))), draws=99)
    assert found.correlation == pytest.approx(found.drift) == pytest.approx(1)
    # Equal correlations are put in a random order: 2.5 % on either side.
    assert found.forward + found.reverse < 0.3


def test_backwards_through_experience_is_reverse() -> None:
    rng = generator(4)
    source = np.where(rng.random((60, 1)) < 0.7, np.array([8, 7, 5, 3, 1]), rng.integers(0, 9, (60, 5)))
    found = sequences(made_up(source), draws=99)
    assert found.reverse > 0.3 > 0.05 > found.forward
    assert found.correlation < found.drift


def test_places_by_hand() -> None:
    # Places 0, 0, 0, 1, 2, 2, then 3: at position 9 the places' visits are 3, 1, 2 and 3 (of place 3).
    place = np.concatenate([[0, 0, 0, 1, 2, 2], np.full(44, 3.0)])
    run = made_up(np.array([[1], [3]]), place)
    found = place_map(run)
    assert found.place.tolist() == [0, 1, 3]
    assert found.count.tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 0]]
    known = experience(run)
    # Place 0 shares the most visits with place 3: ranks 2 and 3 of 0 .. 3; place 1 has the fewest.
    assert known.visits == pytest.approx((2.5 / 3 + 0) / 2)
    assert known.recency == pytest.approx((0 + 1 / 3) / 2)
    # At the second trigger of an episode all steps before it count, the first trigger's own among them.
    place[9] = 9
    again = experience(made_up(np.array([[9, 9]]) - np.array([[8, 0]]), place))
    assert again.n == 2
    assert again.visits == pytest.approx((2.5 / 3 + 0.5 / 4) / 2)


def test_recency_of_lag_matched_sources_is_that_of_a_constant_lag() -> None:
    known = experience(made_up(np.tile(5 + 5 * np.arange(8), (4, 1))))
    assert known.recency_matched == pytest.approx(known.recency)


def test_rates_around_reward_and_around_comparable_steps_by_hand() -> None:
    """Position 20 is paid in one half of the episodes, and only there a trigger follows it two steps later."""
    run = made_up(np.zeros((4, 1), int))
    steps = run.steps
    steps["reward"] = np.where((steps["position"] == 20) & (steps["episode"] % 2 == 0), 1.0, 0.0)
    steps["replays"] = np.where((steps["position"] == 22) & (steps["episode"] % 2 == 0), 3, 0)
    steps["replays"][(steps["position"] == 19) & (steps["episode"] == 1)] = 1
    found = peri_reward(run, reach=5).matched
    assert found is not None
    assert found.marks == 2
    assert found.rate.tolist() == [0] * 7 + [3] + [0] * 3
    assert found.expected.tolist() == [0] * 4 + [0.5] + [0] * 6
    assert found.counts == (6, 22, 1, 22)
    assert found.near is not None
    assert found.near.estimate == pytest.approx(np.log(6))
    assert found.at is None


# Two sets, and counts


def test_two_samples_equal_all_permutations() -> None:
    first, second = np.array([1.0, 2.0, 4.0]), np.array([0.5, 1.5, 0.0, 3.0])
    pooled = np.concatenate([first, second])
    ways = [np.mean(pooled[list(part)]) - np.mean(np.delete(pooled, part)) for part in itertools.combinations(range(7), 3)]
    observed = first.mean() - second.mean()
    found = two_samples(first, second)
    upper = np.mean([way >= observed - 1e-12 for way in ways])
    assert found.p == pytest.approx(min(1, 2 * upper))
    assert found.low is not None
    assert found.low < found.estimate < found.high  # type: ignore[operator]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(185, 193), min_size=8, max_size=8))
def test_two_samples_count_ties_of_shares(counts: list[int]) -> None:
    """Shares of 200 cases tie often, and are added up in other orders; p is that of exact fractions."""
    pooled = [Fraction(count, 200) for count in counts]
    observed = sum(pooled[:4]) - sum(pooled[4:])
    chosen = itertools.combinations(range(8), 4)
    ways = [2 * sum(pooled[i] for i in part) - sum(pooled) for part in chosen]
    upper = sum(way >= observed for way in ways) / len(ways)
    lower = sum(way <= observed for way in ways) / len(ways)
    found = permutation_p(*(np.array([count / 200 for count in part]) for part in (counts[:4], counts[4:])))
    assert found == pytest.approx(min(1, 2 * min(lower, upper)))


def test_gee_estimates_the_log_ratio_and_its_error() -> None:
    """One row per seed and condition: the estimate is the ratio of sums, the error nearly that of a paired test."""
    rng = generator(5)
    base = rng.gamma(5, 20, 16)
    here, there = rng.poisson(1.5 * base * rng.lognormal(0, 0.5, 16)), rng.poisson(base)
    count, paid = np.concatenate([here, there]), np.repeat([1, 0], 16)
    found = gee_rate(count, np.full(32, 10.0), paid, seeds=np.tile(np.arange(16), 2))
    assert found.estimate == pytest.approx(np.log(here.sum() / there.sum()), abs=1e-6)
    paired = stats.ttest_1samp(np.log(here / there), 0)
    assert (found.high - found.low) / 2 == pytest.approx(  # type: ignore[operator]
        np.diff(paired.confidence_interval())[0] / 2, rel=0.35
    )


def test_interval_and_p_of_gee_are_of_one_distribution() -> None:
    rng = generator(5)
    paid = np.repeat([1, 0], 16)
    found = gee_rate(rng.poisson(100, 32) + 30 * paid, np.full(32, 10.0), paid, seeds=np.tile(np.arange(16), 2))
    error = found.estimate / stats.t.isf(found.p / 2, 15)
    assert found.high == pytest.approx(found.estimate + stats.t.ppf(0.975, 15) * error)
    assert found.low == pytest.approx(found.estimate - stats.t.ppf(0.975, 15) * error)


def test_gee_sets_paid_steps_against_comparable_ones_and_not_the_other_way_round() -> None:
    """Of six seeds: 20 .. 25 triggers in 10 steps near paid ones, 10 .. 15 of as many near comparable ones."""

    def summary(seed: int) -> Any:
        matched = SimpleNamespace(counts=(20 + seed, 10.0, 10 + seed, 10.0))
        return SimpleNamespace(run=SimpleNamespace(seed=seed), peri_reward=SimpleNamespace(matched=matched))

    found = gee_near_reward([summary(seed) for seed in range(6)])
    assert not isinstance(found, str)
    assert found.estimate == pytest.approx(np.log(135 / 75), abs=1e-6)
