"""How often each test finds what is not there, and how often what is: type-I error and power of `sabsim analyze`.

    python benchmarks/calibration.py --simulations 500 --out results/calibration

Each row simulates experiments of 16 seeds (or as it says) and tests each. Under the null there is everything that real runs
have and that could deceive (seeds that differ, the clock of updates, a drift of sources), but not the effect. Power is at
the effect of the published size where there is one: Ambrose, Pfeiffer & Foster 2016 as used by Mattar & Daw 2018,
difference between the ends in the 4x session, reverse -36 % before and +56 % after, forward -11 % and -3 %. Naive tests,
which are not shipped, are there as controls: they fail.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from numpy.typing import NDArray
from sabsim.analysis.agent_runs import AgentRun
from sabsim.analysis.causal import causal_fraction
from sabsim.analysis.compare import permutation_p
from sabsim.analysis.folders import Run
from sabsim.analysis.nulls import column_rotation, time_swap
from sabsim.analysis.peri_reward import peri_reward
from sabsim.analysis.scores import weighted_correlation
from sabsim.analysis.sensitivity import gee_rate
from sabsim.analysis.sequences import TRIGGERS, exceeded
from sabsim.analysis.statistics import label_permutation, sign_flip_p
from scipy import stats

from sabsim.runs.machine import made_by

Rng = np.random.Generator
Floats = NDArray[np.float64]
SEEDS, LAPS = 16, 20
REVERSE, FORWARD = (np.log(0.64), np.log(1.56)), (np.log(0.89), np.log(0.97))
"""Log-rate ratio of the changed end to the other, before and after the change."""
EFFECT = (REVERSE[1] - REVERSE[0]) - (FORWARD[1] - FORWARD[0])
"""The direction-by-reward interaction of the published size."""


@dataclass(frozen=True)
class Row:
    """A test: `null(rng)` and `effect(rng)` give its p of one simulated experiment; `shipped`: whether it is to hold."""

    name: str
    null: Callable[[Rng], float]
    effect: Callable[[Rng], float] | None
    shipped: bool = True
    what: str = ""


@dataclass(frozen=True)
class Rate:
    """Share of p < .05 and its 95 % interval (Wilson)."""

    share: float
    low: float
    high: float


# The Ambrose design: counts of two directions at two ends before and after, by seed and lap


def track(rng: Rng, effect: float) -> Floats:
    """Counts `(seeds, laps, direction, end, epoch)`: forward and reverse; other and changed end; before and after.

    Rates differ by seed (log-normal, .5), in each cell of a seed (.3) and by lap (gamma); reverse replay is commoner, the
    changed end gets longer visits after the change, and only the interaction is the effect.
    """
    mean = np.zeros((SEEDS, 1, 2, 2, 2)) + np.log([0.6, 1.2])[:, None, None]
    mean[..., 1, 1] += 0.3
    mean[..., 1, 1, 1] += effect
    mean += rng.normal(0, 0.5, (SEEDS, 1, 1, 1, 1)) + rng.normal(0, 0.3, (SEEDS, 1, 2, 2, 2))
    return rng.poisson(np.exp(mean) * rng.gamma(2, 0.5, (SEEDS, LAPS, 2, 2, 2))).astype(np.float64)


def interaction(count: Floats) -> Floats:
    """The direction-by-end-by-epoch interaction of log rates, by seed; half an event is added to each cell."""
    rate = np.log(count.sum(axis=1) + 0.5)
    contrast = np.diff(np.diff(np.diff(rate, axis=3), axis=2), axis=1)
    return contrast.reshape(SEEDS)


def sign_flip_interaction(effect: float) -> Callable[[Rng], float]:
    return lambda rng: sign_flip_p(interaction(track(rng, effect)))[0]


def _design() -> tuple[Floats, NDArray[np.int64]]:
    direction, end, epoch = (axis.ravel() for axis in np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"))
    pairs = (direction * end, direction * epoch, end * epoch, direction * end * epoch)
    return np.tile(np.stack([direction, end, epoch, *pairs], axis=1), (SEEDS, 1)).astype(float), np.repeat(range(SEEDS), 8)


def gee_interaction(effect: float) -> Callable[[Rng], float]:
    design, seeds = _design()

    def test(rng: Rng) -> float:
        count = track(rng, effect).sum(axis=1).ravel()
        return gee_rate(count, np.full(len(count), float(LAPS)), design, seeds=seeds).p

    return test


def naive_gee(rng: Rng) -> float:
    """The usual sandwich covariance and the normal distribution, of 8 seeds and the changed end alone."""
    count = track(rng, 0.0)[:8, :, 1].sum(axis=1).reshape(8, 4).ravel()
    design, seeds = np.tile([[1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], (8, 1)), np.repeat(range(8), 4)
    return float(sm.GEE(count + 0.01, design, groups=seeds, family=sm.families.Poisson()).fit().pvalues[-1])


def pooled_laps(rng: Rng) -> float:
    """Rank-sum of laps of all seeds: reverse replay at the changed end minus the other, after against before."""
    count = track(rng, 0.0)
    difference = count[:, :, 1, 1] - count[:, :, 1, 0]
    # Dwelling at the changed end is no effect of replay: rates are divided by it, so that only seeds deceive.
    difference = count[:, :, 1, 1] / np.array([1.0, np.exp(0.3)]) - count[:, :, 1, 0]
    return float(stats.ranksums(difference[..., 1].ravel(), difference[..., 0].ravel()).pvalue)


# Runs made up step by step


def made_up(rng: Rng, *, knows: float, episodes: int = 24, length: int = 25, window: int = 5) -> AgentRun:
    """A run whose rewards and replays both follow the clock: paid and triggering steps depend on the position alone.

    `knows`: how much likelier a trigger is in the window of a paid step, as a log rate; and how often a source is the
    causal step, `1 - exp(-knows)`. Other lags are geometric, within what the episode allows.
    """
    position = np.tile(np.arange(length), episodes)
    chance = 0.15 + 0.5 * (position % window == window - 1) + 0.2 * (position > length / 2)
    paid = rng.random(len(position)) < np.clip(chance, 0, 0.85)
    near = np.convolve(paid, np.ones(window), mode="same") > 0
    rate = (position >= window) * (0.2 + 0.8 * (position % window == 2)) * rng.gamma(8, 1 / 8)
    count = rng.poisson(rate * np.exp(knows * near))
    step, episode = np.arange(len(position)), np.repeat(np.arange(episodes), length)
    row = np.repeat(step, count)
    causal = np.repeat(rng.integers(0, window, episodes), length)
    within = 1 - 0.9 ** position[row]
    lag = np.ceil(np.log1p(-rng.random(len(row)) * within) / np.log(0.9)).astype(int).clip(1)
    hit = rng.random(len(row)) < 1 - np.exp(-knows)
    lag = np.where(hit, np.maximum(position[row] - causal[row], 1), lag)
    zeros = np.zeros(len(step))
    steps = {
        "step": step,
        "stream": zeros.astype(int),
        "episode": episode,
        "position": position,
        "reward": paid.astype(float),
    }
    steps |= {"place": zeros * np.nan, "replays": np.bincount(row, minlength=len(step))}
    steps["causal_step"] = np.where(position == length - 1, causal, -1)
    replays = {name: steps[name][row] for name in ("step", "stream", "episode", "position", "reward")}
    replays |= {"lag": lag, "row": row, "replayed_steps": np.ones(len(row), int), "credit": rng.lognormal(0, 1, len(row))}
    ended = {"stream": np.zeros(episodes, int), "episode": np.arange(episodes), "length": np.full(episodes, length)}
    config = {"env": "made-up", "env_args": {}, "learner": {"window": window, "credit": "sab"}, "run": {"seed": 0}}
    return AgentRun(Run(Path("made-up"), config, {}), steps, replays, {}, ended, 0)


def per_seed(measure: Callable[[AgentRun], float], knows: float) -> Callable[[Rng], float]:
    """Sign flips of a measure of `SEEDS` made-up runs, each of which knows as much or somewhat more or less."""

    def test(rng: Rng) -> float:
        return sign_flip_p([measure(made_up(rng, knows=knows * rng.gamma(4, 1 / 4))) for _ in range(SEEDS)])[0]

    return test


def near_matched(run: AgentRun) -> float:
    matched = peri_reward(run, reach=5).matched
    return matched.near.estimate if matched and matched.near else 0.0


def near_naive(run: AgentRun) -> float:
    near = peri_reward(run, reach=5).near
    return near.estimate if near else 0.0


def causal_above(run: AgentRun) -> float:
    found = causal_fraction(run, draws=20)
    return found.fraction - found.lag_matched.mean


def labels_permuted(effect: float, *, comparable: bool = True) -> Callable[[Rng], float]:
    """Credit of rewarded triggers; rewards and credit both grow in training. Strata are its parts, or none."""

    def test(rng: Rng) -> float:
        seeds, part = np.repeat(np.arange(4), 60), np.tile(np.repeat(np.arange(5), 12), 4)
        label = rng.random(240) < 0.15 + 0.15 * part
        value = rng.normal(0.6 * part + 0.5 * seeds, 1) + effect * label
        strata = part if comparable else np.zeros(240, int)
        return label_permutation(value, label, seeds=seeds, strata=strata, draws=199, seed=int(rng.integers(2**31))).p

    return test


def circular_shift(rng: Rng) -> float:
    """One run of triggers at lap ends, whatever these pay: reward times shifted around the run."""
    ends = np.cumsum(rng.integers(6, 15, 200))
    trigger = np.zeros(ends[-1] + 10)
    trigger[ends[rng.random(200) < 0.7]] = 1
    paid = ends[rng.random(200) < 0.5]
    near = np.array([np.roll(trigger, shift)[paid].sum() for shift in rng.integers(3, ends[-1], 199)])
    return (1 + (near >= trigger[paid].sum()).sum()) / 200


# Sequences


def walks(rng: Rng, count: int, times: int = TRIGGERS) -> NDArray[np.int64]:
    """Sources that wander over 20 places, `(count, times)`."""
    step = rng.choice([-3, -2, -1, 1, 2, 3], (count, times - 1))
    return np.clip(10 + np.concatenate([np.zeros((count, 1), int), np.cumsum(step, axis=1)], axis=1), 0, 19)


def shuffled(shuffle: Callable[..., object]) -> Callable[[Rng], float]:
    """One event of a random walk of 12 times against a shuffle of its matrix, by |weighted correlation|."""

    def test(rng: Rng) -> float:
        matrix = np.full((20, 12), 0.01)
        matrix[walks(rng, 1, 12)[0], np.arange(12)] += 1
        drawn = np.abs(weighted_correlation(np.stack(list(shuffle(matrix, 99, rng)))))  # type: ignore[call-overload]
        return float((1 + (drawn >= np.abs(weighted_correlation(matrix)) - 1e-12).sum()) / 100)

    return test


def straighter(share: float) -> Callable[[Rng], float]:
    """Share of straight events of each seed against random walks; `share` of the events are straight lines."""
    time = np.arange(TRIGGERS) - (TRIGGERS - 1) / 2

    def r(source: NDArray[np.int64]) -> Floats:
        apart = source - source.mean(axis=-1, keepdims=True)
        size = np.sqrt((apart**2).sum(axis=-1) * (time**2).sum())
        return np.abs(np.divide(apart @ time, size, out=np.zeros(size.shape), where=size > 0))

    def test(rng: Rng) -> float:
        above = []
        for _ in range(SEEDS):
            source = walks(rng, 40)
            source[rng.random(40) < share] = 4 + 3 * np.arange(TRIGGERS)
            null = r(np.stack([walks(rng, 40) for _ in range(99)]))
            above.append(float((exceeded(r(source), null, rng) <= 0.05).mean()) - 0.05)
        return sign_flip_p(above)[0]

    return test


def two_sets(effect: float) -> Callable[[Rng], float]:
    """8 seeds beside 8, with heavy tails; the effect in standard deviations."""
    return lambda rng: permutation_p(rng.standard_t(4, 8) + effect * np.sqrt(2), rng.standard_t(4, 8), draws=999)


ROWS = (
    Row("sign flips of the direction-by-reward interaction", sign_flip_interaction(0), sign_flip_interaction(EFFECT)),
    Row("GEE, bias-reduced, t(S-1), the same interaction", gee_interaction(0), gee_interaction(EFFECT)),
    Row("replay near reward, matched; sign flips", per_seed(near_matched, 0), per_seed(near_matched, 0.44), what="+56 %"),
    Row("causal share above lag-matched; sign flips", per_seed(causal_above, 0), per_seed(causal_above, 0.1), what="10 %"),
    Row("reward labels among comparable triggers", labels_permuted(0), labels_permuted(0.44), what="0.44 SD"),
    Row("straight events above random walks; sign flips", straighter(0), straighter(0.1), what="10 % are lines"),
    Row("two sets of 8 seeds, permutation", two_sets(0), two_sets(1.5), what="1.5 SD"),
    Row("naive: rank-sum of pooled laps", pooled_laps, None, shipped=False),
    Row("naive: GEE, usual sandwich, normal, 8 seeds", naive_gee, None, shipped=False),
    Row("naive: near / far from reward; sign flips", per_seed(near_naive, 0), None, shipped=False),
    Row("naive: reward labels among all triggers", labels_permuted(0, comparable=False), None, shipped=False),
    Row("naive: circular shift of rewards at lap ends", circular_shift, None, shipped=False),
    Row("naive: time swap, random-walk sources, one event", shuffled(time_swap), None, shipped=False),
    Row("naive: column rotation, random-walk sources, one event", shuffled(column_rotation), None, shipped=False),
)


def rate(test: Callable[[Rng], float], simulations: int, seed: int) -> Rate:
    """Share of experiments with p < .05; each has a generator of its own."""
    found = [test(np.random.default_rng([seed, number])) < 0.05 for number in range(simulations)]
    limits = stats.binomtest(int(np.sum(found)), simulations).proportion_ci(method="wilson")
    return Rate(share=float(np.mean(found)), low=float(limits.low), high=float(limits.high))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/calibration"))
    options = parser.parse_args()
    began, rows = time.process_time(), []
    for row in ROWS:
        null = rate(row.null, options.simulations, options.seed)
        power = rate(row.effect, options.simulations, options.seed + 1) if row.effect else None
        rows.append(
            {"test": row.name, "shipped": row.shipped, "null": asdict(null), "power": asdict(power) if power else None}
            | {"effect": row.what or ("published size" if row.effect else "")}
        )
        print(f"{row.name}: type-I error {null.share:.3f}, power {f'{power.share:.3f}' if power else '-'}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    told = {"simulations": options.simulations, "seeds": SEEDS, "level": 0.05, "seed": options.seed, "rows": rows}
    told |= {"command": f"python benchmarks/calibration.py --simulations {options.simulations} --seed {options.seed}"}
    told |= {"cpu_seconds": round(time.process_time() - began, 1), "made_by": made_by()}
    (options.out / "calibration.json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
