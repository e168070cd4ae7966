"""Statistics over seeds: against scipy, against cases worked by hand, and how often they find what is not there."""

from __future__ import annotations

import numpy as np
import pytest
from sabsim.analysis.statistics import (
    benjamini_hochberg,
    label_permutation,
    log_rate_ratio,
    mean_interval,
    sign_flip,
    sign_flip_p,
)
from scipy import stats

from sabsim.errors import ConfigError

VALUES = np.array([0.3, 1.2, -0.4, 0.9, 0.1, 2.0, 0.7])


# Sign flips


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_sign_flip_equals_scipy(alternative: str) -> None:
    theirs = stats.permutation_test(
        (VALUES,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative, vectorized=True
    )
    ours = sign_flip(VALUES, alternative=alternative)  # type: ignore[arg-type]
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12)
    assert ours.estimate == pytest.approx(VALUES.mean())
    assert (ours.n, "2^7" in ours.method) == (7, True)


def test_sign_flip_by_hand() -> None:
    # Sums of +-1 +-2 +-3: 6 once, 4 once, 2 once, 0 twice, and their negatives.
    assert sign_flip([1, 2, 3]).p == 2 / 8
    assert sign_flip([1, 2, 3], alternative="greater").p == 1 / 8
    assert sign_flip([1, 2, 3], alternative="less").p == 1
    assert sign_flip([-1, 2, 3]).p == 4 / 8
    assert sign_flip([0.0, 0.0]).p == 1
    assert sign_flip([0.1, 0.2, -0.3]).p == 1


def test_random_flips_agree_with_the_t_test() -> None:
    values = np.random.default_rng(1).normal(0.4, 1, 40)
    ours = sign_flip(values, draws=20_000)
    assert ours.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert "20000 random" in ours.method
    assert sign_flip(values, draws=99, alternative="greater").p >= 1 / 100
    assert sign_flip(values, seed=3) == sign_flip(values, seed=3)
    assert sign_flip(np.ones(17), draws=999, alternative="greater").p == pytest.approx(1 / 1000)


def test_another_seed_draws_other_flips_and_other_labels() -> None:
    values = np.random.default_rng(1).normal(0.1, 1, 40)
    assert len({sign_flip_p(values, draws=999, seed=seed)[0] for seed in range(4)}) > 1
    labels, zeros = np.arange(40) % 3 == 0, np.zeros(40, int)
    found = [label_permutation(values, labels, seeds=zeros, strata=zeros, draws=99, seed=seed) for seed in range(4)]
    assert len({outcome.p for outcome in found}) > 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "1 of them; at least 2 seeds are needed"),
        ([], "0 of them; at least 2 seeds are needed"),
        ([1.0, np.nan], r"values\[1\] = nan: must be finite"),
        ([[1.0, 2.0]], r"shape \(1, 2\)"),
    ],
)
def test_sign_flip_refuses(values: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sign_flip(values)


def test_unknown_alternative() -> None:
    with pytest.raises(ConfigError, match="alternative = 'both'"):
        sign_flip(VALUES, alternative="both")  # type: ignore[arg-type]


# Intervals, many tests, ratios


def test_interval_is_scipys_bca() -> None:
    found = mean_interval(VALUES, seed=4)
    theirs = stats.bootstrap((VALUES,), np.mean, method="BCa", rng=np.random.default_rng(4), batch=1000)
    assert (found.low, found.high) == tuple(theirs.confidence_interval)
    assert found.method.startswith("BCa")


def test_an_interval_is_wider_the_more_confident_it_is() -> None:
    narrow, wide = (mean_interval(VALUES, confidence=confidence) for confidence in (0.5, 0.95))
    assert wide.low < narrow.low < narrow.high < wide.high  # type: ignore[operator]


def test_interval_says_why_there_is_none() -> None:
    few, same = mean_interval([1.0, 2.0]), mean_interval([2.0, 2.0, 2.0])
    assert (few.low, few.estimate, "2 of the 3" in few.method) == (None, 1.5, True)
    assert (same.high, same.estimate, "the same" in same.method) == (None, 2.0, True)
    with pytest.raises(ConfigError, match="there must be at least one"):
        mean_interval([])
    with pytest.raises(ConfigError, match="confidence = 2"):
        mean_interval(VALUES, confidence=2)


def test_benjamini_hochberg_by_hand() -> None:
    # Ranks 1, 3, 2 of 3: .01 * 3, .04, .03 * 3 / 2 cut down to .04.
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    with pytest.raises(ConfigError, match=r"p = 1.5"):
        benjamini_hochberg([0.1, 1.5])
    with pytest.raises(ConfigError, match="at least one"):
        benjamini_hochberg([])


def test_log_rate_ratio() -> None:
    plain = log_rate_ratio(8, 2.0, 2, 1.0)
    assert (plain.estimate, plain.corrected) == (pytest.approx(np.log(2)), False)
    zero = log_rate_ratio(0, 2.0, 3, 1.0)
    assert (zero.estimate, zero.corrected) == (pytest.approx(np.log(0.5 / 2 / 3.5)), True)
    with pytest.raises(ConfigError, match="no ratio"):
        log_rate_ratio(0, 1.0, 0, 1.0)
    with pytest.raises(ConfigError, match="exposure = 0"):
        log_rate_ratio(1, 0.0, 1, 1.0)
    with pytest.raises(ConfigError, match="other_count = -1"):
        log_rate_ratio(1, 1.0, -1, 1.0)


# Labels


def test_label_permutation_estimate_by_hand() -> None:
    # Seed 0: stratum 0 differs by 3 - 1 = 2 (4 events), stratum 1 by 10 - 4 = 6 (2 events): (2 * 4 + 6 * 2) / 6 = 10 / 3.
    # Seed 1: 1 - 0 = 1; its stratum 1 has no event without the label. Mean over seeds 13 / 6.
    values = [2, 4, 1, 1, 10, 4, 1, 0, 99]
    labels = [1, 1, 0, 0, 1, 0, 1, 0, 1]
    seeds = [0, 0, 0, 0, 0, 0, 1, 1, 1]
    strata = [0, 0, 0, 0, 1, 1, 0, 0, 1]
    found = label_permutation(values, labels, seeds=seeds, strata=strata)
    assert (found.n, found.estimate) == (2, pytest.approx(13 / 6))


def test_label_permutation_equals_scipy_in_one_stratum() -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=14), np.arange(14) < 6
    values[labels] += 0.8
    theirs = stats.permutation_test(
        (values[labels], values[~labels]),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        n_resamples=np.inf,
        alternative="greater",
        vectorized=True,
    )
    zeros = np.zeros(14, int)
    ours = label_permutation(values, labels, seeds=zeros, strata=zeros, alternative="greater", draws=5000)
    assert ours.p == pytest.approx(theirs.pvalue, abs=0.02)
    assert ours.estimate == pytest.approx(theirs.statistic)


def test_label_permutation_refuses() -> None:
    with pytest.raises(ConfigError, match="no stratum"):
        label_permutation([1, 2], [1, 0], seeds=[0, 0], strata=[0, 1])
    with pytest.raises(ConfigError, match="labels: shape"):
        label_permutation([1, 2], [1], seeds=[0, 0], strata=[0, 0])
    with pytest.raises(ConfigError, match="must be finite"):
        label_permutation([1, np.inf], [1, 0], seeds=[0, 0], strata=[0, 0])


# Calibration: how often p < .05 where there is nothing


@pytest.mark.parametrize("seeds", [8, 16])
def test_sign_flip_is_calibrated(seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its interval takes nearly all of the time and has no part in p.
    monkeypatch.setattr("sabsim.analysis.statistics.bootstrap_limits", lambda *_, **__: (0.0, 0.0, ""))
    rng = np.random.default_rng(seeds)
    # Heavy tails, as per-seed effects have them.
    found = [sign_flip(rng.standard_t(3, seeds)).p < 0.05 for _ in range(600)]
    assert np.mean(found) <= 0.07
    power = [sign_flip(rng.normal(1, 1, seeds)).p < 0.05 for _ in range(200)]
    assert np.mean(power) > 0.6


def test_pooled_laps_find_what_is_not_there() -> None:
    """Why the unit is the seed: runs differ by .5 of the spread of their laps, and no condition has an effect."""
    rng = np.random.default_rng(0)
    simulations, seeds, laps = 500, 8, 20
    effect = rng.normal(0, 0.5, (simulations, seeds, 1))
    difference = effect + rng.normal(0, 1, (simulations, seeds, laps))
    pooled = stats.ttest_1samp(difference.reshape(simulations, -1), 0, axis=1).pvalue < 0.05
    assert pooled.mean() > 0.2
    by_seed = [sign_flip(mean).p < 0.05 for mean in difference.mean(axis=2)]
    assert np.mean(by_seed) <= 0.07


def test_label_permutation_is_calibrated() -> None:
    """Strata of different heights and shares of labels, without an effect of the label itself."""
    rng = np.random.default_rng(2)
    seeds, strata = np.repeat(np.arange(4), 24), np.tile(np.repeat(np.arange(3), 8), 4)
    found = []
    for _ in range(500):
        labels = rng.random(96) < 0.3 + 0.2 * strata
        values = rng.normal(size=96) + 2 * strata + seeds
        found.append(label_permutation(values, labels, seeds=seeds, strata=strata, draws=99).p <= 0.05)
    assert np.mean(found) <= 0.07
