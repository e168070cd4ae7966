"""A table in words: its rows beside the paper's figures, as Markdown, CSV and on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from sabsim.runs.progress import duration

from .figures import Figures, Maker
from .paper import Published, published
from .tables import TABLES
from .verdict import verdict, without_score

TITLES = ("row", "paper", "ours", "95 % interval", "seeds", "solved", "sequences", "time", "macrostate, kB", "verdict")
"""Sequences and time are medians over seeds; the macrostate is that of all streams."""

ANY_SETTING = "*"
"""Marks a figure of the paper that is not known to be of this very row."""
ANY_SETTING_MEANS = "the paper's best figure, or of a setting that is not known"


def cells(table: str, item: Figures, *, quick: bool) -> list[str]:
    """A line of the table in words, under ``TITLES``; a scaled-down row is not judged."""
    seeds = len(item.scores) + len(item.failures) + len(item.unfinished)
    paper = published(table, item.row)
    limits = "" if item.low is None or item.high is None else f"{shown(item.low)}..{shown(item.high)}"
    return [
        item.row,
        "-" if paper is None else figure(paper),
        without_score(item) if item.mean is None else shown(item.mean),
        limits,
        str(seeds),
        "" if item.solved is None else f"{item.solved} of {seeds}",
        "" if item.sequences is None else f"{item.sequences:,}",
        "" if item.seconds is None else duration(item.seconds),
        "" if item.memory is None else f"{item.memory / 1e3:,.0f}",
        "" if quick else verdict(table, item, paper),
    ]


def figure(paper: Published) -> str:
    """A published figure, marked if it is not known to be of this very row."""
    return f"{paper}{'' if paper.same_setting else ANY_SETTING}"


def as_markdown(name: str, rows: Sequence[Figures], *, quick: bool) -> str:
    """The table as Markdown under its title."""
    size = " - quick: scaled down, says nothing about the paper" if quick else ""
    return f"## {name}: {TABLES[name].what}{size}\n\n{body(name, rows, quick=quick)}\n"


def body(name: str, rows: Sequence[Figures], *, quick: bool = False) -> str:
    """Rows, what is not as in the paper, what failed, and what made them; no title."""
    lines = [f"| {' | '.join(TITLES)} |", f"| --- | {' | '.join('---:' for _ in TITLES[1:-1])} | --- |"]
    lines += [f"| {' | '.join(escaped(cell) for cell in cells(name, item, quick=quick))} |" for item in rows]
    papers = [published(name, item.row) for item in rows]
    if any(paper is not None and not paper.same_setting for paper in papers):
        lines += ["", f"\\{ANY_SETTING} {ANY_SETTING_MEANS}."]
    if TABLES[name].note:
        lines += ["", TABLES[name].note]
    for title, of in (("Failed", "failures"), ("Not finished", "unfinished")):
        told = [f"- {item.row}, seed {seed}: {escaped(why)}" for item in rows for seed, why in getattr(item, of).items()]
        lines += ["", f"{title}:", "", *told] if told else []
    lines += ["", "<details><summary>Made by</summary>", "", *_made_by(rows), "", "</details>"]
    return "\n".join(lines)


def _made_by(rows: Sequence[Figures]) -> list[str]:
    """The commands, then what made which rows."""
    lines = [f"- `{command}`" for command in dict.fromkeys(item.command for item in rows) if command is not None]
    alike: dict[str, list[str]] = {}
    for item in rows:
        for maker in item.made_by:
            seeds = "" if maker.seeds == tuple(item.scores) else f" (seed {', '.join(str(seed) for seed in maker.seeds)})"
            alike.setdefault(_maker(maker), []).append(item.row + seeds)
    return lines + [f"- {made}: {'; '.join(names)}" for made, names in alike.items()]


def _maker(maker: Maker) -> str:
    device = "" if maker.device == "cpu" else f" ({maker.device})"
    dates = " to ".join(dict.fromkeys(date[:10] for date in maker.dates))
    return f"sabsim {maker.sabsim} at {maker.git[:7]}, torch {maker.torch}, {maker.machine}{device}, {dates}"


def escaped(cell: str) -> str:
    """As Markdown shows it as it is."""
    return cell.replace("|", "\\|").replace(ANY_SETTING, f"\\{ANY_SETTING}")


def shown(number: float) -> str:
    """To four decimals, small ones to two digits."""
    return f"{number:.4f}" if abs(number) >= 0.01 else f"{number:.2g}"
