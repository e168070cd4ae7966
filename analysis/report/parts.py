"""What a report is made of, as plain data: answers, pictures, tables, and what is missing. Text is text, never HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A figure that carries its title, or the path of its SVG, with what a reader needs beside it.

    ``alt`` says what is drawn to those who cannot see it; ``caption`` how to read it, in plain language; ``caveat`` what
    must not be read into it.
    """

    title: str
    figure: Figure | Path
    alt: str
    caption: str
    caveat: str = ""


@dataclass(frozen=True, kw_only=True)
class NumberTable:
    """Numbers as they are shown: the first cell of each row names it. ``note`` says what the numbers are of."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError: if a row has more or fewer cells than there are columns."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: a row of {len(row)} cells for {len(self.columns)} columns: {row}")


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Something that could not be measured, of which run, and why."""

    what: str
    run: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A question, its answer in a word or two, and the sentences that say how it is known."""

    question: str
    verdict: str
    sentences: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Story:
    """The top of the page: what it is about, what was found, one picture, and what made the runs."""

    title: str
    subtitle: str
    answers: Sequence[Answer]
    picture: Panel | None
    made_by: str
