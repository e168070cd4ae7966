"""What the measures say to the two questions that people ask: does replay follow the signal, does it find the causal step?

Every answer comes with its null model and p, or says why nothing can be said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .compare import Difference
from .recorded import Recorded
from .replay_labels import full_label
from .replay_summary import Across, RunSummary
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
    return [_follows_signal(summaries[0], across, labels), _finds_the_causal_step(summaries, across)]


def _follows_signal(first: RunSummary, across: Sequence[Across], labels: Outcome | str) -> Answer:
    """How often replay is triggered around reward, over seeds; and how much credit it carries, in these runs."""
    question = "Does replay follow the learning signal?" if first.task else "Does replay follow reward?"
    rate, often = _how_often(first.run.marked, _named(across, "near_reward_matched"))
    credit, much = _how_much("wrong answers" if first.task else "rewarded steps", labels)
    return Answer(question=question, verdict=rate or credit or "Cannot say", sentences=[*often, *much])


def _how_often(marked: str, near: Across | None) -> tuple[str, list[str]]:
    """The verdict over seeds, empty where there is none, and what is known."""
    if near is None:
        return "", [f"How often it comes near {marked} steps cannot be said: there are no comparable steps that were not."]
    ratio = math.exp(near.interval.estimate)
    told = f"Near {marked} steps replay was {ratio:.2g} times as frequent as near comparable steps that were not"
    if near.test is None:
        return "", [f"{told}; one seed has no p."]
    found = [f"{told}; over {near.test.n} seeds p = {_p(near.test.p)} (two-sided, signs of seeds flipped)."]
    if near.test.n < _LEAST_SEEDS:
        return "", [*found, f"{near.test.n} seeds cannot reach {_LEVEL}; {_LEAST_SEEDS} can."]
    if near.test.p > _LEVEL:
        return "Not in how often", found
    return ("More often" if near.interval.estimate > 0 else "Less often"), found


def _how_much(what: str, labels: Outcome | str) -> tuple[str, list[str]]:
    """The same for credit, from the permutation of labels."""
    if isinstance(labels, str):
        return "", [f"Whether {what} send back more credit cannot be said: {labels}.", _COMPARABLE]
    found = [
        f"Replay triggered at {what} sent back {10**labels.estimate:.2g} times the credit of comparable other replay, "
        f"p = {_p(labels.p)} (two-sided; labels permuted among triggers of the same seed, part of training and position). "
        "This is about these runs; it says nothing about other seeds."
    ]
    if labels.p > _LEVEL:
        return "No sign of it", found
    return ("More credit, in these runs" if labels.estimate > 0 else "Less credit, in these runs"), found


def _finds_the_causal_step(summaries: Sequence[RunSummary], across: Sequence[Across]) -> Answer:
    question = "Does replay land on the causal step?"
    share, above = _named(across, "causal_fraction"), _named(across, "causal_above_lag_matched")
    if share is None or above is None:
        reasons = {summary.missing.get("causal_fraction", "nothing was measured") for summary in summaries}
        return Answer(question=question, verdict="Cannot say", sentences=[f"Because: {'; '.join(sorted(reasons))}."])
    matched = share.interval.estimate - above.interval.estimate
    cause = "showed what was wanted" if summaries[0].task else "earned the next reward"
    told = (
        f"{share.interval.estimate:.1%} of replays hold the step that {cause}; of sources drawn with the same lags "
        f"{matched:.1%} would."
    )
    if above.test is None:
        return _of_one_seed(question, told, summaries)
    tested = f"Over {above.test.n} seeds the difference has p = {_p(above.test.p)} (two-sided, signs of seeds flipped)."
    if above.test.n < _LEAST_SEEDS:
        few = f"{above.test.n} seeds cannot reach {_LEVEL}; {_LEAST_SEEDS} can."
        return Answer(question=question, verdict="Cannot say yet", sentences=[told, tested, few])
    verdict = "No more than its lags would"
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
    task = summaries[0].task
    seeds = [f"seed {summary.run.seed}" for summary in summaries]
    rows = [[full_label(item.name, task=task), *(number(s.values().get(item.name)) for s in summaries)] for item in across]
    tables = [NumberTable(title="Each seed", columns=["measure", *seeds], rows=rows, note="A dash: nothing to measure.")]
    if len(summaries) < 2:
        return tables
    together = [
        [
            full_label(item.name, task=task),
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


def comparison_table(differences: Sequence[Difference], *, task: bool) -> NumberTable:
    """Each number that both of two sets of runs have."""
    rows = []
    for item in differences:
        test = item.test
        limits = "-" if test is None or test.low is None else f"{number(test.low)} .. {number(test.high)}"
        figures = (number(item.here), number(item.there), limits, number(test.p if test else None), number(item.q))
        rows.append([full_label(item.name, task=task), *figures])
    return NumberTable(
        title="These runs beside those",
        columns=["measure", "these", "those", "95 % of difference", "p", "q"],
        rows=rows,
        note="Means over seeds; p: seeds permuted between the two sets; q: p adjusted for all tests of this table.",
    )


def why_left_out(run: Recorded) -> list[str]:
    """How many replays of a run are left out, for each reason."""
    beyond = len(run.beyond)
    reasons = {
        "reach beyond the beginning of their episode; only the rates count them": beyond,
        "belong to an episode whose beginning is not recorded": run.left_out - beyond,
    }
    return [f"{count} {why}" for why, count in reasons.items() if count]


def missing_measures(summaries: Sequence[RunSummary]) -> list[Missing]:
    """What could not be measured; runs that lack the same for the same reason stand together."""
    found: dict[tuple[str, str], list[str]] = {}
    for summary in summaries:
        name = summary.run.name
        for what, why in summary.missing.items():
            found.setdefault((what.replace("_", " "), why), []).append(name)
        for why in why_left_out(summary.run):
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
