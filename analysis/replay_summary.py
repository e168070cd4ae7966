"""All measures of one run, and what several runs (seeds) say together: the numbers of `sabsim analyze`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sabsim.errors import ConfigError, RunFolderError

from . import measures
from .agent_runs import AgentRun
from .causal import CausalFraction, causal_fraction
from .credit_labels import credit_difference, permuted_credit
from .laps import TRACK, Cell, conditions, laps
from .peri_reward import PeriReward, peri_reward
from .places import Experience, PlaceMap, experience, place_map
from .recall import RecallMap, recall_map
from .replay_labels import LABELS, TESTED
from .sequences import LEVEL, Sequences, sequences
from .statistics import Interval, Outcome, benjamini_hochberg, mean_interval, sign_flip
from .task_runs import TaskRun, read_recorded

_MeasureT = TypeVar("_MeasureT")


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The measures of one run; `None` where there is nothing to measure, for the reason in `missing`."""

    run: AgentRun | TaskRun
    rates: measures.Rates | None
    lags: measures.Lags | None
    peri_reward: PeriReward | None
    causal: CausalFraction | None
    correlations: measures.CreditCorrelations | None
    credit_rewarded: float | None
    sequences: Sequences | None
    places: PlaceMap | None
    experience: Experience | None
    recall: RecallMap | None
    laps: list[Cell] | None
    conditions: list[tuple[str, Cell]] | None
    missing: dict[str, str]

    @property
    def task(self) -> bool:
        """Whether it is the run of a supervised task."""
        return isinstance(self.run, TaskRun)

    def values(self) -> dict[str, float]:
        """The numbers of `LABELS` that this run has."""
        found = _of_rates(self) | _of_reward(self) | _of_causes(self.causal) | _of_order(self)
        return {name: found[name] for name in LABELS if found.get(name) is not None}  # type: ignore[misc]


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
        RunFolderError: no run folder, a damaged one, or one without a recorded episode, step or replay
    """
    run = read_recorded(path)
    if not any(len(table["episode"]) for table in (run.steps, run.replays, run.episodes)):
        raise RunFolderError(f"'{run.run.path}': nothing is recorded (yet); train it with --record-streams 1 or more")
    missing: dict[str, str] = {}

    def attempt(name: str, measure: Callable[[], _MeasureT]) -> _MeasureT | None:
        try:
            return measure()
        except RunFolderError as error:
            missing[name] = str(error).removeprefix(f"'{run.run.path}': ")
            return None

    track = run if isinstance(run, AgentRun) and run.env == TRACK else None
    agent = isinstance(run, AgentRun)
    return RunSummary(
        run=run,
        rates=attempt("rates", lambda: measures.rates(run)),
        lags=attempt("lags", lambda: measures.lags(run)),
        peri_reward=attempt("peri_reward", lambda: peri_reward(run)),
        causal=attempt("causal_fraction", lambda: causal_fraction(run, draws=draws, seed=seed)),
        correlations=attempt("credit_correlations", lambda: measures.credit_correlations(run)),
        credit_rewarded=attempt("credit_rewarded", lambda: credit_difference(run)),
        sequences=attempt("sequences", lambda: sequences(run, draws=draws, seed=seed)),
        places=attempt("places", lambda: place_map(run)) if agent else None,
        experience=attempt("experience", lambda: experience(run, seed=seed)) if agent else None,
        recall=attempt("recall_map", lambda: recall_map(run)),
        laps=attempt("laps", lambda: laps(track)) if track else None,
        conditions=attempt("conditions", lambda: conditions(track)) if track else None,
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
    return adjusted(found)


def adjusted(found: Sequence[tuple[str, Interval, Outcome | None]]) -> list[Across]:
    """Names, intervals and tests with the q of each test, over all tests together."""
    p = [test.p for _, _, test in found if test]
    q = iter(benjamini_hochberg(p).tolist() if p else [])
    return [Across(name=name, interval=i, test=test, q=next(q) if test else None) for name, i, test in found]


def check_same(summaries: Sequence[RunSummary]) -> None:
    """Raises ConfigError: if runs differ in more than their seed, or share it; they are then no sample of anything."""
    first = summaries[0].run
    for summary in summaries[1:]:
        for part in ("kind", "env", "env_args", "mix", "task", "task_options", "learner", "optimizer", "signal"):
            here, there = (run.run.config.get(part) for run in (first, summary.run))
            if here != there:
                raise ConfigError(f"runs '{first.run.path}' and '{summary.run.run.path}' differ in {part}; only seeds may")
        for option in ("streams", "steps", "budget", "stop_at"):
            here, there = (run.run.config.get("run", {}).get(option) for run in (first, summary.run))
            if here != there:
                raise ConfigError(
                    f"runs '{first.run.path}' and '{summary.run.run.path}' differ in {option} ({here} and {there}); only "
                    "seeds may"
                )
    seeds = [summary.run.seed for summary in summaries]
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise ConfigError(f"runs: seed {twice[0]} is there twice; runs of one seed are not independent")


def reward_labels(summaries: Sequence[RunSummary], *, draws: int = 2000, seed: int = 0) -> Outcome | str:
    """Whether more credit goes back from rewarded triggers than from comparable others: `credit_labels.permuted_credit`."""
    return permuted_credit([summary.run for summary in summaries], draws=draws, seed=seed)


def _of_rates(summary: RunSummary) -> dict[str, float | None]:
    rates, lags = summary.rates, summary.lags
    return {
        "replays_per_step": rates.per_step if rates else None,
        "replays_per_episode": rates.per_episode if rates else None,
        "remindings_per_step": rates.remindings_per_step if rates else None,
        "median_lag": lags.median if lags else None,
    }


def _of_reward(summary: RunSummary) -> dict[str, float | None]:
    around, correlations = summary.peri_reward, summary.correlations
    near, matched = (around.near, around.matched) if around else (None, None)
    return {
        "near_reward": near.estimate if near else None,
        "near_reward_matched": matched.near.estimate if matched and matched.near else None,
        "at_reward_matched": matched.at.estimate if matched and matched.at else None,
        "credit_with_td_error": correlations.td_error if correlations else None,
        "credit_with_reward": correlations.reward if correlations else None,
        "credit_with_loss": correlations.loss if correlations else None,
        "credit_rewarded": summary.credit_rewarded,
    }


def _of_causes(causal: CausalFraction | None) -> dict[str, float | None]:
    if causal is None:
        return {}
    outcome, credit = causal.outcome, causal.credit
    above = None if outcome.fraction is None or outcome.uniform is None else outcome.fraction - outcome.uniform
    return {
        "causal_fraction": causal.fraction,
        "causal_above_lag_matched": causal.fraction - causal.lag_matched.mean,
        "causal_above_uniform": causal.fraction - causal.uniform.mean,
        "causal_credit": credit.observed,
        "causal_credit_above_lag_matched": credit.observed - credit.lag_matched,
        "causal_credit_above_uniform": credit.observed - credit.uniform,
        "causal_at_outcome": outcome.fraction,
        "causal_at_outcome_above_uniform": above,
    }


def _of_order(summary: RunSummary) -> dict[str, float | None]:
    order, known = summary.sequences, summary.experience
    found: dict[str, float | None] = {}
    if order:
        found |= {
            "forward": order.forward,
            "reverse": order.reverse,
            "order_above_lag_matched": order.correlation - order.drift,
            "straight_above_walk": order.beyond_walk - LEVEL,
        }
    if known:
        found["recency_above_lag_matched"] = known.recency - known.recency_matched
        if known.visits is not None and known.visits_matched is not None:
            found["visits_above_lag_matched"] = known.visits - known.visits_matched
    return found
