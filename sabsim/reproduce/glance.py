"""All tables at a glance: each row that has a published figure, beside ours and beside the best of those without replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .figures import Figures
from .full import FULL
from .paper import PAPER, published
from .rendering import ANY_SETTING, ANY_SETTING_MEANS, escaped, figure, shown
from .store import stored_rows
from .tables import TABLES
from .transfer import stored_transfers
from .verdict import judged, verdict

TITLES = ("table", "task", "row", "paper", "ours", "verdict", "best without replay")
_MEANING = (
    "Accuracy is a share of 1, adding's error a mean square, texts are in bits per character; after how many sequences, "
    "passages or images (the median over seeds). *Best without replay*: of the rows of the same table that learn in "
    "another way, or recall without replaying."
)


def at_a_glance(results: Path) -> str:
    """Markdown, from what ``results`` holds; of what was learned at one T and played at others, only the longest T.

    Raises RunFolderError: a damaged file of results.
    """
    lines = [line for name in TABLES for line in _lines(name, results)]
    if not lines:
        return "Not run yet: `sabsim reproduce all`."
    head = [f"| {' | '.join(TITLES)} |", "| --- | --- | --- | ---: | --- | --- | --- |"]
    body = [f"| {' | '.join(escaped(cell) for cell in line)} |" for line in lines]
    return "\n".join([*head, *body, "", f"\\{ANY_SETTING} {ANY_SETTING_MEANS}. {_MEANING}"])


def _lines(name: str, results: Path) -> list[list[str]]:
    """Of one table, in its order; nothing where nothing was published, or nothing was run."""
    if TABLES[name].lengths:
        return _of_the_longest(name, results)
    rows = [item for item in stored_rows(name, results, quick=False) if item.row in _known(name)]
    without = [item for item in rows if not _known(name)[item.row]]
    best = _best(name, [(item.mean, f"{item.row}: {_score(item)}") for item in without if item.mean is not None])
    lines = []
    for item in rows:
        paper = published(name, item.row)
        if paper is not None:
            beside = best if _known(name)[item.row] else ""
            lines.append([name, _task(name), item.row, figure(paper), _score(item), verdict(name, item, paper), beside])
    return lines


def _of_the_longest(name: str, results: Path) -> list[list[str]]:
    """Of a table whose runs are played at several T: at the longest."""
    T, higher = max(TABLES[name].lengths), TABLES[name].task.higher_is_better
    there = [item for item in stored_transfers(name, results) if item.T == T and item.row in _known(name)]
    without = [(item.mean, f"{item.row}: {shown(item.mean)}") for item in there if not _known(name)[item.row]]
    lines = []
    for item in there:
        method = item.row.partition(" ")[0]
        paper = PAPER[name].get(f"{method}, T = {T}")
        if paper is not None:
            judgement = judged(item.mean, item.low, item.high, paper, higher_is_better=higher)
            beside = _best(name, without) if _known(name)[item.row] else ""
            lines.append(
                [name, f"{_task(name)}, played at {T:,}", item.row, figure(paper), shown(item.mean), judgement, beside]
            )
    return lines


def _known(name: str) -> dict[str, bool]:
    """Whether they replay, by the rows' names; a file of results may hold rows that the table has no more."""
    return {row.name: row.replays for row in TABLES[name].rows}


def _score(item: Figures) -> str:
    if item.mean is None:
        return "failed"
    return shown(item.mean) if item.sequences is None else f"{shown(item.mean)} after {item.sequences:,}"


def _best(name: str, scores: Sequence[tuple[float, str]]) -> str:
    """The best, in words."""
    if not scores:
        return "not run"
    return (max if TABLES[name].task.higher_is_better else min)(scores)[1]


def _task(name: str) -> str:
    """The task, as the table says it before it says what is measured, and its size where there are two."""
    size = ", at the paper's size" if name.endswith("-full") else ", reduced size" if name in FULL else ""
    return TABLES[name].what.partition(":")[0].partition(", played")[0] + size
