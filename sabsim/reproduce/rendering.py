"""What a table's runs came to: mean and interval over seeds beside the paper's figure, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy import stats

from sabsim.errors import StorageError
from sabsim.runs.progress import duration

from .tables import TABLES, run_name


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One row, over its seeds.

    ``scores`` by seed; ``mean``, ``low``, ``high``: with a 95 % interval (Student's t; both limits None for one seed);
    ``sequences``, ``seconds``: medians; ``solved``: seeds that stopped because they had solved the task; ``memory``: bytes
    of the macrostate, all streams; ``failures``: what became of seeds that have no score.
    """

    row: str
    paper: float | None
    scores: dict[int, float]
    mean: float | None
    low: float | None
    high: float | None
    sequences: int | None
    seconds: float | None
    solved: int | None
    memory: int | None
    failures: dict[int, str]


def figures_of(
    name: str, summaries: Mapping[str, Mapping[str, Any]], failures: Mapping[str, str], *, seeds: int
) -> list[Figures]:
    """A line for each row of table ``name`` that has been run, in the table's order; runs by the names of the sweep."""
    table, found = TABLES[name], []
    for row in table.rows:
        mine = {seed: summaries[key] for seed in range(seeds) if (key := run_name(name, row, seed)) in summaries}
        failed = {seed: failures[key] for seed in range(seeds) if (key := run_name(name, row, seed)) in failures}
        if not mine and not failed:
            continue
        scores = {seed: float(summary[table.task.metric]) for seed, summary in mine.items()}
        low, high = _interval(list(scores.values()))
        found.append(
            Figures(
                row=row.name,
                paper=row.paper,
                scores=scores,
                mean=float(np.mean(list(scores.values()))) if scores else None,
                low=low,
                high=high,
                sequences=round(median(s["sequences"] for s in mine.values())) if mine else None,
                seconds=median(s["seconds"] for s in mine.values()) if mine else None,
                solved=sum(s["stopped_early"] for s in mine.values()) if row.leads and mine else None,
                memory=next(iter(mine.values()))["macrostate_bytes"] if mine else None,
                failures=failed,
            )
        )
    return found


def _interval(scores: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % over seeds, Student's t; None with one seed, the mean itself where all are equal."""
    if len(scores) < 2:
        return None, None
    if np.ptp(scores) == 0:
        return scores[0], scores[0]
    low, high = stats.t.interval(0.95, len(scores) - 1, float(np.mean(scores)), stats.sem(scores))
    return float(low), float(high)


TITLES = ("row", "paper", "ours", "95 % interval", "seeds", "solved", "sequences", "time", "kB")


def cells(item: Figures) -> list[str]:
    """A line of the table in words, under ``TITLES``."""
    seeds = len(item.scores) + len(item.failures)
    limits = "" if item.low is None or item.high is None else f"{_shown(item.low)} .. {_shown(item.high)}"
    return [
        item.row,
        "-" if item.paper is None else _shown(item.paper),
        "failed" if item.mean is None else _shown(item.mean),
        limits,
        str(seeds),
        "" if item.solved is None else f"{item.solved} of {seeds}",
        "" if item.sequences is None else f"{item.sequences:,}",
        "" if item.seconds is None else duration(item.seconds),
        "" if item.memory is None else f"{item.memory / 1e3:,.0f}",
    ]


def as_markdown(name: str, figures: Sequence[Figures], *, quick: bool) -> str:
    """The table as Markdown, with what it is, what is not as in the paper, and what failed."""
    table = TABLES[name]
    size = " - quick: scaled down, says nothing about the paper" if quick else ""
    lines = [f"## {name}: {table.what}{size}", ""]
    lines += [f"| {' | '.join(TITLES)} |", f"| --- | {' | '.join('---:' for _ in TITLES[1:])} |"]
    lines += [f"| {' | '.join(cells(item))} |" for item in figures]
    told = [f"{item.row}, seed {seed}: {why}" for item in figures for seed, why in item.failures.items()]
    if table.note:
        lines += ["", table.note]
    if told:
        lines += ["", "Failed:", "", *(f"- {line}" for line in told)]
    return "\n".join([*lines, ""])


def write_table(
    name: str, figures: Sequence[Figures], about: Mapping[str, Any], folder: Path, *, quick: bool
) -> list[Path]:
    """Writes ``NAME.json``, ``NAME.csv`` and ``NAME.md``; returns their paths.

    Raises StorageError: if the disk refuses.
    """
    paths = [folder / f"{name}.{kind}" for kind in ("json", "csv", "md")]
    stored = {"table": name, "what": TABLES[name].what, "quick": quick, **about, "rows": [asdict(item) for item in figures]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(json.dumps(stored, indent=1, allow_nan=False) + "\n")
        with paths[1].open("w", newline="") as file:
            csv.writer(file).writerows([TITLES, *(cells(item) for item in figures)])
        paths[2].write_text(as_markdown(name, figures, quick=quick))
    except OSError as error:
        raise StorageError(f"'{folder}': {error.strerror or error}; free space or give another --results") from error
    return paths


def _shown(number: float) -> str:
    return f"{number:.4f}" if abs(number) >= 0.01 else f"{number:.2g}"
