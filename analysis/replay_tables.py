"""The measures of runs as tidy CSV tables: one row per observation, one column per variable, an empty field for none."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sabsim.errors import StorageError

from .replay_summary import LABELS, RunSummary

_RUN = ("run", "seed")
_COUNTS = ("epoch", "where", "laps", "steps", "stationary", "replays", "stationary_replays")


def write_tables(summaries: Sequence[RunSummary], folder: Path) -> list[Path]:
    """Write `values.csv`, `lags.csv`, `peri_reward.csv`, `causal.csv` and `laps.csv`, those that have rows; their paths.

    Columns begin with `run` (the folder's name) and `seed`. A table of an earlier analysis that has no rows now is removed.

    Raises:
        StorageError: the disk refuses
    """
    columns = {
        "values": ("name", "label", "value"),
        "lags": ("least_lag", "greatest_lag", "observed_share", "uniform_share"),
        "peri_reward": ("offset", "steps", "replays_per_step"),
        "causal": ("sources", "replays", "fraction", "low", "high"),
        "laps": (*_COUNTS, "replays_per_lap", "replays_per_step", "replays_per_stationary_step"),
    }
    written = []
    for name, titles in columns.items():
        rows = [(summary.run.name, summary.run.seed, *row) for summary in summaries for row in _ROWS[name](summary)]
        path = folder / f"{name}.csv"
        try:
            if not rows:
                path.unlink(missing_ok=True)
                continue
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([(*_RUN, *titles), *rows])
        except OSError as error:
            raise _refused(path, error) from error
        written.append(path)
    return written


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
    return [(name, LABELS[name], value) for name, value in summary.values().items()]


def _lags(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    lags = summary.lags
    if lags is None:
        return []
    return zip(lags.edges[:-1].tolist(), (lags.edges[1:] - 1).tolist(), lags.observed, lags.uniform, strict=True)


def _peri_reward(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    found = summary.peri_reward
    if found is None:
        return []
    columns = zip(found.offset.tolist(), found.steps.tolist(), found.rate.tolist(), strict=True)
    return [(offset, steps, rate if steps else None) for offset, steps, rate in columns]


def _causal(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    found = summary.causal
    if found is None:
        return []
    nulls = {"lag-matched": found.lag_matched, "uniform": found.uniform}
    rows = [(name, found.n, null.mean, null.low, null.high) for name, null in nulls.items()]
    return [("replay", found.n, found.fraction, None, None), *rows]


def _laps(summary: RunSummary) -> Iterable[tuple[Any, ...]]:
    for cell in summary.laps or ():
        told = asdict(cell)
        yield (*(told[name] for name in _COUNTS), cell.per_lap, cell.per_step, cell.per_stationary_step)


_ROWS = {"values": _values, "lags": _lags, "peri_reward": _peri_reward, "causal": _causal, "laps": _laps}
