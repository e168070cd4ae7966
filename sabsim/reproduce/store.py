"""``TABLE.json``: a table's rows as they came in, call after call; and its CSV and Markdown beside it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from sabsim.errors import ConfigError, RunFolderError, StorageError
from sabsim.runs.folder import read_json, write_json

from .figures import Figures
from .rendering import TITLES, as_markdown, cells
from .tables import TABLES

FORMAT = 2
"""Of the file; 1 had no ``made_by`` of each row."""


def stored_rows(name: str, folder: Path, *, quick: bool) -> list[Figures]:
    """The rows that ``folder`` holds of table ``name``; none where there is no such file.

    Raises:
        RunFolderError: the file is damaged, or of another format
        ConfigError: it is of a scaled-down sweep and this one is not, or the other way round
    """
    path = folder / f"{name}.json"
    if not path.exists():
        return []
    kept = read_json(path)
    if kept.get("format") != FORMAT:
        told = f"format = {kept.get('format')}: must be {FORMAT}"
        raise RunFolderError(f"'{path}': {told}; move it away and run again: finished runs are only read")
    if kept.get("quick") is not quick:
        held, wanted = ("full", "quick") if quick else ("quick", "full")
        raise ConfigError(f"results = '{folder}': {path.name} is of a {held} sweep and this one is {wanted}; give another")
    try:
        return [Figures.from_json(row) for row in kept["rows"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(f"'{path}': its rows cannot be read ({error}); move it away") from error


def merge(name: str, earlier: Sequence[Figures], new: Sequence[Figures], left: Sequence[Figures] = ()) -> list[Figures]:
    """All rows in the table's order; a row is replaced only by the same row.

    Args:
        earlier: of the file as it was
        new: of this call: they replace earlier ones, but unfinished ones none that has as many scores
        left: of runs that were found beside this call's: they fill in what is missing
    """
    by_row = {item.row: item for rows in (left, earlier) for item in rows}
    for item in new:
        before = by_row.get(item.row)
        if before is None or not item.unfinished or len(item.scores) > len(before.scores):
            by_row[item.row] = item
    return sorted(by_row.values(), key=lambda item: TABLES[name].place(item.row))


def write_table(name: str, rows: Sequence[Figures], folder: Path, *, quick: bool) -> list[Path]:
    """Writes ``NAME.json``, ``NAME.csv`` and ``NAME.md``; returns their paths.

    Raises:
        StorageError: the disk refuses
    """
    paths = [folder / f"{name}.{kind}" for kind in ("json", "csv", "md")]
    about = {"format": FORMAT, "table": name, "what": TABLES[name].what, "quick": quick}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(paths[0], about | {"rows": [item.to_json() for item in rows]})
        with paths[1].open("w", newline="") as file:
            csv.writer(file).writerows([TITLES, *(cells(name, item, quick=quick) for item in rows)])
        paths[2].write_text(as_markdown(name, rows, quick=quick))
    except OSError as error:
        raise StorageError(f"'{folder}': {error.strerror or error}; free space or give another --results") from error
    return paths
