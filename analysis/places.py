"""Which places are replayed from where, and how that goes with experience (Gupta et al. 2010), where places are told.

Gupta, van der Meer, Touretzky & Redish (2010, Neuron 65, 695) found that hippocampal replay is no simple function of
experience: it was not of the most frequent or the most recent places. Places are those that the environment tells with each
step as one number; what is asked needs the single steps of an episode from its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

from .nulls import lag_matched
from .recorded import Recorded, keys, rows_at

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_TRIGGERS = 20_000
"""Replays that the ranks of experience are taken of; of more, evenly spaced ones."""
_DRAWS = 20
"""Draws of lag-matched sources: each replay has so many ranks, and there are many replays."""


@dataclass(frozen=True, kw_only=True)
class PlaceMap:
    """How many of `n` replays go from the place at the trigger (row) to the place replayed (column).

    `place` `(places,)`: those that occur, ascending. `count` `(places, places)`.
    """

    n: int
    place: Floats
    count: Ints


@dataclass(frozen=True, kw_only=True)
class Experience:
    """How the place replayed ranks among all places visited before in the episode, the mean over `n` replays.

    `visits`, `recency`: 0 the place with the fewest steps spent there, or seen longest ago; 1 the one with most, or seen
    last; 0.5 if places are drawn uniformly. `*_matched`: the same of lag-matched sources. `visits` is `None` if no place
    was visited more often than another.
    """

    n: int
    visits: float | None
    recency: float
    visits_matched: float | None
    recency_matched: float


def place_map(run: Recorded) -> PlaceMap:
    """Replayed position by triggering position.

    Raises RunFolderError: if nothing was replayed, or no replay has places at both ends.
    """
    run.need_replays()
    run.need_places()
    replays, place = run.replays, run.steps["place"]
    source = rows_at(run.steps, replays["stream"], replays["source_step"])
    use = (replays["row"] >= 0) & (source >= 0)
    here, there = place[replays["row"][use]], place[source[use]]
    told = np.isfinite(here) & np.isfinite(there)
    if not told.any():
        raise RunFolderError(f"'{run.run.path}': no replay with recorded places at both ends")
    places = np.unique(np.concatenate([here[told], there[told]]))
    count = np.zeros((len(places), len(places)), dtype=np.int64)
    np.add.at(count, (np.searchsorted(places, here[told]), np.searchsorted(places, there[told])), 1)
    return PlaceMap(n=int(told.sum()), place=places, count=count)


def experience(run: Recorded, *, seed: int = 0) -> Experience:
    """Whether replay prefers places that were visited often, or lately, in the episode.

    Raises RunFolderError: if nothing was replayed, or no trigger has two places behind it.
    """
    run.need_replays()
    run.need_places()
    replays = run.replays
    rng = np.random.default_rng(seed)
    candidates = np.flatnonzero(replays["row"] >= 0)
    if len(candidates) > _MOST_TRIGGERS:
        candidates = candidates[np.linspace(0, len(candidates) - 1, _MOST_TRIGGERS).round().astype(np.int64)]
    if not len(candidates):
        raise RunFolderError(f"'{run.run.path}': no replay was triggered at a recorded step")
    lag, room = replays["lag"][candidates], replays["position"][candidates]
    drawn = np.stack(list(lag_matched(lag, room, _DRAWS, rng)), axis=1)
    ranks = list(_ranks(run, candidates, np.concatenate([lag[:, None], drawn], axis=1)))
    if not ranks:
        raise RunFolderError(f"'{run.run.path}': no trigger has two places behind it")
    visits, recency = np.array(ranks).transpose(1, 0, 2)
    differ = bool((visits != 0.5).any())
    return Experience(
        n=len(ranks),
        visits=float(visits[:, 0].mean()) if differ else None,
        recency=float(recency[:, 0].mean()),
        visits_matched=float(visits[:, 1:].mean()) if differ else None,
        recency_matched=float(recency[:, 1:].mean()),
    )


def _ranks(run: Recorded, candidates: Ints, lags: Ints) -> Iterator[tuple[Floats, Floats]]:
    """Of each replay whose episode is recorded up to it: ranks by visits and by recency of the sources at `lags` `(n, k)`.

    Triggers come in the order of time, so that the visits of an episode are counted once.
    """
    place, position = run.steps["place"], run.steps["position"]
    order = np.argsort(keys(run.replays["stream"][candidates], run.replays["step"][candidates]), kind="stable")
    counts: dict[float, int] = {}
    last: dict[float, int] = {}
    begun, upto = -1, -1
    for at in order.tolist():
        row = int(run.replays["row"][candidates[at]])
        start = row - int(position[row])
        if start < 0 or position[start] != 0:
            continue
        if start != begun:
            counts, last, begun, upto = {}, {}, start, start
        for past in range(upto, row):
            here = float(place[past])
            counts[here], last[here] = counts.get(here, 0) + 1, past
        upto = max(upto, row)
        sources = place[row - lags[at]]
        if len(counts) < 2 or not np.isfinite(sources).all():
            continue
        yield _rank(counts, sources), _rank(last, sources)


def _rank(table: dict[float, int], sources: NDArray[Any]) -> Floats:
    """Where each source's place stands among all places, from 0 to 1; places that are equal share their mean."""
    values = np.sort(np.fromiter(table.values(), dtype=np.int64))
    own = np.array([table[float(source)] for source in sources])
    below, upto = np.searchsorted(values, own, "left"), np.searchsorted(values, own, "right")
    middle: Floats = (below + (upto - below - 1) / 2) / (len(values) - 1)
    return middle
