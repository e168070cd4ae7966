"""Which triggers make an event, when it counts as ordered, and which events are comparable, on made-up runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sabsim.analysis.agent_runs import AgentRun
from sabsim.analysis.contrasts import strata_of
from sabsim.analysis.folders import Run
from sabsim.analysis.sequences import events, sequences

from sabsim.errors import RunFolderError


def made_up(sources: np.ndarray) -> AgentRun:
    """`sources` `(episodes, triggers)`: positions replayed at positions 9, 14, 19, ... of each episode of 50 steps.

    A window has 5 steps, and each step of an episode a place of its own.
    """
    episodes, triggers = sources.shape
    position, episode = np.tile(np.arange(50), episodes), np.repeat(np.arange(episodes), 50)
    at = np.tile(9 + 5 * np.arange(triggers), episodes)
    row = 50 * np.repeat(np.arange(episodes), triggers) + at
    steps = {"step": np.arange(len(position)), "stream": np.zeros(len(position), int), "episode": episode}
    steps |= {"position": position, "place": position.astype(float)}
    replays = {name: steps[name][row] for name in ("step", "stream", "episode", "position")}
    replays |= {"row": row, "lag": at - sources.ravel(), "source_step": row - at + sources.ravel(), "credit": row + 1.0}
    config = {"env": "made-up", "env_args": {}, "learner": {"window": 5, "credit": "sab"}, "run": {"seed": 0}}
    return AgentRun(Run(Path("made-up"), config, {}), steps, replays, {}, {"length": np.full(episodes, 50)}, 0)


# Events


def test_triggers_with_a_gap_between_them_are_not_consecutive() -> None:
    run = made_up(np.tile(np.arange(1, 8), (4, 1)))
    assert events(run).position.tolist() == [[9, 14, 19, 24, 29]] * 4
    # 9 and 14 are left, and three windows later 29, 34 and 39.
    kept = ~np.isin(run.replays["position"], [19, 24])
    run.replays.update({name: column[kept] for name, column in run.replays.items()})
    with pytest.raises(RunFolderError, match="5 consecutive triggers"):
        events(run)


def test_the_source_of_a_trigger_is_that_of_greatest_credit() -> None:
    run = made_up(np.tile(np.arange(1, 6), (4, 1)))
    # Each trigger replays the step after as well, for less credit.
    more = {**run.replays, "lag": run.replays["lag"] - 1, "credit": run.replays["credit"] - 0.5}
    run.replays.update({name: np.concatenate([column, more[name]]) for name, column in run.replays.items()})
    assert events(run).source.tolist() == [[1, 2, 3, 4, 5]] * 4


# Order


def test_of_events_like_their_null_one_in_twenty_is_ordered() -> None:
    """A constant lag is its own null: 2.5 % are forward by chance, and 2.5 % reverse."""
    found = sequences(made_up(np.tile(5 + 5 * np.arange(5), (400, 1))), draws=99)
    assert 0.02 < found.forward + found.reverse < 0.08
    assert found.unordered == pytest.approx(1 - found.forward - found.reverse)


def test_sequenceness_of_a_constant_lag_is_that_of_its_null() -> None:
    found = sequences(made_up(np.tile(5 + 5 * np.arange(8), (40, 1))), draws=99)
    assert np.abs(found.matched_difference).max() > 0.01
    assert found.matched_difference == pytest.approx(found.forwardness - found.backwardness)


def test_straight_ways_back_are_beyond_random_walks() -> None:
    """Seven events of ten go straight back, among others that jump at random."""
    rng = np.random.default_rng(4)
    source = np.where(rng.random((60, 1)) < 0.7, np.array([8, 7, 5, 3, 1]), rng.integers(0, 9, (60, 5)))
    assert sequences(made_up(source), draws=99).beyond_walk > 0.3


# Comparable events


def test_comparable_events_share_place_and_part_of_the_window() -> None:
    run = made_up(np.zeros((4, 1), int))
    step, position, row = np.array([[10, 10, 10], [15, 10, 10], [11, 10, 10], [10, 10, 11], [10, 11, 10]]).T
    first, again, later, elsewhere, further = strata_of(run, step, position, row).tolist()
    assert first == again
    assert len({tuple(stratum) for stratum in (first, later, elsewhere, further)}) == 4


def test_positions_are_compared_by_their_power_of_two_where_episodes_differ_in_length() -> None:
    run = made_up(np.zeros((4, 1), int))
    step, position, row = np.full(3, 10), np.array([3, 4, 5]), np.full(3, -1)
    assert len(np.unique(strata_of(run, step, position, row), axis=0)) == 3
    run.episodes["length"] = np.array([50, 40, 30, 20])
    three, four, five = strata_of(run, step, position, row).tolist()
    assert three != four == five
