"""Null models of replay: what sources and labels would look like if replay knew nothing of what matters.

A replay at position `room` of an episode (so many steps lie before it) reaches `lag` steps back, 1 <= lag <= room. Each
null keeps a part of that and draws the rest. All randomness comes from the generator given; arrays are integers `(n,)`,
one entry per replay, where not said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sabsim.errors import ConfigError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_MOST_LAGS = 4096
"""Lags kept of the pool of one position; a larger one is thinned to evenly spaced ones of its sorted lags."""


def lag_matched(lag: ArrayLike, room: ArrayLike, draws: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Lags of sources that are as far back as replay reaches, but blind to what is there; yields `draws` times `(n,)`.

    Each event is given the lag of a random event that had at least as much room, among those lags that stay within its own
    episode. Where all events have the same room, this is a bootstrap of the observed lags. In a task in which what matters
    always lies equally far back, this null reaches it as often as replay does, and so cannot tell: `uniform_past` can.

    Raises:
        ConfigError: no events, or a lag that is not between 1 and its room
    """
    lags, rooms = _checked(lag, room)
    where, members = _by_value(rooms)
    pools = [_pool(lags[(rooms >= here) & (lags <= here)]) for here in where]
    for _ in range(draws):
        drawn = np.empty(len(lags), dtype=np.int64)
        for pool, events in zip(pools, members, strict=True):
            drawn[events] = pool[rng.integers(len(pool), size=len(events))]
        yield drawn


def uniform_past(room: ArrayLike, draws: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Lags of sources uniform over the episode's past, 1 to `room`; yields `draws` times `(n,)`.

    Raises:
        ConfigError: no events, or a room below 1
    """
    rooms = _checked(np.ones_like(np.asarray(room)), room)[1]
    for _ in range(draws):
        yield rng.integers(1, rooms + 1)


def uniform_share(room: ArrayLike, edges: ArrayLike) -> NDArray[np.float64]:
    """Expected share of events in the bins of lags [edges[k], edges[k + 1]) if sources are uniform over the past.

    Exact, without draws: the mean over events of the share of 1 to `room` that is in the bin; `(len(edges) - 1,)`.

    Raises:
        ConfigError: no events, or a room below 1
    """
    rooms = _checked(np.ones_like(np.asarray(room)), room)[1]
    limits = np.asarray(edges, dtype=np.float64)
    # Integer lags below each edge, of those that an event can have.
    below = np.clip(np.ceil(limits)[:, None] - 1, 0, rooms[None, :])
    share: NDArray[np.float64] = (np.diff(below, axis=0) / rooms).mean(axis=1)
    return share


def random_walk(source: ArrayLike, room: ArrayLike, draws: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Sources that wander: as near to the one before as replay's own are, in no direction; yields `draws` times `(n, k)`.

    `source` `(n, k)`: positions replayed at the k consecutive triggers of n events, 0 <= source < `room` `(n, k)`. A walk
    begins where the event does, and goes on by jumps as large as random ones of all events, left or right with equal
    chances; at the ends of what an event can reach it is turned back. A walk is smooth and often goes one way by chance, so
    shuffles that break its smoothness (`time_swap`, `column_rotation`) take it for a sequence.

    Raises:
        ConfigError: no events, or a source outside its room
    """
    sources, rooms = np.asarray(source, dtype=np.int64), np.asarray(room, dtype=np.int64)
    if sources.ndim != 2 or sources.shape != rooms.shape or not sources.size:
        raise ConfigError(f"source, room: shapes {sources.shape} and {rooms.shape}; must be the same (n, k), with events")
    if ((sources < 0) | (sources >= rooms)).any():
        raise ConfigError("source: outside 0 .. room - 1")
    jumps = np.abs(np.diff(sources, axis=1)).ravel()
    for _ in range(draws):
        walk = sources.copy()
        for at in range(1, sources.shape[1]):
            size = jumps[rng.integers(len(jumps), size=len(walk))] * rng.choice([-1, 1], size=len(walk))
            walk[:, at] = _turned_back(walk[:, at - 1] + size, rooms[:, at])
        yield walk


def time_swap(matrix: ArrayLike, draws: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """The times of one event `(positions, times)` in random order; one of the field's shuffles, too weak to be relied on.

    It destroys smoothness along with order, so a random walk passes it far too often (docs/calibration.md).
    """
    given = np.asarray(matrix, dtype=np.float64)
    for _ in range(draws):
        yield given[:, rng.permutation(given.shape[1])]


def column_rotation(matrix: ArrayLike, draws: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Each time of one event `(positions, times)` rotated along positions by a shift of its own; as weak as `time_swap`."""
    given = np.asarray(matrix, dtype=np.float64)
    positions, times = given.shape
    for _ in range(draws):
        rows = (np.arange(positions)[:, None] - rng.integers(positions, size=times)) % positions
        yield given[rows, np.arange(times)]


def permuted_labels(labels: ArrayLike, strata: ArrayLike, draws: int, rng: np.random.Generator) -> Iterator[Bools]:
    """Labels (rewarded or not) permuted among comparable events, those of one stratum; yields `draws` times bool `(n,)`.

    Raises:
        ConfigError: no events, or arrays of different lengths
    """
    given, parts = np.asarray(labels, dtype=bool), np.asarray(strata)
    if not len(given) or given.shape != parts.shape:
        raise ConfigError(f"labels, strata: shapes {given.shape} and {parts.shape}; must be the same, with events")
    order = np.argsort(parts, kind="stable")
    for _ in range(draws):
        permuted = np.empty_like(given)
        # Sorted by stratum, and within it by a random number: a shuffle of each without a loop over them.
        permuted[order] = given[np.lexsort((rng.random(len(given)), parts))]
        yield permuted


def _turned_back(position: Ints, room: Ints) -> Ints:
    """Positions reflected at the ends of 0 .. room - 1, as often as needed."""
    period = np.maximum(2 * (room - 1), 1)
    folded = np.abs(position) % period
    return np.where(room > 1, np.minimum(folded, period - folded), 0)


def _checked(lag: ArrayLike, room: ArrayLike) -> tuple[Ints, Ints]:
    lags, rooms = np.asarray(lag, dtype=np.int64), np.asarray(room, dtype=np.int64)
    if lags.ndim != 1 or lags.shape != rooms.shape or not len(lags):
        raise ConfigError(f"lag, room: shapes {lags.shape} and {rooms.shape}; must be one row each, with events")
    wrong = (lags < 1) | (lags > rooms)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise ConfigError(f"lag[{at}] = {lags[at]}: must be between 1 and room[{at}] = {rooms[at]}")
    return lags, rooms


def _by_value(array: Ints) -> tuple[Ints, list[NDArray[Any]]]:
    """The values there are, ascending, and the places of each."""
    values, counts = np.unique(array, return_counts=True)
    return values, np.split(np.argsort(array, kind="stable"), np.cumsum(counts)[:-1])


def _pool(lags: Ints) -> Ints:
    if len(lags) <= _MOST_LAGS:
        return lags
    return np.sort(lags)[np.linspace(0, len(lags) - 1, _MOST_LAGS).round().astype(np.int64)]
