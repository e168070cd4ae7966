"""From run folders to what a table needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sabsim.errors import SabsimError
from sabsim.runs.config import RunConfig
from sabsim.runs.folder import RunFolder, read_json

from .table import Row, Table
from .tables import TABLES, config, run_name


def with_origin(summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A finished run's figures with where they come from.

    Adds ``machine``, the processor it ran on, and the GPU if that was its device, and ``config``, all of its options.

    Raises:
        RunFolderError: ``folder`` holds no run, or a damaged one
    """
    described = RunFolder(folder).description()
    maker = described.pop("made_by")
    parts = [maker.get("cpu", "unknown"), *([maker["gpu"]] if summary["device"] != "cpu" and "gpu" in maker else [])]
    return dict(summary) | {"machine": " + ".join(parts), "config": described}


def finished_runs(name: str, out: Path, *, quick: bool) -> dict[str, dict[str, Any]]:
    """Figures of all finished runs of table ``name`` that lie under ``out``, whatever call left them; by run name.

    A run that was begun with other options than the row's is none of them; its budget may be another.
    """
    found = {}
    for row in TABLES[name].rows:
        for folder in (out / name / row.folder).glob("[0-9]*"):
            there = RunFolder(folder)
            try:
                seed = int(folder.name)
                summary = with_origin(read_json(there.summary), folder)
                is_row = _is_run_of(there.read_config(), TABLES[name], row, seed, quick=quick)
            except (SabsimError, ValueError):
                continue  # unfinished, or somebody else's folder
            if is_row:
                found[run_name(name, row, seed)] = summary
    return found


def _is_run_of(stored: RunConfig, table: Table, row: Row, seed: int, *, quick: bool) -> bool:
    """Whether the run is the row's, wherever its data lay and whatever device, backend and threads were at hand."""
    wanted = config(table, row, seed, quick=quick, budget=stored.run.budget).resolved()
    if type(wanted.task) is not type(stored.task):
        return False
    task = replace(wanted.task, **{place: getattr(stored.task, place) for place in wanted.task.places})
    there = {name: getattr(stored.run, name) for name in ("device", "backend", "threads")}
    run = replace(wanted.run, **there)
    return not stored.differences(replace(wanted, task=task, run=run))
