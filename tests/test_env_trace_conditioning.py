"""TraceConditioning: the trial's timing, probes, and what a lick gains and costs."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.envs.trace_conditioning import LICK, STILL, TraceConditioning


def run(env: TraceConditioning, steps: int, policy: Any, seed: int = 0) -> list[tuple[np.ndarray, float, dict[str, Any]]]:
    """(observation, reward, info) of the reset (reward 0) and of ``steps`` steps."""
    observation, info = env.reset(seed=seed)
    trace = [(observation, 0.0, info)]
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(policy(env))
        assert not terminated
        assert not truncated
        trace.append((observation, reward, info))
    return trace


def trials_of(trace: list[Any]) -> list[list[Any]]:
    """The steps of each finished trial."""
    groups = [list(g) for _, g in itertools.groupby(trace, key=lambda step: step[2]["trial"])]
    return groups[:-1]


def test_the_timing_of_a_trial() -> None:
    env = TraceConditioning(stimulus=3, trace=5, interval_min=4, interval_max=9, probe_rate=0.3)
    trace = run(env, 3000, lambda e: STILL)
    pauses, probes, clock = [], [], 0
    for trial in trials_of(trace):
        pause = len(trial) - 3 - 5 - 1
        pauses.append(pause)
        assert [s[2]["phase"] for s in trial] == ["interval"] * pause + ["stimulus"] * 3 + ["trace"] * 5 + ["reward"]
        assert [s[0][0] for s in trial] == [0] * pause + [1] * 3 + [0] * 6
        probe = trial[0][2]["probe"]
        probes.append(probe)
        assert [s[0][1] for s in trial] == [0] * (len(trial) - 1) + [not probe]
        assert trial[-1][2]["causal_step"] == (-1 if probe else clock + pause)
        assert [s[1] for s in trial[1:]] == [0.0] * (len(trial) - 2) + [0.0 if probe else 0.5]
        clock += len(trial)
    assert set(pauses) == set(range(4, 10))
    assert 0.2 < np.mean(probes) < 0.4


def test_a_lick_in_time_gets_all_of_the_drop() -> None:
    env = TraceConditioning(probe_rate=0.0)
    for trial in trials_of(run(env, 500, TraceConditioning.optimal_action)):
        assert [s[2]["licked"] for s in trial] == [False] * (len(trial) - 1) + [True]
        assert trial[-1][1] == pytest.approx(0.95)
    for trial in trials_of(run(env, 500, lambda e: LICK))[1:]:
        assert [s[1] for s in trial] == pytest.approx([-0.05] * (len(trial) - 1) + [0.95])


def test_no_trace_interval_is_delay_conditioning() -> None:
    env = TraceConditioning(trace=0, stimulus=2, probe_rate=0.0)
    for trial in trials_of(run(env, 400, TraceConditioning.optimal_action)):
        assert [s[2]["phase"] for s in trial[-3:]] == ["stimulus", "stimulus", "reward"]
        assert trial[-1][1] == pytest.approx(0.95)


def test_nothing_tells_a_probe_before_the_drop_is_due() -> None:
    env = TraceConditioning(probe_rate=0.5)
    shown: dict[bool, set[Any]] = {True: set(), False: set()}
    for trial in trials_of(run(env, 6000, lambda e: STILL)):
        shown[trial[0][2]["probe"]].add(tuple(tuple(s[0]) for s in trial[-14:-1]))
    assert shown[True] == shown[False]


def test_the_stated_returns() -> None:
    env, generator, episodes = TraceConditioning(), np.random.default_rng(0), 40
    for policy, expected, error in (
        (TraceConditioning.optimal_action, 24.7, 1.8),
        (lambda e: STILL, 13.0, 0.9),
        (lambda e: int(generator.integers(2)), -5.5, 1.9),
    ):
        got = [sum(s[1] for s in run(env, 1000, policy, seed)) for seed in range(episodes)]
        assert np.mean(got) == pytest.approx(expected, abs=4 * error / np.sqrt(episodes))


def test_it_does_not_lick_where_that_does_not_pay() -> None:
    env = TraceConditioning(spilt=1.0)
    assert not any(s[2]["licked"] for s in run(env, 300, TraceConditioning.optimal_action))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stimulus": 0}, "stimulus is 0; it must be an integer of at least 1"),
        ({"trace": -1}, "trace is -1; it must be an integer of at least 0"),
        ({"interval_min": 0}, "interval_min is 0; it must be an integer of at least 1"),
        ({"interval_min": 9, "interval_max": 8}, "interval_max is 8; it must be an integer of at least 9"),
        ({"probe_rate": 1.1}, "probe_rate is 1.1; it must be a number from 0 to 1"),
        ({"reward": -1}, "reward is -1; it must be a number of at least 0"),
        ({"spilt": 2.0}, "spilt is 2.0; it must be a number from 0 to 1"),
        ({"lick_cost": None}, "lick_cost is None; it must be a number of at least 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TraceConditioning(**arguments)


@settings(max_examples=40, deadline=None)
@given(
    stimulus=st.integers(1, 4),
    trace=st.integers(0, 6),
    low=st.integers(1, 6),
    more=st.integers(0, 6),
    probes=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_any_arguments(stimulus: int, trace: int, low: int, more: int, probes: float, seed: int) -> None:
    env = TraceConditioning(
        stimulus=stimulus, trace=trace, interval_min=low, interval_max=low + more, probe_rate=probes, lick_cost=0.0
    )
    steps = run(env, 200, lambda e: LICK, seed)
    assert all(s[0] in env.observation_space for s in steps)
    for clock, (_, reward, info) in enumerate(steps):
        assert reward == float(info["drop"])
        if info["drop"]:
            assert clock - info["causal_step"] == stimulus + trace
            assert steps[info["causal_step"]][0][0] == 1
            assert steps[info["causal_step"] - 1][0][0] == 0
    for trial in trials_of(steps):
        assert low <= len(trial) - stimulus - trace - 1 <= low + more
