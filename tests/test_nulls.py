"""Null models: whatever the events, sources stay in their episode and what is to be kept is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sabsim.analysis.nulls import lag_matched, permuted_labels, uniform_past, uniform_share

from sabsim.errors import ConfigError

SEEDS = st.integers(0, 2**32 - 1)
EVENTS = st.lists(st.integers(1, 40).flatmap(lambda room: st.tuples(st.integers(1, room), st.just(room))), min_size=1)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(EVENTS, SEEDS)
def test_sources_lie_in_the_past_of_their_episode(events: list[tuple[int, int]], seed: int) -> None:
    lag, room = np.array(events).T
    for null in (lag_matched(lag, room, 5, generator(seed)), uniform_past(room, 5, generator(seed))):
        drawn = np.array(list(null))
        assert drawn.shape == (5, len(lag))
        assert (drawn >= 1).all()
        assert (drawn <= room).all()


@given(EVENTS, SEEDS)
def test_matched_lags_come_from_events_with_as_much_room(events: list[tuple[int, int]], seed: int) -> None:
    lag, room = np.array(events).T
    (drawn,) = lag_matched(lag, room, 1, generator(seed))
    for here, found in zip(room, drawn, strict=True):
        assert found in lag[room >= here]


@given(st.lists(st.tuples(st.booleans(), st.integers(-2, 2)), min_size=1), SEEDS)
def test_labels_are_only_permuted_within_strata(events: list[tuple[bool, int]], seed: int) -> None:
    labels, strata = np.array([e[0] for e in events]), np.array([e[1] for e in events])
    for permuted in permuted_labels(labels, strata, 3, generator(seed)):
        for stratum in np.unique(strata):
            assert permuted[strata == stratum].sum() == labels[strata == stratum].sum()


def test_lag_distribution_is_kept_where_all_have_the_same_room() -> None:
    lag = np.repeat([1, 5, 30], [600, 300, 100])
    drawn = np.array(list(lag_matched(lag, np.full(1000, 30), 200, generator(0))))
    shares = [(drawn == value).mean() for value in (1, 5, 30)]
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=0.005)


def test_large_pools_are_thinned_without_a_bias() -> None:
    lag = generator(1).geometric(0.05, 20_000)
    lag = lag[lag <= 200]
    (drawn,) = lag_matched(lag, np.full(len(lag), 200), 1, generator(2))
    assert np.quantile(drawn, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(lag, [0.1, 0.5, 0.9]), abs=1)
    assert drawn.mean() == pytest.approx(lag.mean(), rel=0.03)


def test_all_permutations_of_labels_are_alike() -> None:
    labels = np.array([True, False, False, True])
    drawn = np.array(list(permuted_labels(labels, np.array([0, 0, 0, 1]), 6000, generator(3))))
    assert drawn.mean(axis=0) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1], abs=0.03)


@given(st.lists(st.integers(1, 50), min_size=1), SEEDS)
def test_uniform_share_is_exact(room: list[int], seed: int) -> None:
    edges = np.array([1, 2, 4, 8, 64])
    counted = np.mean([np.histogram(np.arange(1, here + 1), edges)[0] / here for here in room], axis=0)
    assert uniform_share(room, edges) == pytest.approx(counted)
    assert uniform_share(room, edges).sum() == pytest.approx(1)


def test_same_seed_same_draws() -> None:
    lag, room = np.array([1, 2, 3, 4]), np.array([4, 4, 9, 9])
    first, again = (list(lag_matched(lag, room, 3, generator(7))) for _ in range(2))
    assert np.array_equal(first, again)


def test_impossible_events_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"lag\[1\] = 5: must be between 1 and room\[1\] = 4"):
        next(lag_matched([1, 5], [4, 4], 1, generator(0)))
    with pytest.raises(ConfigError, match="with events"):
        next(uniform_past([], 1, generator(0)))
    with pytest.raises(ConfigError, match="with events"):
        next(permuted_labels([], [], 1, generator(0)))
