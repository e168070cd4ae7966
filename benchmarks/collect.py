"""Keep the figures of finished or stopped runs: one JSON and one CSV a run, small enough to commit.

    python benchmarks/collect.py runs/t100-s0 runs/t300-s0 --out results/copying

The JSON holds the run's configuration (with versions, git revision, machine and date), its summary if it has ended, and
its evaluations at other lengths; the CSV its learning curve (table ``metrics``).
"""

from __future__ import annotations

import argparse
import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def collect(run: Path, out: Path) -> None:
    """Write ``out/NAME.json`` and ``out/NAME.csv`` of the run folder ``run``."""
    summary = run / "summary.json"
    kept: dict[str, Any] = {
        "run": run.name,
        "ended": summary.exists(),
        "summary": _read(summary) if summary.exists() else None,
        "evaluations": {path.stem: _read(path) for path in sorted(run.glob("evaluations/*.json"))},
        "config": _read(run / "config.json"),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{run.name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    with closing(sqlite3.connect(f"{(run / 'run.sqlite').resolve().as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT * FROM metrics ORDER BY id")
        with (out / f"{run.name}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([column[0] for column in rows.description])
            writer.writerows(rows)


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def main() -> None:
    """Collect every run given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON and CSV files")
    options = parser.parse_args()
    missing = [str(run) for run in options.runs if not (run / "config.json").exists()]
    if missing:
        parser.error(f"no run folder: {', '.join(missing)}")
    for run in options.runs:
        collect(run, options.out)


if __name__ == "__main__":
    main()
