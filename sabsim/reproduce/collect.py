"""From run folders to what a table needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sabsim.errors import SabsimError
from sabsim.runs.folder import RunFolder, read_json

from .tables import TABLES, config, run_name


def with_machine(summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A finished run's figures, with ``machine``: the processor it ran on, and the GPU if that was its device.

    Raises:
        RunFolderError: ``folder`` holds no run, or a damaged one
    """
    maker = RunFolder(folder).description()["made_by"]
    parts = [maker.get("cpu", "unknown"), *([maker["gpu"]] if summary["device"] != "cpu" and "gpu" in maker else [])]
    return dict(summary) | {"machine": " + ".join(parts)}


def finished_runs(name: str, out: Path, *, quick: bool) -> dict[str, dict[str, Any]]:
    """Figures of all finished runs of table ``name`` that lie under ``out``, whatever call left them; by run name.

    A run that was begun with other options than the row's is none of them, its budget aside.
    """
    table, found = TABLES[name], {}
    for row in table.rows:
        for folder in (out / name / row.folder).glob("[0-9]*"):
            there = RunFolder(folder)
            try:
                seed = int(folder.name)
                summary = with_machine(read_json(there.summary), folder)
                differences = there.read_config().differences(config(table, row, seed, quick=quick))
            except (SabsimError, ValueError):
                continue  # unfinished, or somebody else's folder
            if {option for option, _, _ in differences} <= {"budget"}:
                found[run_name(name, row, seed)] = summary
    return found
