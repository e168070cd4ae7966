"""Whether a run has learned: its score beside what it was untrained, or what chance gives, with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scipy import stats

from sabsim.errors import RunFolderError

from ..folders import Run

_NORMAL = 1.96
"""Standard errors in half a 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well one run does.

    ``name`` of what is measured; ``estimate`` with its 95 % interval (``None`` where there is none) over ``cases``, in
    words; ``before``: the same without learning (``None`` where unknown), and ``without``, what that is. ``share``: whether
    it is one of cases, to be shown in percent. ``better``: 1 if more is better, else -1. ``aside``: what else
    has changed, in a sentence.
    """

    name: str
    estimate: float
    low: float | None
    high: float | None
    cases: str
    before: float | None
    without: str
    share: bool
    better: int = 1
    aside: str = ""

    def undecided(self) -> str:
        """Why the score cannot tell whether the run has learned; empty if it can."""
        if self.low is None or self.high is None:
            return "There is no interval."
        if self.before is None:
            return "There is no score without learning to hold it against."
        if self.low == self.high == self.before:
            return "It is the same in every episode, learned or not, and cannot show learning."
        return ""

    def learned(self) -> bool:
        """Whether the whole interval is better than without learning."""
        if self.low is None or self.high is None or self.before is None:
            return False
        return self.low > self.before if self.better > 0 else self.high < self.before


def score(run: Run) -> Score:
    """The final evaluation; of a run that is still going on, the last one so far.

    Raises RunFolderError: if there is no evaluation yet, or the database cannot be read.
    """
    return _agent(run) if run.agent else _supervised(run)


def _agent(run: Run) -> Score:
    """Success where the environment tells it, or else the return."""
    rows = run.rows(
        "SELECT env_steps, episodes, judged, success, return, length FROM metrics "
        "WHERE split IN ('evaluation', 'final') ORDER BY id"
    )
    if not rows:
        raise RunFolderError(f"'{run.path}': no evaluation yet")
    steps, episodes, judged, success, mean, length = rows[-1]
    share = bool(judged) and success is not None
    final = _final(run, "success" if share else "return")
    if final:
        estimate, low, high = (final.get(key) for key in ("estimate", "low", "high"))
    elif share:
        wilson = stats.binomtest(round(success * judged), judged).proportion_ci(method="wilson")
        estimate, low, high = success, float(wilson.low), float(wilson.high)
    else:
        estimate, low, high = mean, None, None
    if estimate is None:
        raise RunFolderError(f"'{run.path}': no evaluation episode has ended yet")
    untrained = rows[0] if rows[0][0] == 0 else None
    so_far = "" if final else f", the last ones so far, after {steps:,} steps"
    return Score(
        name="success" if share else "return",
        estimate=float(estimate),
        low=low,
        high=high,
        cases=f"{judged if share else episodes:,} evaluation episodes{so_far}",
        before=untrained[3 if share else 4] if untrained else None,
        without="untrained",
        share=share,
        aside=_lengths(length, untrained[5] if untrained else None),
    )


def _lengths(length: float | None, before: float | None) -> str:
    """How long episodes are, where that has changed."""
    if length is None or before is None or length == before:
        return ""
    return f"An episode took {length:,.0f} steps on average; untrained: {before:,.0f}."


def _final(run: Run, name: str) -> dict[str, Any]:
    """The figures of summary.json; none while the run goes on."""
    evaluation = run.summary.get("evaluation")
    found = evaluation.get(name) if isinstance(evaluation, dict) else None
    return found if isinstance(found, dict) else {}


def _supervised(run: Run) -> Score:
    """The task's metric on held-out sequences, beside what needs no learning, or was there before it."""
    rows = run.rows(
        "SELECT sequences, evaluated, metric FROM metrics "
        "WHERE split IN ('held-out', 'final') AND metric IS NOT NULL ORDER BY id"
    )
    if not rows:
        raise RunFolderError(f"'{run.path}': no held-out evaluation yet")
    sequences, evaluated, estimate = rows[-1]
    name = run.metric
    error = run.summary.get("standard_error")
    known = {words.removesuffix(f" {name}"): value for words, value in run.baselines.items()}
    without, before = next(iter(known.items()), ("untrained", rows[0][2] if rows[0][0] == 0 else None))
    so_far = "" if run.summary else f", the last ones so far, after {sequences:,} training sequences"
    return Score(
        name=f"held-out {name}",
        estimate=estimate,
        low=None if error is None else max(0.0, estimate - _NORMAL * error),
        high=None if error is None else estimate + _NORMAL * error,
        cases=f"{evaluated:,} held-out sequences{so_far}",
        before=before,
        without=without,
        share=name == "accuracy",
        better=1 if name == "accuracy" else -1,
    )
