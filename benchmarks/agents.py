"""Agents on delayed-reward environments: every method on every task, several seeds, with the controls beside it.

    python benchmarks/agents.py chain100 tmaze100 --jobs 2
    python benchmarks/agents.py --table

Each experiment is a few lines of ``EXPERIMENTS``: an environment, the options that differ from those of ``sabsim agent``,
and the methods. Each run is one of ``sabsim agent`` with one thread; runs that are there are not run again. The
figures of each experiment go to ``results/agents/NAME.json`` with the commands that make them again; ``--table`` writes
``results/agents/README.md`` from all of these.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sabsim.cli import main as sabsim
from sabsim.intervals import over_seeds
from sabsim.runs import read_rows

OUT = Path("results/agents")
RUNS = Path("runs/agents")
GOOD = 0.95
"""The success at which a method counts as having learned; when it first had it is read off its evaluations."""


@dataclass(frozen=True)
class Experiment:
    """``command``: what follows ``sabsim agent``. ``methods``: of each, the further options. ``chance``: a random policy's
    success, or None where return counts. ``what``: a line for the table. ``unit`` of the score: success, or laps.
    ``before``: of a curriculum, the commands of the runs that come before, each of which the next one begins from."""

    command: str
    methods: Mapping[str, str]
    what: str
    chance: float | None = None
    seeds: int = 5
    unit: str = "success"
    before: tuple[str, ...] = ()


_BLANK = "--credit memoryless --no-sees-action --no-sees-reward"
"""Nothing of the past: its own last action would be a memory."""


def rivals(longest: int) -> dict[str, str]:
    """All methods; the rival that learns from the present alone has RMSprop."""
    return {
        "SAB": "",
        "no replay": "--credit no-replay",
        "TBPTT": "--credit tbptt",
        "memoryless": _BLANK,
        "immediate": "--credit immediate --optimizer rmsprop",
        "RTU": "--credit rtu",
        "BPTT": f"--credit bptt --longest {longest}",
    }


def sending() -> dict[str, str]:
    """Action credit and what it is to be compared with."""
    return {
        "SAB + action credit": "--action-credit recall",
        "SAB + action credit, random sources": "--action-credit random",
        "no replay + action credit": "--credit no-replay --action-credit recall",
        "SAB": "",
        "no replay": "--credit no-replay",
        "TBPTT": "--credit tbptt",
    }


_CUE = "--no-sees-action --no-sees-reward --forget-bias 1"
"""Where a cue is to be remembered: an agent that sees its last action can act as the cue says until it is asked, and a cell
whose gates begin open can hold one bit; neither is what is to be measured."""


def chain(length: int, steps: int, evaluate: int = 25_000) -> str:
    return f"sabsim/MemoryChain-v0 --env-args memory_length={length} --steps {steps} --eval-every {evaluate}"


_TRACES = "--traces --optimizer obgd --window 1 --k-trunc 5 --lambda 0.8 --entropy-weight 0.01"
_GRID = "--eval-episodes 64 --record-streams 0"
_MAZE = "sabsim/TMaze-v0 --env-args memory_length"
_LONG = f"--eval-every 250000 --window 8 --slots 32 --lr 0.001 --entropy-weight 0.01 {_GRID}"
"""What MiniGrid's Memory is learned with."""
EXPERIMENTS: dict[str, Experiment] = {
    "chain100": Experiment(f"{chain(100, 600_000)} {_CUE}", rivals(100), "MemoryChain, 100 steps", 0.5),
    "tmaze100": Experiment(
        f"{_MAZE}=100 --steps 600000 --eval-every 25000 {_CUE}", rivals(102), "passive T-maze, memory length 100", 0.25
    ),
    **{
        f"chain{length}": Experiment(
            f"{chain(length, 1_000_000)} {_CUE} --stop-at 0.98", rivals(length), f"MemoryChain, {length} steps", 0.5
        )
        for length in (2, 4, 8, 16, 32, 64, 128)
    },
    "exam50": Experiment(
        "sabsim/Exam-v0 --env-args delay=50 --gamma 0.96 --steps 400000",
        sending() | {"SAB, gamma 0.99": "--gamma 0.99", "SAB, gamma 0.997": "--gamma 0.997"},
        "Exam, result after 50 steps",
        0.5,
    ),
    "exam100": Experiment(
        "sabsim/Exam-v0 --env-args delay=100 --gamma 0.98 --steps 1000000 --eval-every 100000 --stop-at 0.98",
        sending(),
        "Exam, result after 100 steps",
        0.5,
    ),
    "active50": Experiment(
        f"{_MAZE}=48 active=true --gamma 0.96 --steps 1000000 --eval-every 50000 --stop-at 0.98",
        sending(),
        "active T-maze, credit length 50",
        0.25,
    ),
    "active100": Experiment(
        f"{_MAZE}=98 active=true --gamma 0.98 --steps 1500000 --eval-every 100000 --stop-at 0.98",
        sending(),
        "active T-maze, credit length 100",
        0.25,
    ),
    "tmaze500": Experiment(
        f"{_MAZE}=500 --steps 3000000 --eval-every 100000 {_CUE} --stop-at 0.98",
        {"SAB": "", "no replay": "--credit no-replay", "TBPTT": "--credit tbptt"},
        "passive T-maze, memory length 500",
        0.25,
        seeds=3,
    ),
    "track": Experiment(
        "sabsim/LinearTrack-v0 --steps 500000 --eval-every 100000 --eval-episodes 16",
        {"SAB": "", "no replay": "--credit no-replay", "TBPTT": "--credit tbptt", "memoryless": _BLANK},
        "LinearTrack, laps per 1,000 steps (random 7.4, best 111)",
        None,
        unit="laps",
    ),
    "one-chain32": Experiment(
        f"{chain(32, 200_000, 50_000)} {_CUE} --streams 1 --lr 0.001",
        {"SAB": "", "no replay": "--credit no-replay", "TBPTT": "--credit tbptt", "RTU": "--credit rtu"},
        "MemoryChain, 32 steps, one stream",
        0.5,
        seeds=3,
    ),
    "one-chain8": Experiment(
        f"{chain(8, 100_000, 20_000)} {_CUE} --streams 1",
        {
            "SAB, windows": "--lr 0.001",
            "SAB, traces, ObGD": _TRACES,
            "RTU, windows": "--credit rtu --lr 0.001",
            "RTU, traces, ObGD": f"--credit rtu {_TRACES}",
        },
        "MemoryChain, 8 steps, one stream: lambda-returns in windows against eligibility traces",
        0.5,
        seeds=3,
    ),
    "one-track": Experiment(
        "sabsim/LinearTrack-v0 --steps 200000 --eval-every 100000 --eval-episodes 16 --streams 1 --lr 0.001",
        {"SAB": "", "TBPTT": "--credit tbptt"},
        "LinearTrack, one stream, laps per 1,000 steps",
        None,
        seeds=3,
        unit="laps",
    ),
    "doorkey": Experiment(
        f"MiniGrid-DoorKey-5x5-v0 --steps 500000 {_GRID} --stop-at 0.98",
        {"SAB": "", "TBPTT": "--credit tbptt"},
        "MiniGrid DoorKey 5x5",
        0.0,
    ),
    "memory-s7": Experiment(
        f"MiniGrid-MemoryS7-v0 --steps 1500000 --stop-at 0.97 {_LONG}",
        {"SAB": ""},
        "MiniGrid Memory S7",
        0.5,
        seeds=3,
    ),
    "memory-s11": Experiment(
        f"MiniGrid-MemoryS11-v0 --mix MiniGrid-MemoryS9-v0 --steps 2000000 --stop-at 0.95 {_LONG}",
        {"SAB": "", "no replay": "--credit no-replay", "TBPTT": "--credit tbptt"},
        "MiniGrid Memory S11, mixed with S9, after S7 and then S9 alone",
        0.5,
        seeds=3,
        before=tuple(f"MiniGrid-MemoryS{size}-v0 --steps 1000000 --stop-at 0.97 {_LONG}" for size in (7, 9)),
    ),
    "red-blue-doors": Experiment(
        "MiniGrid-RedBlueDoors-6x6-v0 --steps 1200000 --eval-every 100000 --window 24 --lr 0.001 --entropy-weight 0.03 "
        f"{_GRID} --stop-at 0.98",
        {"SAB": ""},
        "MiniGrid RedBlueDoors 6x6",
        0.0,
        seeds=3,
    ),
    "key-corridor": Experiment(
        f"MiniGrid-KeyCorridorS3R1-v0 --steps 1200000 --eval-every 100000 {_GRID} --stop-at 0.98",
        {"SAB": ""},
        "MiniGrid KeyCorridor S3R1",
        0.0,
        seeds=3,
    ),
}


def commands(experiment: Experiment, method: str, seed: int, home: Path) -> list[tuple[list[str], Path]]:
    """The arguments of ``sabsim`` for one run, after those of its curriculum, and the folder of each."""
    found: list[tuple[list[str], Path]] = []
    for number, line in enumerate((*experiment.before, experiment.command), 1):
        last = number > len(experiment.before)
        folder = home / (str(seed) if last else f"{seed}-before-{number}")
        begin = ["--begin-from", str(found[-1][1])] if found else []
        arguments = ["agent", *shlex.split(f"{line} {experiment.methods[method]}"), "--seed", str(seed), *begin]
        found.append((arguments, folder))
    return found


def run(name: str, method: str, seed: int) -> dict[str, Any]:
    """One run, or what is left of an earlier one; returns its figures."""
    experiment = EXPERIMENTS[name]
    home = RUNS / name / method.replace(" ", "-").replace(",", "").replace("+", "and")
    for arguments, folder in commands(experiment, method, seed, home):
        line = [*arguments, "--out", str(folder), "--resume", "--quiet"]
        if not (folder / "summary.json").exists() and sabsim(line):
            raise RuntimeError(f"sabsim {shlex.join(line)}: failed")
    summary = json.loads((folder / "summary.json").read_text())
    curve = read_rows(
        folder / "run.sqlite",
        "SELECT env_steps, success, return, length FROM metrics WHERE split = 'evaluation' ORDER BY id",
    )
    return {"seed": seed, **_figures(summary, experiment, curve)}


def _figures(summary: dict[str, Any], experiment: Experiment, curve: Sequence[Sequence[Any]]) -> dict[str, Any]:
    found, unit = summary["evaluation"], experiment.unit
    paid, length = (found[name]["estimate"] for name in ("return", "length"))
    score = laps_per_1000(paid, length) if unit == "laps" else found["success"]["estimate"]
    points = [[at, laps_per_1000(back, took) if unit == "laps" else won] for at, won, back, took in curve]
    good = [steps for steps, value in points if unit == "success" and value is not None and value >= GOOD]
    return {
        "score": round(score, 4),
        "return": found["return"]["estimate"],
        "length": found["length"]["estimate"],
        "episodes_evaluated": found["episodes"],
        "steps": summary["steps"],
        "steps_to_good": good[0] if good else None,
        "stopped_early": summary["stopped_early"],
        "seconds": round(summary["seconds"], 1),
        "steps_per_second": round(summary["steps_per_second"]),
        "macrostate_bytes": summary["macrostate_bytes"],
        "parameters": summary["parameters"],
        "curve": [[steps, None if value is None else round(value, 4)] for steps, value in points],
        "made_by": summary["made_by"],
    }


def laps_per_1000(paid: float, length: float) -> float:
    """Of a session on the track, which has 60 laps and pays 90: of one that was cut off, laps as far as it was paid."""
    return 1_000 * 60 * min(1.0, paid / 90) / length


def interval(scores: Sequence[float], unit: str) -> list[float]:
    """Mean and its 95 % interval over seeds, that of success cut at 0 and 1; the mean alone where there is one seed."""
    mean = float(np.mean(scores))
    low, high = over_seeds(scores, (0.0, 1.0) if unit == "success" else (0.0, math.inf))
    return [mean, mean, mean] if low is None or high is None else [mean, low, high]


def collect(name: str, jobs: int, seeds: int | None = None) -> None:
    """All runs of an experiment, or those of its first ``seeds``, and its file."""
    experiment = EXPERIMENTS[name]
    if seeds is not None:
        experiment = replace(experiment, seeds=seeds)
    wanted = [(name, method, seed) for seed in range(experiment.seeds) for method in experiment.methods]
    # Processes that stay: importing torch takes as long as a short run.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = list(pool.map(run, *zip(*wanted, strict=True)))
    methods = {}
    for method in experiment.methods:
        runs = [row for row, (_, mine, _) in zip(rows, wanted, strict=True) if mine == method]
        lines = [
            shlex.join(["sabsim", *arguments, *(["--out", str(folder)] if experiment.before else [])])
            for arguments, folder in commands(experiment, method, 0, Path("runs"))
        ]
        scores = interval([row["score"] for row in runs], experiment.unit)
        shown = "\n    ".join(lines).replace("--seed 0", "--seed SEED").replace("runs/0", "runs/SEED")
        methods[method] = {"command": shown, "score": scores, "runs": runs}
        print(name, method, [round(score, 3) for score in scores], flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    result = {"what": experiment.what, "chance": experiment.chance, "unit": experiment.unit, "methods": methods}
    (OUT / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


_HOW_TO_READ = """Success is that of 200 evaluation episodes at a run's end (sampled policy), the mean over seeds with its
95 % interval (Student's t, cut at 0 and 1); *at N*: the mean success when the last seed of the first method had 0.95;
*learned*: seeds that ever had 0.95 in an evaluation, and the median of the steps at which they first had. Times are
of one thread on a shared machine; memory is the macrostate's, of all streams."""


def table() -> None:
    """``README.md`` of the results."""
    lines = ["# Agents: results", "", "Written by `python benchmarks/agents.py --table`.", "", _HOW_TO_READ, ""]
    for name in EXPERIMENTS:
        path = OUT / f"{name}.json"
        if path.exists():
            lines += _section(name, json.loads(path.read_text()))
    (OUT / "README.md").write_text("\n".join(lines) + "\n")


def _section(name: str, result: dict[str, Any]) -> list[str]:
    chance = "" if result["chance"] is None else f" (a random policy: {result['chance']:g})"
    moment = _moment(next(iter(result["methods"].values()))["runs"])
    then = "" if moment is None else f" at {moment:,}"
    lines = [f"## {name}: {result['what']}{chance}", ""]
    lines += [f"| method | score | 95 % interval |{then} | learned | steps to 0.95 | steps | s | steps/s | memory, kB |"]
    lines += ["| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for method, found in result["methods"].items():
        runs, (mean, low, high) = found["runs"], found["score"]
        good = [row["steps_to_good"] for row in runs if row["steps_to_good"] is not None]
        learned = f"{len(good)} of {len(runs)}" if result["unit"] == "success" else ""
        when = f"{np.median(good):,.0f}" if good else ""
        early = "" if moment is None else f"{np.mean([_at(row['curve'], moment) for row in runs]):.3f}"
        middle = {key: np.median([row[key] or 0 for row in runs]) for key in ("steps", "seconds", "steps_per_second")}
        memory = (runs[0]["macrostate_bytes"] or 0) / 1e3
        digits = 3 if result["unit"] == "success" else 1
        lines.append(
            f"| {method} | {mean:.{digits}f} | {low:.{digits}f} .. {high:.{digits}f} | {early} | {learned} | {when} | "
            f"{middle['steps']:,.0f} | {middle['seconds']:.0f} | {middle['steps_per_second']:,.0f} | {memory:,.0f} |"
        )
    revisions = sorted({row["made_by"]["git"][:7] for found in result["methods"].values() for row in found["runs"]})
    commands = [f"    {found['command']}" for found in result["methods"].values()]
    return [*lines, "", f"Seeds: {len(runs)}. Revision: {', '.join(revisions)}.", "", *commands, ""]


def _moment(runs: Sequence[Mapping[str, Any]]) -> int | None:
    """The steps at which the last seed of the first method had learned; None if one never did."""
    good = [row["steps_to_good"] for row in runs]
    return None if not good or None in good else max(good)


def _at(curve: Sequence[Sequence[Any]], moment: int) -> float:
    """The evaluation at ``moment``, or the last before it where a run had stopped."""
    return [value for steps, value in curve if steps <= moment][-1]


def main() -> None:
    """Run experiments by name, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*EXPERIMENTS, []], help="experiments to run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once (default 2)")
    parser.add_argument("--seeds", type=int, help="of each method, the first so many (default: the experiment's)")
    parser.add_argument("--table", action="store_true", help="write the table of all results")
    options = parser.parse_args()
    for name in options.names:
        collect(name, options.jobs, options.seeds)
    if options.table:
        table()


if __name__ == "__main__":
    main()
