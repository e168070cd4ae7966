"""What the measures say to the two questions that people ask: does replay follow reward, does it find the causal step?

Every answer comes with its null model and p, or says why nothing can be said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .replay_summary import LABELS, Across, RunSummary
from .report.parts import Answer, Missing, NumberTable
from .statistics import Outcome

_LEVEL = 0.05
_LEAST_SEEDS = 6
"""Fewer cannot reach 0.05 when signs are flipped, two-sided."""

_COMPARABLE = (
    "Compared are steps of one seed, part of training and position in the episode that triggered replay; of each such "
    "stratum some must have been rewarded and others not."
)


def replay_answers(summaries: Sequence[RunSummary], across: Sequence[Across], labels: Outcome | str) -> list[Answer]:
    """The answers for the top of a report, in the order of reading."""
    return [_follows_reward(across, labels), _finds_the_causal_step(summaries, across)]


def _follows_reward(across: Sequence[Across], labels: Outcome | str) -> Answer:
    question = "Does replay follow reward?"
    near = _named(across, "near_reward")
    described = []
    if near is not None:
        ratio = math.exp(near.interval.estimate)
        described = [
            f"Within a window of a paid step replay was {ratio:.2g} times as frequent as elsewhere. That is a description, "
            "not a test: the clock of updates and the empty memory at an episode's beginning move this ratio too."
        ]
    if isinstance(labels, str):
        return Answer(question=question, verdict="Cannot say", sentences=[f"Because: {labels}.", _COMPARABLE, *described])
    tested = (
        f"Steps that triggered replay and were rewarded sent back {10**labels.estimate:.2g} times the credit of comparable "
        f"ones that were not, p = {_p(labels.p)} (two-sided; labels permuted among triggers of the same seed, part of "
        "training and position). This is about these runs; it says nothing about other seeds."
    )
    if labels.p > _LEVEL:
        verdict = "No sign of it"
    else:
        verdict = "More credit, in these runs" if labels.estimate > 0 else "Less credit, in these runs"
    return Answer(question=question, verdict=verdict, sentences=[tested, *described])


def _finds_the_causal_step(summaries: Sequence[RunSummary], across: Sequence[Across]) -> Answer:
    question = "Does replay land on the causal step?"
    share, above = _named(across, "causal_fraction"), _named(across, "causal_above_lag_matched")
    if share is None or above is None:
        reasons = {summary.missing.get("causal_fraction", "nothing was measured") for summary in summaries}
        return Answer(question=question, verdict="Cannot say", sentences=[f"Because: {'; '.join(sorted(reasons))}."])
    matched = share.interval.estimate - above.interval.estimate
    told = (
        f"{share.interval.estimate:.1%} of replays hold the step that earned the next reward; of sources drawn with the "
        f"same lags {matched:.1%} would."
    )
    if above.test is None:
        return _of_one_seed(question, told, summaries)
    tested = f"Over {above.test.n} seeds the difference has p = {_p(above.test.p)} (two-sided, signs of seeds flipped)."
    if above.test.n < _LEAST_SEEDS:
        few = f"{above.test.n} seeds cannot reach {_LEVEL}; {_LEAST_SEEDS} can."
        return Answer(question=question, verdict="Cannot say yet", sentences=[told, tested, few])
    verdict = "No more than chance"
    if above.test.p <= _LEVEL:
        verdict = "More often than chance" if above.interval.estimate > 0 else "Less often than chance"
    return Answer(question=question, verdict=verdict, sentences=[told, tested])


def _of_one_seed(question: str, told: str, summaries: Sequence[RunSummary]) -> Answer:
    """Within one run the null's draws still tell what this run's lags alone would give."""
    found = next(summary.causal for summary in summaries if summary.causal)
    null = found.lag_matched
    inside = null.low <= found.fraction <= null.high
    verdict = (
        "No more than its lags would" if inside else "In this run, " + ("more" if found.fraction > null.high else "less")
    )
    band = f"95 % of the null's draws lie between {null.low:.1%} and {null.high:.1%} ({found.n:,} replays)."
    return Answer(question=question, verdict=verdict, sentences=[told, band, "One seed says nothing about other seeds."])


def replay_tables_shown(summaries: Sequence[RunSummary], across: Sequence[Across]) -> list[NumberTable]:
    """The numbers of each seed, and what the seeds say together."""
    seeds = [f"seed {summary.run.seed}" for summary in summaries]
    rows = [[LABELS[item.name], *(number(s.values().get(item.name)) for s in summaries)] for item in across]
    tables = [NumberTable(title="Each seed", columns=["measure", *seeds], rows=rows, note="A dash: nothing to measure.")]
    if len(summaries) < 2:
        return tables
    together = [
        [
            LABELS[item.name],
            number(item.interval.estimate),
            _interval(item),
            number(item.test.p if item.test else None),
            number(item.q),
        ]
        for item in across
    ]
    tables.append(
        NumberTable(
            title=f"Over {len(summaries)} seeds",
            columns=["measure", "mean", "95 % interval", "p", "q"],
            rows=together,
            note=(
                "Interval: BCa bootstrap over seeds (three or more). p: signs of per-seed values flipped, "
                "two-sided, for those that are 0 if replay knows nothing. q: p adjusted for all tests of this table "
                "(Benjamini and Hochberg)."
            ),
        )
    )
    return tables


def missing_measures(summaries: Sequence[RunSummary]) -> list[Missing]:
    """What could not be measured; runs that lack the same for the same reason stand together."""
    found: dict[tuple[str, str], list[str]] = {}
    for summary in summaries:
        name = summary.run.name
        for what, why in summary.missing.items():
            found.setdefault((what.replace("_", " "), why), []).append(name)
        if summary.run.left_out:
            why = f"{summary.run.left_out} belong to an episode whose beginning is not recorded"
            found.setdefault(("some replays", why), []).append(name)
    return [Missing(what=what, run=", ".join(names), why=why) for (what, why), names in found.items()]


def number(value: float | None) -> str:
    """Three digits, or a dash where there is none."""
    return "-" if value is None else f"{value:.3g}"


def _interval(item: Across) -> str:
    interval = item.interval
    return "-" if interval.low is None else f"{number(interval.low)} .. {number(interval.high)}"


def _named(across: Sequence[Across], name: str) -> Across | None:
    return next((item for item in across if item.name == name), None)


def _p(p: float) -> str:
    return f"{p:.2g}"
