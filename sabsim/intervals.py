"""Confidence intervals of means: over seeds, of the few runs of a sweep or a table, and by the bootstrap."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

TIE = 1e-12
"""What differs by less than this share of its size is the same but for rounding, as sums in another order are."""


def over_seeds(
    scores: Sequence[float], bounds: tuple[float, float] = (-inf, inf)
) -> tuple[float, float] | tuple[None, None]:
    """Ends of the 95 % interval of the mean of ``scores``, one of each seed.

    Student's t, as seeds are too few for a bootstrap. None with one seed; the mean itself where all are equal. It is cut
    at ``bounds``, the least and the greatest that a score can be: the true mean lies between them, so that the interval
    covers it as often as before.
    """
    # Here and not above: it takes longer to load than many a command takes.
    from scipy import stats

    if len(scores) < 2:
        return None, None
    mean = float(np.mean(scores))
    if np.ptp(scores) == 0:
        return mean, mean
    low, high = stats.t.interval(0.95, len(scores) - 1, mean, stats.sem(scores))
    return max(float(low), bounds[0]), min(float(high), bounds[1])


def all_the_same(values: NDArray[np.float64]) -> bool:
    """Whether ``values`` (any,) differ by no more than rounding."""
    return bool(np.ptp(values) <= TIE * np.abs(values).max())


def bootstrap_limits(
    values: NDArray[np.float64], *, draws: int, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float, str] | None:
    """Ends of the interval of the mean of ``values`` (any,), not all the same, and the method.

    The bias-corrected, accelerated bootstrap (Efron 1987), BCa, or the percentile interval where its acceleration is not
    defined. None where there is neither.
    """
    # Here and not above: it takes longer to load than many a command takes.
    from scipy import stats

    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        # What scipy warns of is what the check below looks for.
        warnings.simplefilter("ignore")
        for method in ("BCa", "percentile"):
            result: Any = stats.bootstrap(
                (values,), np.mean, n_resamples=draws, confidence_level=confidence, method=method, rng=rng, batch=1_000
            )
            low, high = (float(limit) for limit in result.confidence_interval)
            if np.isfinite(low) and np.isfinite(high):
                return low, high, method
    return None
