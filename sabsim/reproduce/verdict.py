"""Better, equal or worse than the paper: one rule for all rows."""

from __future__ import annotations

from math import isfinite

from .figures import Figures
from .paper import Published
from .tables import TABLES

NONE, FAILED, UNFINISHED, ONE_SEED = "no figure at hand", "failed", "not finished", "one seed: not judged"
UNCLEAR = "seeds differ too much"
_WIDE = 0.1
"""An interval that reaches further than this share of the paper's figure is no sign of being equal to it."""
BETTER, EQUAL, WORSE = "better", "equal", "worse"

RULE = (
    "*Equal*: the paper's figure, give or take half a unit of its last digit, meets our 95 % interval over seeds "
    "(Student's t, cut at what the score can be); but *seeds differ too much* if that interval reaches further than a "
    "tenth of the paper's figure to either side. *Better* or *worse*: it lies outside, on that side. A row that stops "
    "when it has solved the task cannot show by how much it would have been better: it is then said at which score it "
    "stops."
)
"""The rule in words."""


def verdict(table: str, item: Figures, paper: Published | None) -> str:
    """What the rule says of one row of ``table``."""
    if item.mean is None:
        return without_score(item)
    if not isfinite(item.mean):
        return FAILED
    seeds = len(item.scores) + len(item.failures) + len(item.unfinished)
    lacking = f"; {len(item.failures)} of {seeds} seeds failed" if item.failures else ""
    lacking += f"; {len(item.unfinished)} of {seeds} seeds not finished" if item.unfinished else ""
    if paper is None:
        return NONE + lacking
    word = judged(item.mean, item.low, item.high, paper, higher_is_better=TABLES[table].task.higher_is_better)
    stops = item.solved and item.stop_at is not None and word != ONE_SEED
    return (f"{word} (stops at {item.stop_at:g})" if stops else word) + lacking


def without_score(item: Figures) -> str:
    """What is said of a row that has no score."""
    return UNFINISHED if item.unfinished and not item.failures else FAILED


def judged(mean: float, low: float | None, high: float | None, paper: Published, *, higher_is_better: bool) -> str:
    """The rule itself, of a mean over seeds and the limits of its interval, both None for one seed."""
    if low is None or high is None:
        return ONE_SEED
    half = 0.5 * 10.0**-paper.digits
    if low <= paper.value + half and paper.value - half <= high:
        wide = max(mean - low, high - mean) > half + _WIDE * paper.value
        return UNCLEAR if wide else EQUAL
    return BETTER if (mean > paper.value) is higher_is_better else WORSE


def in_a_word(verdict: str) -> str:
    """The word alone, where there is little room; nothing for a row that is not judged."""
    return next((word for word in (BETTER, EQUAL, WORSE) if verdict.startswith(word)), "")
