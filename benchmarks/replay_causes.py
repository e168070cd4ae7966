"""Does replay land on the step that matters, and does it follow reward? T-maze, Exam, KeyToDoor and copying, with controls.

    python benchmarks/replay_causes.py --seeds 3 --jobs 2

Each case is a command of `sabsim agent` or `sabsim run` and a control that differs in its step size alone: 0, an untrained
learner. Runs go to `runs/causes/NAME-sSEED`; those that are finished are not run again. Each case is then analysed as
`sabsim analyze` does: `results/replay/NAME/` gets its `stats.json`, tables and figures, `results/replay/causes.json` the
recipes and what made them, and `results/replay/README.md` the table.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sabsim.cli import main as sabsim
from sabsim.runs.machine import made_by

OUT, RUNS = Path("results/replay"), Path("runs/causes")
_AGENT = "--record-streams 8 --record-every 2"
_SEND = "--action-credit recall"
_CUE = "--no-sees-action --no-sees-reward --forget-bias 1"
_TABLE = {
    "causal_fraction": "replays on the causal step",
    "causal_above_lag_matched": "above lag-matched",
    "causal_above_uniform": "above uniform",
    "causal_credit": "credit on it",
    "causal_credit_above_lag_matched": "above lag-matched",
    "causal_credit_above_uniform": "above uniform",
    "causal_at_outcome": "replays on it at the outcome",
}
_MARKS = ("<!-- table -->", "<!-- end of table -->")
_UNTRAINED = "--lr 0 --steps 100000"


@dataclass(frozen=True)
class Case:
    """`command`: of sabsim, without seed and folder. `control`: options of the untrained one. `what`: the causal step."""

    command: str
    control: str
    what: str


CASES = {
    "tmaze-passive": Case(
        f"agent sabsim/TMaze-v0 --env-args memory_length=100 --steps 200000 {_CUE} {_AGENT}",
        _UNTRAINED,
        "passive T-maze, 100 steps from the cue to the turn; the cue's step",
    ),
    "tmaze-active": Case(
        f"agent sabsim/TMaze-v0 --env-args memory_length=48 active=true --gamma 0.96 --steps 1000000 {_SEND} {_AGENT}",
        _UNTRAINED,
        "active T-maze, credit length 50; the step to the oracle",
    ),
    "exam": Case(
        f"agent sabsim/Exam-v0 --env-args delay=50 --gamma 0.96 --steps 400000 {_SEND} {_AGENT}",
        _UNTRAINED,
        "Exam, 50 steps from the decision to the result; the decision",
    ),
    "key": Case(
        f"agent sabsim/KeyToDoor-v0 --gamma 0.98 --steps 80000 {_SEND} {_AGENT}",
        "--lr 0 --steps 20000",
        "KeyToDoor, default times; the step that picked up the key",
    ),
    "copying": Case(
        "run copying --T 100 --budget 12000 --record-streams 8 --record-every 4",
        "--lr 0 --budget 3000",
        "copying, T = 100; the step at which the wanted digit was shown",
    ),
}


def command_of(case: Case, *, trained: bool) -> str:
    """The options of a run; a later one replaces an earlier one of the same name."""
    words = shlex.split(case.command)
    further = [] if trained else shlex.split(case.control)
    for at in range(0, len(further), 2):
        if further[at] in words:
            words[words.index(further[at]) + 1] = further[at + 1]
        else:
            words += further[at : at + 2]
    return shlex.join(words)


def folder(name: str, *, trained: bool, seed: int) -> Path:
    return RUNS / f"{name}{'' if trained else '-untrained'}-s{seed}"


def train(job: tuple[str, bool, int]) -> None:
    """One run, unless it is finished."""
    name, trained, seed = job
    out = folder(name, trained=trained, seed=seed)
    if (out / "summary.json").exists():
        return
    shutil.rmtree(out, ignore_errors=True)
    if sabsim([*shlex.split(command_of(CASES[name], trained=trained)), "--seed", str(seed), "--out", str(out)]):
        raise SystemExit(f"{out}: the run failed")


def analyse(name: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Tables, figures and `stats.json` of a case in `OUT/name`; what the summary of all cases says of it."""
    case, out = CASES[name], OUT / name
    runs, controls = ([str(folder(name, trained=trained, seed=seed)) for seed in seeds] for trained in (True, False))
    if sabsim(["analyze", *runs, "--compare", *controls, "--out", str(out)]):
        raise SystemExit(f"{name}: the analysis failed")
    # What is large and can be made again from the runs is not kept.
    for path in (*out.glob("*.png"), out / "recall_map.csv", out / "place_map.csv"):
        path.unlink(missing_ok=True)
    stats = json.loads((out / "stats.json").read_text())
    summaries = [json.loads((Path(run) / "summary.json").read_text()) for run in runs]
    told = {
        "what": case.what,
        "commands": [f"sabsim {command_of(case, trained=trained)} --seed SEED" for trained in (True, False)],
        "seeds": list(seeds),
        "score": [_score(summary) for summary in summaries],
        "trained_by": summaries[0].get("made_by") or {key: summaries[0].get(key) for key in ("git", "torch", "date")},
        "across": stats["across"],
        "comparison": stats["comparison"]["differences"],
        "causal": [run["causal"] for run in stats["runs"]],
        "missing": {run["run"]: run["missing"] for run in stats["runs"] if run["missing"]},
    }
    return told


def table(found: dict[str, Any]) -> str:
    """The rows of README.md: means over seeds, the untrained control in brackets."""
    heads = ("case", "score", *_TABLE.values())
    rows = [f"| {' | '.join(heads)} |", f"|---|---|{'---:|' * len(_TABLE)}"]
    for case in (name for name in CASES if name in found):
        across = found[case]["across"]
        there = {item["name"]: f" ({item['there']:.2f})" for item in found[case]["comparison"]}
        cells = [
            f"{across[name]['interval']['estimate']:.2f}{there.get(name, '')}" if name in across else "-" for name in _TABLE
        ]
        score = ", ".join("-" if value is None else f"{value:.3f}" for value in found[case]["score"])
        rows.append(f"| {found[case]['what']} | {score} | {' | '.join(cells)} |")
    return "\n".join(rows)


def write_table(found: dict[str, Any]) -> None:
    """Put the table into README.md between its marks; what is written around it stays."""
    path = OUT / "README.md"
    text = path.read_text() if path.exists() else f"{_MARKS[0]}\n{_MARKS[1]}\n"
    before, _, rest = text.partition(_MARKS[0])
    path.write_text(f"{before}{_MARKS[0]}\n\n{table(found)}\n\n{_MARKS[1]}{rest.partition(_MARKS[1])[2]}")


def _score(summary: dict[str, Any]) -> float | None:
    evaluation = summary.get("evaluation")
    if evaluation:
        success = evaluation.get("success") or {}
        return success.get("estimate")
    return summary.get("accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=list(CASES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    seeds = range(options.seeds)
    jobs = [(name, trained, seed) for name in options.cases for seed in seeds for trained in (True, False)]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        list(pool.map(train, jobs))
    path = OUT / "causes.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for name in options.cases:
        found[name] = analyse(name, seeds)
    OUT.mkdir(parents=True, exist_ok=True)
    found["made_by"] = made_by() | {"command": f"python benchmarks/replay_causes.py --seeds {options.seeds}"}
    path.write_text(json.dumps(found, indent=2) + "\n")
    write_table(found)


if __name__ == "__main__":
    main()
