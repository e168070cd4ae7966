"""Two sets of runs side by side, such as replay and a control, or trained and untrained agents: differences over seeds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sabsim.errors import ConfigError

from .replay_labels import LABELS
from .replay_summary import RunSummary, check_same
from .statistics import Outcome, benjamini_hochberg

Floats = NDArray[np.float64]

_NAMED = 4
"""From so many runs on only the first and the last are named."""
_DRAWS = 99_999
"""Permutations of seeds; where there are fewer, all of them."""
_DIGITS = 12
"""Differences that agree so far, as shares of all values together, are equal but for rounding."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One number in two sets: their means, and the test of the first minus the second; `None` with the `reason`.

    `q`: p adjusted for the false discovery rate over all numbers compared.
    """

    name: str
    here: float
    there: float
    test: Outcome | None
    q: float | None
    reason: str


def names_of(summaries: Sequence[RunSummary]) -> str:
    """The runs of a set in a few words: their folders' names, of many the first and the last."""
    names = [summary.run.name for summary in summaries]
    return ", ".join(names) if len(names) < _NAMED else f"{names[0]} .. {names[-1]}"


def compare(here: Sequence[RunSummary], there: Sequence[RunSummary], *, seed: int = 0) -> list[Difference]:
    """Each number that both sets have; each set must be seeds of one experiment.

    Raises:
        ConfigError: a set whose runs differ in more than their seed
    """
    check_same(here)
    check_same(there)
    found = []
    for name in LABELS:
        sets = [[run.values()[name] for run in runs if name in run.values()] for runs in (here, there)]
        if not all(sets):
            continue
        test, reason = None, ""
        try:
            test = two_samples(*sets, seed=seed)
        except ConfigError as error:
            reason = str(error)
        means = [float(np.mean(values)) for values in sets]
        found.append(Difference(name=name, here=means[0], there=means[1], test=test, q=None, reason=reason))
    tested = [item.test.p for item in found if item.test]
    q = iter(benjamini_hochberg(tested).tolist() if tested else [])
    return [replace(item, q=next(q)) if item.test else item for item in found]


def two_samples(first: ArrayLike, second: ArrayLike, *, seed: int = 0, confidence: float = 0.95) -> Outcome:
    """Whether per-seed values of two sets of runs come from one distribution: the difference of means, first - second.

    Seeds are permuted between the sets, all ways where there are at most 99,999, two-sided (scipy's `permutation_test`);
    the interval is BCa, resampled within each set (3 seeds or more in each).

    Raises:
        ConfigError: fewer than 2 values in a set, or one that is not finite
    """
    sets = [np.asarray(values, dtype=np.float64) for values in (first, second)]
    for values in sets:
        if values.ndim != 1 or len(values) < 2:
            raise ConfigError(f"two sets: {values.size} seeds in one of them; at least 2 are needed in each")
        if not np.isfinite(values).all():
            raise ConfigError("two sets: a value is not finite")
    p = permutation_p(*sets, seed=seed)
    low, high = _interval(sets, confidence, seed)
    how = f"{len(sets[0])} and {len(sets[1])} seeds permuted between the sets, two-sided"
    return Outcome(
        n=len(sets[0]) + len(sets[1]),
        estimate=float(sets[0].mean() - sets[1].mean()),
        low=low,
        high=high,
        p=p,
        method=how,
    )


def permutation_p(first: Floats, second: Floats, *, draws: int = _DRAWS, seed: int = 0) -> float:
    """p of `two_samples`, without its checks and its interval.

    Differences that are equal but for rounding, as of shares added up in another order, count as equal.
    """
    scale = float(np.abs(first).sum() + np.abs(second).sum()) or 1.0

    def rounded(first: Floats, second: Floats, axis: int = -1) -> Any:
        return np.round(_difference(first, second, axis) / scale, _DIGITS)

    result: Any = stats.permutation_test(
        (first, second), rounded, n_resamples=draws, vectorized=True, rng=np.random.default_rng(seed)
    )
    return float(result.pvalue)


def _difference(first: Floats, second: Floats, axis: int = -1) -> Any:
    return first.mean(axis=axis) - second.mean(axis=axis)


def _interval(sets: Sequence[Floats], confidence: float, seed: int) -> tuple[float | None, float | None]:
    if min(map(len, sets)) < 3 or all(np.ptp(values) == 0 for values in sets):
        return None, None
    with warnings.catch_warnings():
        # Of degenerate values, which give no finite limits.
        warnings.simplefilter("ignore")
        result: Any = stats.bootstrap(
            sets, _difference, confidence_level=confidence, method="BCa", rng=np.random.default_rng(seed), batch=1000
        )
    low, high = (float(limit) for limit in result.confidence_interval)
    return (low, high) if np.isfinite(low) and np.isfinite(high) else (None, None)
