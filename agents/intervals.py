"""95 % confidence intervals of what an evaluation found."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sabsim.intervals import all_the_same, bootstrap_limits, over_seeds

LEVEL = 0.95
_RESAMPLES = 9_999


class Interval(NamedTuple):
    """An estimate, and the ends of its 95 % confidence interval; None where there is too little to tell."""

    estimate: float
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return self._asdict()


def of_mean(values: NDArray[np.float64]) -> Interval:
    """Of the mean of ``values`` (any,): the bias-corrected, accelerated bootstrap (Efron 1987), always the same resamples.

    Values that are all the same have an interval of no width; a single value has none. Where the acceleration is not
    defined, it is the percentile interval.
    """
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, None, None)
    if all_the_same(values):
        return Interval(mean, mean, mean)
    found = bootstrap_limits(values, draws=_RESAMPLES, confidence=LEVEL)
    return Interval(mean, None, None) if found is None else Interval(mean, found[0], found[1])


def of_seeds(values: NDArray[np.float64], bounds: tuple[float, float] = (-inf, inf)) -> Interval:
    """Of the mean over seeds, ``values`` (seeds,): as ``sabsim.intervals.over_seeds``."""
    return Interval(float(values.mean()), *over_seeds(values.tolist(), bounds))


def of_share(successes: int, of: int) -> Interval:
    """Of a share, ``successes`` of ``of`` > 0: Wilson's interval (Wilson 1927), which suits shares near 0 and 1 as well."""
    from scipy.stats import binomtest

    found = binomtest(successes, of).proportion_ci(confidence_level=LEVEL, method="wilson")
    return Interval(successes / of, float(found.low), float(found.high))
