"""Transfer: what was learned at one T is played at others, in the same sweep; accuracies by T beside the published ones.

Each run keeps what it scored at a T as `sabsim evaluate` does, in ``evaluations/T<T>.json`` of its folder. A sweep that
goes on after a kill plays only what is missing, or what was played before the run had trained as long as it has now.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sabsim.errors import RunFolderError, StorageError, TimeUpError
from sabsim.intervals import over_seeds
from sabsim.runs.checkpoint import load_checkpoint
from sabsim.runs.config import RunConfig
from sabsim.runs.folder import RunFolder, read_json, write_json
from sabsim.runs.playing import at_length, play
from sabsim.runs.progress import Display
from sabsim.runs.sweep import Work
from sabsim.runs.train import train

from .paper import PAPER, Published
from .tables import TABLES, run_name

SEQUENCES = 1000
"""Held-out sequences at lengths up to ``LONG``; at longer ones fewer, of as many steps in all, but not below 100."""
LONG = 400
_FEWEST = 100


def how_many(T: int) -> int:
    """Sequences played at T: 1,000 up to T = 400, 200 at 2,000, 100 at 5,000."""
    return max(_FEWEST, min(SEQUENCES, SEQUENCES * LONG // T))


def work_of(name: str, *, quick: bool, until: float | None = None) -> Work:
    """What does a run of table ``name``: training, and playing afterwards if the table has lengths to play.

    ``until``: as of ``train``.
    """
    lengths = lengths_of(name, quick=quick)
    return partial(train_and_play, lengths=lengths, until=until) if lengths else partial(train, until=until)


def lengths_of(name: str, *, quick: bool) -> tuple[int, ...]:
    """At which T the runs of table ``name`` are played; with ``--quick`` at T, 2 T and 4 T of the scaled-down task."""
    table = TABLES[name]
    if not (quick and table.lengths):
        return table.lengths
    return tuple(factor * table.quick["T"] for factor in (1, 2, 4))


def train_and_play(
    config: RunConfig,
    *,
    out: Path,
    resume: bool,
    display: Display,
    lengths: Sequence[int] = (),
    until: float | None = None,
) -> dict[str, Any]:
    """Trains, or goes on, then plays at each of ``lengths`` what is not played yet; returns the summary of the training.

    ``until``: moment, as ``time.time()`` tells it, from which on nothing is begun. Raises TimeUpError: it came first.
    """
    summary = train(config, out=out, resume=resume, display=display, until=until)
    folder = RunFolder(out)
    stored, checkpoint = folder.read_config(), load_checkpoint(folder)
    for T in lengths:
        if accuracy_at(folder, T, trained=summary["sequences"], sequences=how_many(T)) is None:
            if until is not None and time.time() >= until:
                raise TimeUpError(f"time is up before T = {T} was played; '{out}' goes on with the same command")
            result = play(at_length(stored, T), checkpoint, part="test", sequences=how_many(T))
            folder.write_evaluation(f"T{T}", result)
    return summary


def accuracy_at(folder: RunFolder, T: int, *, trained: int, sequences: int) -> float | None:
    """What a run has scored at T after ``trained`` sequences, on at least ``sequences``; None if it was not played so."""
    try:
        result = read_json(folder.evaluations / f"T{T}.json")
        if result["trained_sequences"] != trained or result["sequences"] < sequences:
            return None
        return float(result["accuracy"])
    except (RunFolderError, KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One row at one T. ``scores`` by seed; ``mean``, ``low``, ``high`` with a 95 % interval (None for one seed)."""

    row: str
    T: int
    sequences: int
    scores: dict[int, float]
    mean: float
    low: float | None
    high: float | None


def transfers(name: str, out: Path, summaries: Mapping[str, Mapping[str, Any]], *, quick: bool) -> list[Transfer]:
    """What the runs under ``out`` have scored at each T; ``summaries``: of finished runs, by their names in the sweep."""
    found = []
    for row in TABLES[name].rows:
        for T in lengths_of(name, quick=quick):
            scores = {}
            seeds = [path for path in (out / name / row.folder).glob("[0-9]*") if path.name.isdigit()]
            for path in sorted(seeds, key=lambda path: int(path.name)):
                summary = summaries.get(run_name(name, row, int(path.name)))
                if summary is None:
                    continue
                score = accuracy_at(RunFolder(path), T, trained=summary["sequences"], sequences=how_many(T))
                if score is not None:
                    scores[int(path.name)] = score
            if scores:
                low, high = over_seeds(list(scores.values()), TABLES[name].task.bounds)
                mean = float(np.mean(list(scores.values())))
                count = how_many(T)
                found.append(Transfer(row=row.name, T=T, sequences=count, scores=scores, mean=mean, low=low, high=high))
    return found


def stored_transfers(name: str, folder: Path) -> list[Transfer]:
    """What ``folder`` holds of table ``name`` at each T, from calls before; nothing where there is no such file.

    Raises RunFolderError: the file is damaged.
    """
    path = folder / f"{name}-lengths.json"
    if not path.exists():
        return []
    try:
        items = read_json(path)["lengths"]
        return [
            Transfer(**item | {"scores": {int(seed): score for seed, score in item["scores"].items()}}) for item in items
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(f"'{path}': cannot be read ({error}); move it away") from error


def merged(name: str, earlier: Sequence[Transfer], new: Sequence[Transfer]) -> list[Transfer]:
    """All rows in the table's order; those of ``new`` replace the same rows at the same T, unless they have fewer seeds."""
    found = {(item.row, item.T): item for item in earlier}
    for item in new:
        before = found.get((item.row, item.T))
        if before is None or len(item.scores) >= len(before.scores):
            found[item.row, item.T] = item
    return sorted(found.values(), key=lambda item: (TABLES[name].place(item.row), item.T))


def as_lines(name: str, found: Sequence[Transfer], *, quick: bool) -> list[list[str]]:
    """Title and rows in words: ours, each with its interval, then what was published; a column for each T."""
    lengths = lengths_of(name, quick=quick)
    by_place = {(item.row, item.T): item for item in found}
    lines = [["row", *(f"T = {T:,}" for T in lengths)]]
    for row in dict.fromkeys(item.row for item in found):
        lines.append([row, *(_shown(by_place.get((row, T))) for T in lengths)])
    figures: dict[str, dict[int, Published]] = {}
    for place, figure in PAPER.get(name, {}).items():
        method, _, T = place.partition(", T = ")
        figures.setdefault(f"{method}, published ({figure.source})", {})[int(T)] = figure
    if not quick:
        lines += [[method, *(str(values.get(T, "-")) for T in lengths)] for method, values in figures.items()]
    return lines


def _shown(item: Transfer | None) -> str:
    if item is None:
        return "-"
    limits = "" if item.low is None or item.high is None else f" ({item.low:.3f} .. {item.high:.3f})"
    return f"{item.mean:.3f}{limits}"


def as_markdown(name: str, found: Sequence[Transfer], *, quick: bool) -> str:
    """The table as Markdown."""
    size = " - quick: scaled down, says nothing about the paper" if quick else ""
    title, *rows = as_lines(name, found, quick=quick)
    counts = ", ".join(f"{how_many(T):,} at T = {T:,}" for T in lengths_of(name, quick=quick))
    text = [f"## {name}: accuracy at other T{size}", "", f"| {' | '.join(title)} |"]
    text += [f"| --- | {' | '.join('---:' for _ in title[1:])} |", *(f"| {' | '.join(line)} |" for line in rows)]
    note = "Mean over seeds, with the 95 % interval (Student's t, cut at 0 and 1) where there are several."
    return "\n".join([*text, "", f"{note} Held-out sequences: {counts}.", ""])


def write_transfers(name: str, found: Sequence[Transfer], folder: Path, *, quick: bool) -> list[Path]:
    """Writes ``NAME-lengths.json``, ``.csv`` and ``.md``; returns their paths.

    Raises StorageError: if the disk refuses.
    """
    paths = [folder / f"{name}-lengths.{kind}" for kind in ("json", "csv", "md")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(paths[0], {"table": name, "quick": quick, "lengths": [asdict(item) for item in found]})
        with paths[1].open("w", newline="") as file:
            csv.writer(file).writerows(as_lines(name, found, quick=quick))
        paths[2].write_text(as_markdown(name, found, quick=quick))
    except OSError as error:
        raise StorageError(f"'{folder}': {error.strerror or error}; free space or give another --results") from error
    return paths
