"""The order in which the past is replayed: forward, reverse or neither, across consecutive triggers.

Within one event SAB's backtracking runs backwards by construction: credit goes from the source to the steps before it. So
one event has no direction of its own, and direction is that of the sources of consecutive triggers: *forward* if later
triggers replay later experience, *reverse* if they replay earlier experience. An agent that always replays what lies ten
steps back drifts forward with its own steps; what counts is therefore the difference from lag-matched sources at the same
triggers. Whether sources follow each other more straightly than wandering ones is asked of the random walk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

from .nulls import lag_matched, random_walk
from .recorded import Recorded, keys
from .scores import line_fit, max_jump, sequenceness

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TRIGGERS = 5
"""Consecutive triggers that make one event; episodes are cut into such pieces, and what is left over is not used."""
STATES = 10
"""Equal parts of the longest episode, the positions of P and the states of TDLM."""
LAGS = 4
"""Lags of TDLM, in triggers."""
LEVEL = 0.05
"""Two-sided share of a null's correlations beyond which an event counts as ordered."""
_APART = 2
"""Windows between two triggers at most, for them to be consecutive."""
_TDLM_DRAWS = 20
_MOST_EVENTS = 5_000
"""Events that are scored; of more, evenly spaced ones."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """Pieces of `TRIGGERS` consecutive triggers of one episode, by the source of each trigger that got the greatest credit.

    `position`, `lag`, `source` `(events, TRIGGERS)`: of the trigger in its episode, back to the source, and of the source.
    `step` `(events,)`: the learner's step at the first trigger.
    """

    position: Ints
    lag: Ints
    step: Ints

    @property
    def source(self) -> Ints:
        """Positions of the sources in their episode."""
        return self.position - self.lag


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Of `n` events: shares `forward`, `reverse` and `unordered`, against lag-matched sources at the same triggers.

    An event is ordered if its correlation r of source position with time lies outside the central 95 % of the null's for
    this event; 2.5 % are forward, and reverse, if sources are lag-matched. `correlation`: the mean r; `drift`: that of
    lag-matched sources. `beyond_walk`: the share of events whose |r| is above 95 % of those of random walks (5 % if sources
    wander). `line_score`, `max_jump`: means over events; `forwardness`, `backwardness` `(LAGS,)`: TDLM over all triggers in
    their order, `matched_difference` the same difference of lag-matched sources.
    """

    n: int
    forward: float
    reverse: float
    unordered: float
    correlation: float
    drift: float
    beyond_walk: float
    line_score: float
    max_jump: float
    forwardness: Floats
    backwardness: Floats
    matched_difference: Floats


def events(run: Recorded) -> Events:
    """Cut the run's triggers into events.

    Raises RunFolderError: if nothing was replayed, or no episode has `TRIGGERS` consecutive triggers.
    """
    run.need_replays()
    replays = run.replays
    # Last of equal triggers in this order: the one of greatest credit.
    order = np.lexsort((replays["credit"], keys(replays["stream"], replays["step"])))
    trigger = keys(replays["stream"], replays["step"])[order]
    best = order[np.append(np.flatnonzero(np.diff(trigger)), len(trigger) - 1)]
    found = {name: replays[name][best] for name in ("stream", "step", "episode", "position", "lag")}
    breaks = (np.diff(found["stream"]) != 0) | (np.diff(found["episode"]) != 0)
    breaks |= np.diff(found["step"]) > _APART * run.window
    chain = np.concatenate([[0], np.cumsum(breaks)])
    within = np.arange(len(chain)) - np.flatnonzero(np.append(True, breaks))[chain]
    starts = np.flatnonzero(within % TRIGGERS == 0)
    last = starts + TRIGGERS - 1
    whole = starts[(last < len(chain)) & (chain[np.minimum(last, len(chain) - 1)] == chain[starts])]
    if len(whole) > _MOST_EVENTS:
        whole = whole[np.linspace(0, len(whole) - 1, _MOST_EVENTS).round().astype(np.int64)]
    if not len(whole):
        raise RunFolderError(f"'{run.run.path}': no {TRIGGERS} consecutive triggers in any recorded episode")
    rows = whole[:, None] + np.arange(TRIGGERS)
    return Events(position=found["position"][rows], lag=found["lag"][rows], step=found["step"][whole])


def sequences(run: Recorded, *, draws: int = 200, seed: int = 0) -> Sequences:
    """Direction and order of the run's events.

    Raises RunFolderError: as `events`, or if sources never differ within an event.
    """
    found = events(run)
    r = _correlations(found.source)
    if not np.ptp(found.source, axis=1).any():
        raise RunFolderError(f"'{run.run.path}': within {TRIGGERS} consecutive triggers the replayed step never changes")
    rng = np.random.default_rng(seed)
    matched = np.stack([found.position - lag for lag in _matched(found, draws, rng)])
    under_lag = _correlations(matched)
    under_walk = np.stack([_correlations(walk) for walk in random_walk(found.source, found.position, draws, rng)])
    above, below = (exceeded(sign * r, sign * under_lag, rng) <= LEVEL / 2 for sign in (1, -1))
    straight = exceeded(np.abs(r), np.abs(under_walk), rng) <= LEVEL
    longest = int(found.position.max()) + 1
    matrix = matrices(found.source, longest)
    forwardness, backwardness = _tdlm(matrix)
    null = np.mean([np.subtract(*_tdlm(matrices(drawn, longest))) for drawn in matched[:_TDLM_DRAWS]], axis=0)
    return Sequences(
        n=len(r),
        forward=float(above.mean()),
        reverse=float(below.mean()),
        unordered=float((~above & ~below).mean()),
        correlation=float(r.mean()),
        drift=float(under_lag.mean()),
        beyond_walk=float(straight.mean()),
        line_score=float(line_fit(matrix)[0].mean()),
        max_jump=float(max_jump(matrix).mean()),
        forwardness=forwardness,
        backwardness=backwardness,
        matched_difference=null,
    )


def exceeded(observed: Floats, null: Floats, rng: np.random.Generator) -> Floats:
    """p of each event `(events,)`: the chance that its `null` `(draws, events)` is at least as great as `observed`.

    Uniform if an event is drawn from its null: five triggers give few different values, and equal ones get a random order.
    """
    greater, equal = (null > observed).sum(axis=0), (null == observed).sum(axis=0)
    p: Floats = (greater + rng.random(len(observed)) * (equal + 1)) / (len(null) + 1)
    return p


def matrices(source: Ints, longest: int) -> Floats:
    """P of each event, `(events, STATES, times)`: 1 at the state in which the source of each time lies."""
    state = STATES * source // longest
    matrix = np.zeros((len(source), STATES, source.shape[1]))
    np.put_along_axis(matrix, state[:, None, :], 1.0, axis=1)
    return matrix


def _correlations(source: NDArray[Any]) -> Floats:
    """r of position and time, of sources `(..., TRIGGERS)`; 0 where they are all the same, which is no order."""
    time = np.arange(source.shape[-1]) - (source.shape[-1] - 1) / 2
    apart = source - source.mean(axis=-1, keepdims=True)
    size = np.sqrt((apart**2).sum(axis=-1) * (time**2).sum())
    r: Floats = np.divide(apart @ time, size, out=np.zeros(size.shape), where=size > 0)
    return r


def _matched(found: Events, draws: int, rng: np.random.Generator) -> list[Ints]:
    drawn = lag_matched(found.lag.ravel(), found.position.ravel(), draws, rng)
    return [lag.reshape(found.lag.shape) for lag in drawn]


def _tdlm(matrix: Floats) -> tuple[Floats, Floats]:
    """Of all events one after the other, with a gap between them that no lag bridges."""
    gap = np.zeros((len(matrix), LAGS, STATES))
    series = np.concatenate([matrix.transpose(0, 2, 1), gap], axis=1).reshape(-1, STATES)
    return sequenceness(series, np.eye(STATES, k=1), max_lag=LAGS)
