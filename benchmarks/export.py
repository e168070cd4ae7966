"""Time, memory and disk of `sabsim export` on a run folder with as many recorded steps as asked for.

    python benchmarks/export.py --steps 1000000 --out /tmp/export

The folder is made up: steps on the linear track, laps, replays and hidden states drawn at random, in the tables of an
agent's run. Each export is a process of its own, of which this prints seconds, by the clock and of a core, and most memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sabsim.agents import AGENT_TABLES, AgentConfig, AgentRunOptions

from sabsim.runs import RunDatabase, RunFolder
from sabsim.runs.database import HIDDEN, hidden_blob

SESSION = 2_000
"""Steps of a session."""
WINDOW = 5
REPLAYS = 4
"""Replays of every window."""
_WATCH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
# A small process in between: a child counts what its parent holds when it begins as its own.


def make_run(folder: Path, *, steps: int, hidden: int) -> None:
    """A run folder with so many recorded steps of one stream, and hidden states of so many units (0: none)."""
    run = AgentRunOptions(streams=1, steps=steps, record_every=1, record_hidden=hidden > 0)
    folder.mkdir(parents=True)
    RunFolder(folder).write_config(AgentConfig(env="sabsim/LinearTrack-v0", run=run).resolved())
    database = RunDatabase(folder / "run.sqlite", {**AGENT_TABLES, **(HIDDEN if hidden else {})})
    rng = np.random.default_rng(0)
    for first in range(0, steps, SESSION):
        database.insert("steps", list(session(first, rng)))
        database.insert("events", list(replays(first, rng)))
        database.insert("episodes", [(0, first // SESSION, first, first + SESSION - 1, 1.0, SESSION, None, 0, 1)])
        if hidden:
            states = rng.standard_normal((SESSION, hidden), dtype=np.float32).clip(-1, 1)
            database.insert("hidden", [(first + t, 0, hidden_blob(h)) for t, h in enumerate(states)])
    database.commit()
    database.close()


def session(first: int, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    """The steps of a session: to and fro between places 0 and 9, paid on arrival."""
    figures = rng.standard_normal((SESSION, 3)).tolist()
    for t, (value, td_error, entropy) in enumerate(figures):
        place, epoch = 9 - abs(9 - t % 18), 3 * t // SESSION
        phase = ("before", "changed", "after")[epoch]
        step = (first + t, 0, first // SESSION, t, t % 3, float(t % 9 == 8), value, td_error, entropy)
        yield (*step, place, epoch, phase, None)


def replays(first: int, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    """Four replays a window."""
    for end in range(first + 2 * WINDOW - 1, first + SESSION, WINDOW):
        triggers = (end - rng.integers(WINDOW, size=REPLAYS)).tolist()
        lags = rng.integers(1, WINDOW, size=REPLAYS).tolist()
        credits = rng.random(REPLAYS).tolist()
        for step, lag, credit in zip(triggers, lags, credits, strict=True):
            place = (step, 0, first // SESSION, step - lag, lag)
            yield ("replay", *place, 0.5, credit, None, float(step % 9 == 8), 0.1, WINDOW, end)


def measure(run: Path, *options: str) -> tuple[float, float, float]:
    """Seconds of one export by the clock and of the processor, and most resident MB."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "sabsim", "export", str(run), *options, "--overwrite"]
    done = subprocess.run([sys.executable, "-c", _WATCH, *command], check=True, capture_output=True, text=True)
    processor, memory = map(float, done.stdout.splitlines()[-1].split())
    return time.perf_counter() - begun, processor, memory / 1e3


def main() -> None:
    """Make the folder if need be, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--hidden", type=int, default=64, help="units of the hidden states; 0: none are recorded")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run and its exports")
    options = parser.parse_args()
    run = options.out / f"run-{options.steps}-{options.hidden}"
    if not run.exists():
        make_run(run, steps=options.steps, hidden=options.hidden)
    size = (run / "run.sqlite").stat().st_size / 1e6
    print(f"{options.steps:,} steps, {options.hidden} units, run.sqlite {size:.0f} MB")
    found = {"steps": options.steps, "hidden": options.hidden, "run_mb": size}
    for kind, name in (("nwb", "out.nwb"), ("parquet", "parquet"), ("csv", "csv")):
        path = options.out / name
        seconds, processor, memory = measure(run, f"--{kind}", str(path))
        files = [path] if path.is_file() else list(path.iterdir())
        written = sum(file.stat().st_size for file in files) / 1e6
        print(
            f"{kind:<8} {seconds:6.1f} s ({processor:.1f} s of a core), {memory:.0f} MB of memory, {written:.0f} MB written"
        )
        found[kind] = {"seconds": seconds, "core_seconds": processor, "peak_rss_mb": memory, "written_mb": written}
        (shutil.rmtree if path.is_dir() else os.unlink)(path)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
