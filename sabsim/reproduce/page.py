"""A page of Markdown whose tables are rendered from the stored figures, between markers, beside what is written by hand.

``<!-- table1 -->`` begins the part that is rendered, ``<!-- end -->`` ends it; all else stays as it is. There is a part for
each table, and three more: ``glance``, rows with a published figure side by side, ``published``, the paper's figures with
their sources, and ``rule``, how rows are judged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sabsim.errors import ConfigError

from .glance import at_a_glance
from .paper import PAPER, SOURCES
from .rendering import ANY_SETTING, ANY_SETTING_MEANS, body, escaped, figure
from .store import stored_rows
from .tables import TABLES
from .verdict import RULE

PARTS = (*TABLES, "glance", "published", "rule")
_MARKER = re.compile(r"^<!-- (?!end -->)(?P<name>[\w-]+) -->$", re.MULTILINE)
_END = "<!-- end -->"


def render_page(text: str, results: Path, names: Sequence[str] = PARTS) -> str:
    """``text`` with the parts ``names`` rendered anew from ``results``.

    Raises:
        ConfigError: a marker that is unknown or has no end
        RunFolderError: a damaged file of results
    """
    pieces, at = [], 0
    while found := _MARKER.search(text, at):
        name, end = found["name"], text.find(_END, found.end())
        line = text.count("\n", 0, found.start()) + 1
        if name not in PARTS:
            raise ConfigError(f"line {line}: <!-- {name} --> is no part; it must be one of {', '.join(PARTS)}")
        following = _MARKER.search(text, found.end())
        if end < 0 or (following is not None and following.start() < end):
            raise ConfigError(f"line {line}: <!-- {name} --> has no {_END} after it")
        part = f"\n\n{render_part(name, results)}\n\n" if name in names else text[found.end() : end]
        pieces += [text[at : found.end()], part, _END]
        at = end + len(_END)
    return "".join([*pieces, text[at:]])


def render_part(name: str, results: Path) -> str:
    """One part, without its markers."""
    if name == "rule":
        return RULE
    if name == "glance":
        return at_a_glance(results)
    if name == "published":
        return _published()
    rows = stored_rows(name, results, quick=False)
    return body(name, rows) if rows else f"Not run yet: `sabsim reproduce {name}`."


def _published() -> str:
    """All of the paper's figures, with where they were found."""
    lines = ["| table | task | measure | row | published | source |", "| --- | --- | --- | --- | ---: | --- |"]
    for table, rows in PAPER.items():
        task, _, measure = TABLES[table].what.partition(": ")
        for row, paper in rows.items():
            lines.append(f"| {table} | {task} | {measure} | {row} | {escaped(figure(paper))} | {paper.source} |")
    lines += ["", f"\\{ANY_SETTING} {ANY_SETTING_MEANS}. Sources:", ""]
    return "\n".join([*lines, *(f"- {name}: {words}." for name, words in SOURCES.items())])
