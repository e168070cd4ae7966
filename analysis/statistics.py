"""Statistics over seeds. The unit is the seed: laps and events of one run share what that run happened to learn.

Pooled as if independent, they give small p-values where there is nothing (tests/test_statistics.py measures it), so what is
tested here is one value per seed. Arrays are `(n,)`; random draws come from a generator seeded by the caller's `seed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sabsim.errors import ConfigError
from sabsim.intervals import TIE, all_the_same, bootstrap_limits

from .nulls import permuted_labels

Floats = NDArray[np.float64]
Alternative = Literal["two-sided", "greater", "less"]

MOST_ENUMERATED = 16
"""Up to so many values all 2^n flips of signs are tried; beyond, random ones."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean of `n` values and its confidence interval, `low` to `high`: `None`, and why in `method`, if there is none."""

    n: int
    estimate: float
    low: float | None
    high: float | None
    confidence: float
    method: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A test of `n` seeds: the `estimate`, its interval (`low`, `high`; `None` if there is none), `p`, and the method."""

    n: int
    estimate: float
    low: float | None
    high: float | None
    p: float
    method: str


@dataclass(frozen=True, kw_only=True)
class LogRatio:
    """Natural logarithm of a ratio of two rates; `corrected` if half an event was added to both counts."""

    estimate: float
    corrected: bool


def sign_flip(
    values: ArrayLike,
    *,
    alternative: Alternative = "two-sided",
    draws: int = 100_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Outcome:
    """Tests whether the mean of per-seed values is 0, by flipping signs (Fisher 1935, The Design of Experiments, ch. 3).

    Under the null hypothesis a seed's value is as likely to be v as -v. Up to 16 seeds all flips are enumerated and p is
    exact; its least value is 2^(1-n) two-sided, so 5 seeds cannot go below .0625. Beyond, `draws` random flips, and the one
    observed counted among them: p = (1 + as extreme) / (1 + draws) (Phipson & Smyth 2010). The interval is that of
    `mean_interval`.

    Raises:
        ConfigError: fewer than two values, NaN or infinity among them, or an unknown alternative
    """
    found = _values(values, least=2)
    p, method = sign_flip_p(found, alternative=alternative, draws=draws, seed=seed)
    interval = mean_interval(found, confidence=confidence, seed=seed)
    return Outcome(n=len(found), estimate=float(found.mean()), low=interval.low, high=interval.high, p=p, method=method)


def sign_flip_p(
    values: ArrayLike, *, alternative: Alternative = "two-sided", draws: int = 100_000, seed: int = 0
) -> tuple[float, str]:
    """p of `sign_flip`, without its interval, which takes nearly all of the time; and the method.

    Raises:
        ConfigError: as `sign_flip`
    """
    found = _values(values, least=2)
    _check_alternative(alternative)
    n, observed = len(found), float(found.sum())
    if n <= MOST_ENUMERATED:
        sums = np.zeros(1)
        for value in found:
            sums = np.concatenate([sums + value, sums - value])
        p = float(_extreme(sums, observed, alternative, float(np.abs(found).sum())).mean())
        method = f"sign-flip permutation over seeds, all 2^{n} enumerated, {alternative}"
    else:
        rng = np.random.default_rng(seed)
        flips = rng.integers(0, 2, (draws, n), dtype=np.int8)
        sums = observed - 2 * (flips @ found)
        p = (1 + int(_extreme(sums, observed, alternative, float(np.abs(found).sum())).sum())) / (1 + draws)
        method = f"sign-flip permutation over seeds, {draws} random ones, {alternative}"
    return p, method


def mean_interval(values: ArrayLike, *, confidence: float = 0.95, draws: int = 9999, seed: int = 0) -> Interval:
    """The mean and its BCa bootstrap interval (Efron 1987).

    With fewer than 3 values, or values that are all the same, there is nothing to resample: no interval, and `method` says
    why.

    Raises:
        ConfigError: no values, NaN or infinity among them, or a confidence not between 0 and 1
    """
    found = _values(values, least=1)
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence = {confidence}: must be between 0 and 1")
    n, estimate = len(found), float(found.mean())
    low = high = None
    if n < 3:
        method = f"no interval: {n} of the 3 values that a bootstrap needs at least"
    elif all_the_same(found):
        method = "no interval: all values are the same"
    elif limits := bootstrap_limits(found, draws=draws, seed=seed, confidence=confidence):
        low, high, kind = limits
        method = f"{kind} bootstrap over seeds, {draws} draws"
    else:
        method = "no interval: the bootstrap gives none"
    return Interval(n=n, estimate=estimate, low=low, high=high, confidence=confidence, method=method)


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """p-values `(n,)` adjusted for the false discovery rate (Benjamini & Hochberg 1995), in the order given.

    Raises:
        ConfigError: none, or one that is not between 0 and 1
    """
    found = _values(p, least=1, name="p")
    if ((found < 0) | (found > 1)).any():
        raise ConfigError(f"p = {found[(found < 0) | (found > 1)][0]}: must be between 0 and 1")
    return np.asarray(stats.false_discovery_control(found, method="bh"), dtype=np.float64)


def label_permutation(
    values: ArrayLike,
    labels: ArrayLike,
    *,
    seeds: ArrayLike,
    strata: ArrayLike,
    alternative: Alternative = "two-sided",
    draws: int = 2000,
    seed: int = 0,
) -> Outcome:
    """Tests whether events with a label (rewarded) have other values than comparable ones without, over several seeds.

    Comparable are events of one stratum of one seed, such as all at one end of a track. The statistic is the difference of
    the means, with minus without, averaged over a seed's strata with their numbers of events as weights, and then over
    seeds. Strata in which all events have the same label say nothing and are left out; so are seeds with only such ones.
    Under the null hypothesis labels are exchangeable within a stratum: `draws` permutations, the observed one counted among
    them. This asks about these runs; whether other seeds would show it as well is for `sign_flip` on per-seed differences.

    Arguments:
        values: one per event, `(n,)`
        labels: bool, `(n,)`
        seeds, strata: which seed and which of its strata an event belongs to, integers `(n,)`

    Raises:
        ConfigError: no events, arrays of different lengths, values not finite, or no stratum with both labels
    """
    _check_alternative(alternative)
    found = _values(values, least=1)
    chosen, units, parts = np.asarray(labels, dtype=bool), np.asarray(seeds), np.asarray(strata)
    for name, array in (("labels", chosen), ("seeds", units), ("strata", parts)):
        if array.shape != found.shape:
            raise ConfigError(f"{name}: shape {array.shape}, must be that of values, {found.shape}")
    group = np.unique(np.stack([units, parts]), axis=1, return_inverse=True)[1].reshape(-1)
    size, with_label = np.bincount(group), np.bincount(group, weights=chosen)
    useful = ((with_label > 0) & (with_label < size))[group]
    if not useful.any():
        raise ConfigError("labels: no stratum has events with and without the label; nothing can be compared")
    found, chosen, units, group = found[useful], chosen[useful], units[useful], group[useful]
    size, with_label = size[group], with_label[group]
    unit = np.unique(units, return_inverse=True)[1].reshape(-1)
    events = np.bincount(unit)
    weighted = size / events[unit] / len(events) * found
    # What an event adds to the difference if it has the label, and if not.
    gain, loss = weighted / with_label, -weighted / (size - with_label)
    observed = float(np.where(chosen, gain, loss).sum())
    rng = np.random.default_rng(seed)
    drawn = np.array([np.where(other, gain, loss).sum() for other in permuted_labels(chosen, group, draws, rng)])
    p = (1 + int(_extreme(drawn, observed, alternative, float(np.abs(gain).sum())).sum())) / (1 + draws)
    method = f"labels permuted within strata of each seed, {draws} draws, {alternative}"
    return Outcome(n=len(events), estimate=observed, low=None, high=None, p=p, method=method)


def log_rate_ratio(count: float, exposure: float, other_count: float, other_exposure: float) -> LogRatio:
    """ln((count / exposure) / (other_count / other_exposure)), such as of replays per step here and there.

    If one of the counts is 0, half an event is added to both (Haldane 1956; Anscombe 1956), and `corrected` says so.

    Raises:
        ConfigError: a negative count, an exposure that is not positive and finite, or two counts of 0, which have no ratio
    """
    for name, number in (("count", count), ("other_count", other_count)):
        if number < 0:
            raise ConfigError(f"{name} = {number}: must be at least 0")
    for name, time in (("exposure", exposure), ("other_exposure", other_exposure)):
        if not 0 < time < np.inf:
            raise ConfigError(f"{name} = {time}: must be positive and finite")
    if count == other_count == 0:
        raise ConfigError("count = other_count = 0: nothing happened at all; there is no ratio")
    corrected = count == 0 or other_count == 0
    extra = 0.5 if corrected else 0.0
    ratio = np.log((count + extra) / exposure) - np.log((other_count + extra) / other_exposure)
    return LogRatio(estimate=float(ratio), corrected=corrected)


def _values(values: ArrayLike, *, least: int, name: str = "values") -> Floats:
    """`values` as floats `(n,)`, refused if there are too few or if one is not finite."""
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise ConfigError(f"{name}: shape {found.shape}, must be one row of numbers")
    if len(found) < least:
        needed = "there must be at least one" if least == 1 else f"at least {least} seeds are needed"
        raise ConfigError(f"{name}: {len(found)} of them; {needed}")
    if not np.isfinite(found).all():
        place = int(np.flatnonzero(~np.isfinite(found))[0])
        raise ConfigError(f"{name}[{place}] = {found[place]}: must be finite")
    return found


def _check_alternative(alternative: str) -> None:
    if alternative not in ("two-sided", "greater", "less"):
        raise ConfigError(f"alternative = {alternative!r}: must be two-sided, greater or less")


def _extreme(drawn: Floats, observed: float, alternative: Alternative, scale: float) -> NDArray[np.bool_]:
    """Which drawn statistics are at least as extreme as the observed one; equal ones are, whatever the rounding."""
    slack = TIE * scale
    if alternative == "greater":
        return drawn >= observed - slack
    if alternative == "less":
        return drawn <= observed + slack
    return np.abs(drawn) >= abs(observed) - slack
