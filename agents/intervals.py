"""95 % confidence intervals of what an evaluation found."""

from __future__ import annotations

import warnings
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sabsim.intervals import over_seeds

LEVEL = 0.95
_RESAMPLES = 9_999
_TIE = 1e-12
"""Values that differ by less than this share of their size are the same but for rounding, as sums in another order are."""


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
    # Here and not above: it takes longer to load than many an evaluation takes.
    from scipy.stats import bootstrap

    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, None, None)
    if np.ptp(values) <= _TIE * np.abs(values).max():
        return Interval(mean, mean, mean)
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            # Of limits that are not defined, which are looked for here.
            warnings.simplefilter("ignore")
            found: Any = bootstrap(
                (values,), np.mean, confidence_level=LEVEL, n_resamples=_RESAMPLES, batch=1_000, method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval  # fmt: skip
        if np.isfinite(found).all():
            break
    return Interval(mean, float(found.low), float(found.high))


def of_seeds(values: NDArray[np.float64], bounds: tuple[float, float] = (-inf, inf)) -> Interval:
    """Of the mean over seeds, ``values`` (seeds,): as ``sabsim.intervals.over_seeds``."""
    return Interval(float(values.mean()), *over_seeds(values.tolist(), bounds))


def of_share(successes: int, of: int) -> Interval:
    """Of a share, ``successes`` of ``of`` > 0: Wilson's interval (Wilson 1927), which suits shares near 0 and 1 as well."""
    from scipy.stats import binomtest

    found = binomtest(successes, of).proportion_ci(confidence_level=LEVEL, method="wilson")
    return Interval(successes / of, float(found.low), float(found.high))
