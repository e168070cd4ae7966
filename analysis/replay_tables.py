"""The measures of runs as tidy CSV tables: one row per observation, one column per variable, an empty field for none."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sabsim.errors import StorageError

from .causal import PARTS, Null, Part
from .compare import Difference
from .laps import Cell
from .replay_labels import label
from .replay_summary import RunSummary

_RUN = ("run", "seed")
_COUNTS = ("epoch", "where", "laps", "steps", "stationary", "replays", "stationary_replays", "remindings")
_RATES = (
    "replays_per_lap",
    "replays_per_step",
    "replays_per_stationary_step",
    "remindings_per_lap",
    "remindings_per_stationary_step",
)
_COLUMNS = {
    "values": ("name", "label", "value"),
    "lags": ("least_lag", "greatest_lag", "observed_share", "uniform_share"),
    "peri_reward": ("offset", "steps", "replays_per_step", "matched_replays_per_step", "expected_replays_per_step"),
    "causal": ("which", "sources", "replays", "fraction", "low", "high"),
    "sequences": ("measure", "lag", "value"),
    "place_map": ("place", "replayed_place", "replays"),
    "recall_map": ("part", "sequences", "position", "recalled", "weight"),
    "laps": (*_COUNTS, *_RATES),
    "conditions": ("condition", *_COUNTS, *_RATES),
}
"""Of each table, the columns after `run` and `seed`."""


def write_tables(summaries: Sequence[RunSummary], folder: Path) -> list[Path]:
    """Write the tables of `_COLUMNS` that have rows, as CSV; their paths.

    Columns begin with `run` (the folder's name) and `seed`. A table of an earlier analysis that has no rows now is removed.

    Raises:
        StorageError: the disk refuses
    """
    written = []
    for name, titles in _COLUMNS.items():
        rows = [(summary.run.name, summary.run.seed, *row) for summary in summaries for row in _ROWS[name](summary)]
        written += _write(folder / f"{name}.csv", (*_RUN, *titles), rows)
    return written


def write_comparison(found: Sequence[Difference], folder: Path, *, task: bool) -> list[Path]:
    """Write `comparison.csv`, one row per number that both sets of runs have; removed if there is none. Its path.

    Raises:
        StorageError: the disk refuses
    """
    titles = ("name", "label", "here", "there", "difference", "low", "high", "p", "q", "method")
    rows: list[tuple[Any, ...]] = []
    for item in found:
        test = item.test
        told: tuple[Any, ...] = (item.here - item.there, None, None, None, item.q, item.reason)
        if test:
            told = (test.estimate, test.low, test.high, test.p, item.q, test.method)
        rows.append((item.name, label(item.name, task=task), item.here, item.there, *told))
    return _write(folder / "comparison.csv", titles, rows)


def as_parquet(tables: Iterable[Path]) -> list[Path]:
    """Write each of these CSV tables as Parquet too, beside it; their paths. Needs pyarrow, the extra `parquet`.

    Raises:
        StorageError: the disk refuses
    """
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    written = []
    for path in tables:
        target = path.with_suffix(".parquet")
        try:
            parquet.write_table(arrow_csv.read_csv(path), target)
        except OSError as error:
            raise _refused(target, error) from error
        written.append(target)
    return written


def _write(path: Path, titles: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[Path]:
    """A table, if it has rows; its path."""
    try:
        if not rows:
            path.unlink(missing_ok=True)
            return []
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([titles, *rows])
    except OSError as error:
        raise _refused(path, error) from error
    return [path]


def write_stats(stats: dict[str, Any], folder: Path) -> Path:
    """Write `stats.json`; its path.

    Raises:
        StorageError: the disk refuses
    """
    path = folder / "stats.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(stats, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise _refused(path, error) from error
    return path


def _refused(path: Path, error: OSError) -> StorageError:
    return StorageError(f"'{path}': {error.strerror or error}; free space or give another --out")


def _values(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    return [(name, label(name, task=summary.task), value) for name, value in summary.values().items()]


def _lags(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    lags = summary.lags
    if lags is None:
        return []
    return zip(lags.edges[:-1].tolist(), (lags.edges[1:] - 1).tolist(), lags.observed, lags.uniform, strict=True)


def _peri_reward(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    found = summary.peri_reward
    if found is None:
        return
    nothing = np.full(len(found.offset), np.nan)
    rate, expected = (found.matched.rate, found.matched.expected) if found.matched else (nothing, nothing)
    for offset, steps, *rates in zip(found.offset.tolist(), found.steps.tolist(), found.rate, rate, expected, strict=True):
        yield (offset, steps, *(float(rate) if np.isfinite(rate) else None for rate in rates))


def _causal(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    found = summary.causal
    if found is None:
        return
    yield ("all", "replay", found.n, found.fraction, None, None)
    for name, null in (("lag-matched", found.lag_matched), ("uniform", found.uniform)):
        yield ("all", name, found.n, *_null(null))
    for name, share in asdict(found.credit).items():
        yield ("credit", "replay" if name == "observed" else name.replace("_", "-"), found.n, share, None, None)
    yield from _part("outcome", found.outcome)
    for name, part in zip(PARTS, found.parts, strict=True):
        yield from _part(name, part)


def _null(null: Null) -> tuple[float, float, float]:
    return null.mean, null.low, null.high


def _part(which: str, part: Part) -> Iterable[tuple[Any, ...]]:
    if part.n:
        for name, fraction in (("replay", part.fraction), ("lag-matched", part.lag_matched), ("uniform", part.uniform)):
            yield (which, name, part.n, fraction, None, None)


def _sequences(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    found = summary.sequences
    if found is None:
        return
    for name, value in asdict(found).items():
        if isinstance(value, np.ndarray):
            yield from ((name, lag, number) for lag, number in enumerate(value.tolist(), start=1))
        else:
            yield (name, None, value)


def _place_map(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    found = summary.places
    if found is None:
        return []
    here, there = np.nonzero(found.count)
    return zip(found.place[here], found.place[there], found.count[here, there].tolist(), strict=True)


def _recall_map(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    found = summary.recall
    if found is None:
        return
    for name, weight, sequences in zip(PARTS, found.weight, found.episodes.tolist(), strict=True):
        position, recalled = np.nonzero(weight)
        for here, there in zip(position.tolist(), recalled.tolist(), strict=True):
            yield (name, sequences, here, there, round(float(weight[here, there]), 6))


def _cell(cell: Cell) -> tuple[Any, ...]:
    counts = (getattr(cell, name) for name in _COUNTS)
    rates = (cell.per_lap, cell.per_step, cell.per_stationary_step)
    return (*counts, *rates, cell.remindings_per_lap, cell.remindings_per_stationary_step)


def _laps(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    return [_cell(cell) for cell in summary.laps or ()]


def _conditions(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    return [(name, *_cell(cell)) for name, cell in summary.conditions or ()]


_ROWS = {
    "values": _values,
    "lags": _lags,
    "peri_reward": _peri_reward,
    "causal": _causal,
    "sequences": _sequences,
    "place_map": _place_map,
    "recall_map": _recall_map,
    "laps": _laps,
    "conditions": _conditions,
}
