"""All measures of one run, and what several runs (seeds) say together: the numbers of `sabsim analyze`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import ConfigError, RunFolderError

from . import measures
from .agent_runs import AgentRun, keys, read_agent_run
from .laps import TRACK, Cell, laps
from .statistics import Interval, Outcome, benjamini_hochberg, label_permutation, mean_interval, sign_flip

_MeasureT = TypeVar("_MeasureT")

LABELS = {
    "replays_per_step": "replays per step",
    "replays_per_episode": "replays per episode",
    "median_lag": "median lag (steps)",
    "near_reward": "ln rate near / far from reward",
    "causal_fraction": "replays onto the causal step",
    "causal_above_lag_matched": "... above lag-matched sources",
    "causal_above_uniform": "... above uniform sources",
    "credit_with_td_error": "credit and |TD error|, rho",
    "credit_with_reward": "credit and |reward|, rho",
}
"""The numbers that a run gives, and what they are called."""
TESTED = ("causal_above_lag_matched", "causal_above_uniform", "credit_with_td_error", "credit_with_reward")
"""Those that are 0 if replay knows nothing, and so are tested across seeds.

`near_reward` is not: where rewards come at fixed positions, the clock of updates and the empty memory at an episode's
beginning make it anything."""
_BLOCKS = 20
"""Parts of training within which triggers are compared."""
_MOST_DRAWS = 20_000_000
"""Events times permutations of their labels, at most."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The measures of one run; `None` where there is nothing to measure, for the reason in `missing`."""

    run: AgentRun
    rates: measures.Rates | None
    lags: measures.Lags | None
    peri_reward: measures.PeriReward | None
    causal: measures.CausalFraction | None
    correlations: measures.CreditCorrelations | None
    laps: list[Cell] | None
    missing: dict[str, str]

    def values(self) -> dict[str, float]:
        """The numbers of `LABELS` that this run has."""
        near = self.peri_reward.near if self.peri_reward else None
        causal, correlations = self.causal, self.correlations
        found = {
            "replays_per_step": self.rates.per_step if self.rates else None,
            "replays_per_episode": self.rates.per_episode if self.rates else None,
            "median_lag": self.lags.median if self.lags else None,
            "near_reward": near.estimate if near else None,
            "causal_fraction": causal.fraction if causal else None,
            "causal_above_lag_matched": causal.fraction - causal.lag_matched.mean if causal else None,
            "causal_above_uniform": causal.fraction - causal.uniform.mean if causal else None,
            "credit_with_td_error": correlations.td_error if correlations else None,
            "credit_with_reward": correlations.reward if correlations else None,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Across:
    """One number over seeds: mean and interval; for those of `TESTED` with two seeds or more also the test and its q.

    `q`: p adjusted for the false discovery rate over all numbers tested here (Benjamini & Hochberg).
    """

    name: str
    interval: Interval
    test: Outcome | None
    q: float | None


def summarise(path: str | Path, *, draws: int = 200, seed: int = 0) -> RunSummary:
    """Read a run folder and measure what there is to measure; `draws` of each null, from a generator seeded by `seed`.

    Raises:
        RunFolderError: no run folder of an agent, a damaged one, or one without a recorded episode, step or replay
    """
    run = read_agent_run(path)
    if not any(len(table["episode"]) for table in (run.steps, run.replays, run.episodes)):
        raise RunFolderError(f"'{run.run.path}': nothing is recorded (yet); train it with --record-streams 1 or more")
    missing: dict[str, str] = {}

    def attempt(name: str, measure: Callable[[], _MeasureT]) -> _MeasureT | None:
        try:
            return measure()
        except RunFolderError as error:
            missing[name] = str(error).removeprefix(f"'{run.run.path}': ")
            return None

    return RunSummary(
        run=run,
        rates=attempt("rates", lambda: measures.rates(run)),
        lags=attempt("lags", lambda: measures.lags(run)),
        peri_reward=attempt("peri_reward", lambda: measures.peri_reward(run)),
        causal=attempt("causal_fraction", lambda: measures.causal_fraction(run, draws=draws, seed=seed)),
        correlations=attempt("credit_correlations", lambda: measures.credit_correlations(run)),
        laps=attempt("laps", lambda: laps(run)) if run.env == TRACK else None,
        missing=missing,
    )


def across_seeds(summaries: Sequence[RunSummary], *, seed: int = 0) -> list[Across]:
    """Each number over the runs that have it: mean, BCa interval, and the sign-flip test against 0 where 0 means nothing.

    Raises:
        ConfigError: two runs of one seed, or of different environments, learners or signals
    """
    check_same(summaries)
    found = []
    for name in LABELS:
        values = [run.values()[name] for run in summaries if name in run.values()]
        if values:
            test = sign_flip(values, seed=seed) if name in TESTED and len(values) > 1 else None
            found.append((name, mean_interval(values, seed=seed), test))
    p = [test.p for _, _, test in found if test]
    adjusted = iter(benjamini_hochberg(p).tolist() if p else [])
    return [Across(name=name, interval=i, test=test, q=next(adjusted) if test else None) for name, i, test in found]


def check_same(summaries: Sequence[RunSummary]) -> None:
    """Raises ConfigError: if runs differ in more than their seed, or share it; they are then no sample of anything."""
    first = summaries[0].run
    for summary in summaries[1:]:
        for part in ("env", "env_args", "mix", "learner", "optimizer", "signal"):
            here, there = (run.run.config.get(part) for run in (first, summary.run))
            if here != there:
                raise ConfigError(f"runs '{first.run.path}' and '{summary.run.run.path}' differ in {part}; only seeds may")
    seeds = [summary.run.seed for summary in summaries]
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise ConfigError(f"runs: seed {twice[0]} is there twice; runs of one seed are not independent")


def reward_labels(summaries: Sequence[RunSummary], *, draws: int = 2000, seed: int = 0) -> Outcome | str:
    """Whether more credit goes back from rewarded triggers (reward > 0) than from comparable others (log10 credit).

    A triggering step counts once, with the mean over its replays, which share its reward. Comparable are triggers of one
    seed, in the same twentieth of the training recorded (rewards and credit both change as the agent learns), at the same
    place of the linear track or else at the same position of their episode; labels are permuted among them. Returns the
    reason instead if there is nothing to compare.
    """
    parts = [_triggers(summary.run) for summary in summaries]
    seeds = np.concatenate([np.full(len(part[0]), number) for number, part in enumerate(parts)])
    values, labels, strata = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not len(values):
        return "no replay is recorded"
    affordable = max(99, min(draws, _MOST_DRAWS // len(values)))
    try:
        return label_permutation(values, labels, seeds=seeds, strata=strata, draws=affordable, seed=seed)
    except ConfigError as error:
        return str(error).removeprefix("labels: ")


def _triggers(run: AgentRun) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Of each triggering step: mean log10 credit, whether it was rewarded, and its stratum, `(triggers,)`."""
    replays = run.replays
    use = (replays["credit"] > 0) & np.isfinite(replays["reward"])
    if run.env == TRACK:
        use &= replays["row"] >= 0
    replays = {name: column[use] for name, column in replays.items()}
    _, first, trigger = np.unique(keys(replays["stream"], replays["step"]), return_index=True, return_inverse=True)
    credit = np.bincount(trigger, weights=np.log10(replays["credit"])) / np.bincount(trigger)
    comparable = run.steps["place"][replays["row"][first]] if run.env == TRACK else replays["position"][first]
    step = replays["step"][first]
    block = _BLOCKS * step // (step.max(initial=0) + 1)
    return credit, replays["reward"][first] > 0, _BLOCKS * comparable.astype(np.int64) + block


def as_json(summaries: Sequence[RunSummary], across: Sequence[Across], labels: Outcome | str) -> dict[str, Any]:
    """Everything as JSON can hold it; rates of the linear track are in the CSV tables."""
    runs = []
    for summary in summaries:
        run, causal = summary.run, summary.causal
        runs.append(
            {
                "run": run.name,
                "env": run.env,
                "seed": run.seed,
                "finished": bool(run.run.summary),
                "recorded": {name: len(table["stream"]) for name, table in _tables(run).items()},
                "left_out": run.left_out,
                "values": summary.values(),
                "causal": asdict(causal) if causal else None,
                "missing": summary.missing,
            }
        )
    return {
        "runs": runs,
        "across": {
            item.name: {
                "label": LABELS[item.name],
                "interval": asdict(item.interval),
                "test": asdict(item.test) if item.test else None,
                "q": item.q,
            }
            for item in across
        },
        "log10_credit_rewarded_minus_others": labels if isinstance(labels, str) else asdict(labels),
    }


def _tables(run: AgentRun) -> dict[str, dict[str, Any]]:
    return {"steps": run.steps, "replays": run.replays, "episodes": run.episodes}
