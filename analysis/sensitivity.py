"""A second opinion on rates over seeds: generalised estimating equations (statsmodels), a model of counts with clusters.

Sign flips of per-seed values are what is reported (`statistics`); this asks whether a quite different method agrees. Its
small-sample form is needed: with 8 to 16 seeds the usual sandwich covariance is too small (docs/calibration.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sabsim.errors import ConfigError

from .replay_summary import RunSummary
from .statistics import Outcome

LEAST_SEEDS = 4
"""Seeds that the covariance of clusters needs at least."""


def gee_rate(
    count: ArrayLike, exposure: ArrayLike, design: ArrayLike, *, seeds: ArrayLike, confidence: float = 0.95
) -> Outcome:
    """Log-rate ratio of the last column of `design`, from counts clustered by seed.

    A Poisson model with log link, `exposure` as its offset and independent working correlation (Liang & Zeger 1986), the
    covariance of Mancl & DeRouen (2001) (statsmodels' `bias_reduced`), and Student's t with one degree of freedom less than
    seeds. Counts need not be whole.

    Arguments:
        count, exposure: events and the time they were counted in, `(n,)`
        design: columns beside the constant `(n, k)`, the one that is asked about last, such as direction, reward, and
            their product
        seeds: which seed each row is of, `(n,)`

    Raises:
        ConfigError: shapes that differ, a negative count, an exposure of 0, fewer than `LEAST_SEEDS` seeds or than columns,
            no event at all; or statsmodels is not installed
    """
    try:
        import statsmodels.api as sm
    except ImportError:
        raise ConfigError("GEE needs statsmodels: pip install 'sabsim[analysis]'") from None
    counts, exposures, columns, groups = _checked(count, exposure, design, seeds)
    number = len(np.unique(groups))
    with warnings.catch_warnings():
        # What it warns of (no convergence) shows in a result that is not finite, which is looked for below.
        warnings.simplefilter("ignore")
        model = sm.GEE(counts, columns, groups=groups, family=sm.families.Poisson(), offset=np.log(exposures))
        fitted: Any = model.fit(cov_type="bias_reduced")
        estimate, error = float(fitted.params[-1]), float(np.sqrt(fitted.cov_params()[-1, -1]))
    if not (np.isfinite(estimate) and np.isfinite(error) and error > 0):
        raise ConfigError("GEE: no finite estimate; a condition has no events, or the columns are not independent")
    reach = stats.t.ppf((1 + confidence) / 2, number - 1) * error
    return Outcome(
        n=number,
        estimate=estimate,
        low=float(estimate - reach),
        high=float(estimate + reach),
        p=float(2 * stats.t.sf(abs(estimate / error), number - 1)),
        method=f"GEE, Poisson, clusters are seeds, bias-reduced covariance, t with {number - 1} degrees of freedom",
    )


def gee_near_reward(summaries: Sequence[RunSummary]) -> Outcome | str:
    """The log-rate ratio of replay near paid steps and near comparable ones (`peri_reward.Matched`), by `gee_rate`.

    Returns the reason instead if it cannot be asked.
    """
    matched = [(run.run.seed, run.peri_reward.matched) for run in summaries if run.peri_reward and run.peri_reward.matched]
    rows = [
        (seed, count, exposure, paid)
        for seed, found in matched
        for paid, count, exposure in ((1, *found.counts[:2]), (0, *found.counts[2:]))
        if exposure > 0
    ]
    if not rows:
        return "no run has paid steps and comparable ones that were not paid"
    seeds, count, exposure, paid = np.array(rows).T
    try:
        return gee_rate(count, exposure, paid, seeds=seeds)
    except ConfigError as error:
        return str(error)


def _checked(
    count: ArrayLike, exposure: ArrayLike, design: ArrayLike, seeds: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[Any]]:
    counts, exposures = np.asarray(count, dtype=np.float64), np.asarray(exposure, dtype=np.float64)
    columns, groups = np.asarray(design, dtype=np.float64), np.asarray(seeds)
    if columns.ndim == 1:
        columns = columns[:, None]
    if not counts.shape == exposures.shape == groups.shape == columns.shape[:1]:
        raise ConfigError(
            f"GEE: {counts.shape} counts, {exposures.shape} exposures, {columns.shape} design, {groups.shape} seeds; "
            "must have the same rows"
        )
    if not (counts >= 0).all() or not (exposures > 0).all() or not counts.any():
        raise ConfigError("GEE: counts must be at least 0, and not all 0; exposures must be positive")
    number, needed = len(np.unique(groups)), max(LEAST_SEEDS, columns.shape[1] + 2)
    if number < needed:
        raise ConfigError(f"GEE: {number} seeds; at least {needed} are needed")
    return counts, exposures, np.column_stack([np.ones(len(counts)), columns]), groups
