"""Comparable events: the strata within which labelled events (rewarded, say) are set against others, and their weights.

What is compared must differ in the label alone. Updates come by the clock and memory is empty at an episode's beginning, so
where a step lies in its episode and in its window decides much of its replay, whatever it was paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .recorded import Recorded

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

BLOCKS = 20
"""Parts of training, at most, within which events are compared: rewards and replay both change as the agent learns."""
_EPISODES = 12
"""Episodes of a part, at least, where a single position of each is compared."""
_SAME_LENGTH = 0.95
"""Share of episodes that must have the commonest length for single positions to be comparable."""


@dataclass(frozen=True)
class Comparable:
    """Events of the strata that have labelled and other ones.

    `use` `(n,)`: which of the events given are in such a stratum; of these, `labels` and `strata` (from 0), `(used,)`.
    """

    use: Bools
    labels: Bools
    strata: Ints

    def matched(self, values: ArrayLike) -> tuple[float, float]:
        """Sum of `values` `(n,)` over labelled events, and the same if each had the mean of its stratum's others."""
        found = np.asarray(values, dtype=np.float64)[self.use]
        labelled, others = (
            np.bincount(self.strata[chosen], minlength=self.strata.max(initial=-1) + 1)
            for chosen in (self.labels, ~self.labels)
        )
        total = np.bincount(self.strata[~self.labels], weights=found[~self.labels], minlength=len(others))
        return float(found[self.labels].sum()), float((labelled * total / others).sum())

    def difference(self, values: ArrayLike) -> float:
        """Mean of labelled events minus that of comparable others; strata count by their labelled events."""
        observed, expected = self.matched(values)
        return (observed - expected) / float(self.labels.sum())


def comparable(labels: ArrayLike, strata: ArrayLike) -> Comparable:
    """Events `(n,)` of the strata that have both kinds; none are used if there is no such stratum."""
    chosen = np.asarray(labels, dtype=bool)
    group = np.unique(np.asarray(strata), axis=0, return_inverse=True)[1].reshape(-1)
    size, labelled = np.bincount(group), np.bincount(group, weights=chosen)
    use: Any = ((labelled > 0) & (labelled < size))[group]
    kept = np.unique(group[use], return_inverse=True)[1].reshape(-1)
    return Comparable(use=use, labels=chosen[use], strata=kept)


def strata_of(run: Recorded, step: Ints, position: Ints, row: Ints) -> Ints:
    """What events must share to be comparable, `(n, 4)`; given their step, position in the episode and row in `steps`.

    The part of training (one of `BLOCKS`, or fewer where few episodes are recorded), the place in the window of updates,
    the position in the episode (where episodes differ in length, its power of two) and the place that the environment
    tells (-1 where it tells none, or row is -1).
    """
    last = max(int(table["step"].max(initial=0)) for table in (run.steps, run.replays))
    same = fixed_length(run) is not None
    blocks = int(np.clip(len(run.episodes["length"]) // _EPISODES, 1, BLOCKS)) if same else BLOCKS
    block = blocks * step // (last + 1)
    where = position if same else np.frexp(position.astype(np.float64))[1]
    told = run.steps["place"][row] if len(run.steps["place"]) else np.full(len(row), np.nan)
    place = np.where((row >= 0) & np.isfinite(told), told, -1)
    return np.stack([block, step % run.window, where, np.rint(1000 * place)], axis=1).astype(np.int64)


def fixed_length(run: Recorded) -> int | None:
    """The length of nearly all ended episodes, or None if they differ."""
    length = run.episodes["length"]
    if not len(length):
        return None
    values, counts = np.unique(length, return_counts=True)
    commonest = int(counts.argmax())
    return int(values[commonest]) if counts[commonest] >= _SAME_LENGTH * len(length) else None
