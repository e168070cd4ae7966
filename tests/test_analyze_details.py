"""Laps, causal steps and lags of made-up runs of agents: what the examples of `test_analyze.py` cannot tell apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sabsim.agents import AGENT_TABLES, AgentConfig
from sabsim.analysis.agent_runs import AgentRun, read_agent_run
from sabsim.analysis.causal import causal_fraction
from sabsim.analysis.laps import laps
from sabsim.analysis.measures import lags

from sabsim.runs import RunDatabase

TRACK = "sabsim/LinearTrack-v0"


def made_up(path: Path, env: str, steps: list[Any], events: list[Any]) -> AgentRun:
    """A run with these rows of `steps` and `events`, read from its folder."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(AgentConfig(env=env, env_args={"length": 3}).to_json()))
    database = RunDatabase(path / "run.sqlite", AGENT_TABLES)
    database.insert("steps", steps)
    database.insert("events", events)
    database.commit()
    database.close()
    return read_agent_run(path)


def step(at: int, *, place: int = 0, causal: int | None = None) -> Any:
    """A row of `steps`, of the first episode."""
    return (at, 0, 0, at, 1, 0.0, 0.0, 0.0, 0.0, place, 0, "before", causal)


def replay(at: int, source: int, *, length: int = 2) -> Any:
    """A row of `events`, of the first episode."""
    return ("replay", at, 0, 0, source, at - source, 0.5, 1.0, None, 0.0, 0.0, length, at)


def reminding(at: int, source: int) -> Any:
    """A row of `events`, of the first episode."""
    return ("reminding", at, 0, 0, source, at - source, 0.5, None, None, 0.0, 0.0, None, None)


def shown_last(path: Path, events: list[Any], *, steps: int, causal: int, env: str = "sabsim/Exam-v0") -> AgentRun:
    """An episode of so many steps, the last of which tells the causal step."""
    return made_up(path, env, [*map(step, range(steps - 1)), step(steps - 1, causal=causal)], events)


def test_remindings_of_laps_and_of_stationary_steps(tmp_path: Path) -> None:
    steps = [step(at, place=place) for at, place in enumerate([0, 0, 1, 2, 1, 1, 0, 1, 0])]
    # At the left end's steps 0, 1, 6 and 8 the animal is; at 0 and 1 it stays.
    left = laps(made_up(tmp_path / "run", TRACK, steps, [reminding(1, 0), reminding(6, 2), reminding(6, 3)]))[0]
    assert (left.where, left.steps, left.stationary) == ("left end", 4, 2)
    assert (left.remindings, left.stationary_remindings) == (3, 1)
    assert (left.remindings_per_lap, left.remindings_per_stationary_step) == (3, 1 / 2)


def test_a_lap_belongs_to_the_end_that_it_leads_to(tmp_path: Path) -> None:
    steps = [step(at, place=place) for at, place in enumerate([0, 1, 2, 1, 0, 1, 2])]
    counts = {cell.where: cell.laps for cell in laps(made_up(tmp_path / "run", TRACK, steps, []))}
    assert counts == {"left end": 1, "right end": 2, "running left": 1, "running right": 2, "pausing": 3}


def test_the_cue_of_a_passive_maze_is_its_causal_step(tmp_path: Path) -> None:
    """The turn, which the maze tells, is the last step: no replay could lie between it and the reward."""
    run = shown_last(tmp_path / "run", [replay(9, 1), replay(9, 4)], steps=10, causal=9, env="sabsim/TMaze-v0")
    found = causal_fraction(run, draws=9)
    # The segment 0-1 holds the cue, 3-4 does not.
    assert (found.n, found.fraction) == (2, 1 / 2)


@pytest.mark.parametrize("length", [2, 48])
def test_limits_of_a_null_leave_out_a_fortieth_on_either_side(length: int, tmp_path: Path) -> None:
    """One replay, 50 steps into its episode: step 2 is held by 2 of 50 short segments, and by 48 of the long ones."""
    run = shown_last(tmp_path / "run", [replay(50, 49, length=length)], steps=51, causal=2)
    found = causal_fraction(run, draws=4000).uniform
    share = 2 / 50 if length == 2 else 48 / 50
    assert found.mean == pytest.approx(share, abs=0.01)
    assert (found.low, found.high) == (0, 1)


def test_the_median_lag_is_no_mean(tmp_path: Path) -> None:
    run = made_up(
        tmp_path / "run", "sabsim/Exam-v0", [step(at) for at in range(10)], [replay(4, 3), replay(5, 4), replay(9, 2)]
    )
    assert lags(run).median == 1
