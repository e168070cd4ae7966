"""Better, equal or worse than the paper: one rule for all rows."""

from __future__ import annotations

from .figures import Figures
from .paper import Published
from .tables import TABLES

NONE, FAILED, ONE_SEED = "no figure at hand", "failed", "one seed: not judged"
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
        return FAILED
    if paper is None:
        return NONE
    if item.low is None or item.high is None:
        return ONE_SEED
    half = 0.5 * 10.0**-paper.digits
    if item.low <= paper.value + half and paper.value - half <= item.high:
        wide = (item.high - item.low) / 2 > half + _WIDE * paper.value
        word = UNCLEAR if wide else EQUAL
    else:
        word = BETTER if (item.mean > paper.value) is TABLES[table].task.higher_is_better else WORSE
    return f"{word} (stops at {item.stop_at:g})" if item.solved and item.stop_at is not None else word


def in_a_word(verdict: str) -> str:
    """The word alone, where there is little room; nothing for a row that is not judged."""
    return next((word for word in (BETTER, EQUAL, WORSE) if verdict.startswith(word)), "")
