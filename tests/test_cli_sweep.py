"""`sabsim sweep`: which runs, the table over seeds, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sabsim.agents import AgentConfig, AgentRunOptions
from sabsim.agents.intervals import of_seeds
from sabsim.agents.sweep import cells, lines_of, plan, read_place, run_name

from sabsim.cli import main
from sabsim.cli.sweep import _parse
from sabsim.errors import ConfigError
from sabsim.runs import Display
from sabsim.runs.sweep import Planned, Swept

CHAIN = "sabsim/MemoryChain-v0,memory_length=3"
MAZE = "sabsim/TMaze-v0,memory_length=5,active=true"


def test_every_environment_rule_and_seed_is_a_run() -> None:
    places = [read_place(CHAIN, {"memory_length": 9}), read_place(MAZE, {})]
    base = AgentConfig(env=places[0].env, run=AgentRunOptions(seed=7, steps=100))
    runs = plan(places, ("sab", "tbptt"), 3, base, Path("out"))
    assert len({run.name for run in runs}) == len({run.out for run in runs}) == 12
    maze = next(run for run in runs if run.out == Path("out/TMaze-v0-memory_length-5-active-true/tbptt/8"))
    assert (maze.config.env, maze.config.env_args) == ("sabsim/TMaze-v0", {"memory_length": 5, "active": True})
    assert (maze.config.learner.credit, maze.config.run.seed, maze.config.run.steps) == ("tbptt", 8, 100)
    assert runs[0].config.env_args == {"memory_length": 3}
    assert read_place("my/Maze-v0,sizes=[3,5],wide=true", {}).env_args == {"sizes": [3, 5], "wide": True}
    with pytest.raises(ConfigError, match="env_args = 'wide': must be KEY=VALUE"):
        read_place("my/Maze-v0,wide", {})


def summary(success: float | None, total: float) -> dict[str, Any]:
    told = None if success is None else {"estimate": success}
    return {"evaluation": {"success": told, "return": {"estimate": total}}, "steps": 100, "seconds": 2.0}


def test_a_line_is_a_mean_over_seeds() -> None:
    place = read_place(CHAIN, {})
    found = {
        run_name(place, "sab", 0): summary(0.5, 1.0),
        run_name(place, "sab", 1): summary(0.7, 3.0),
        run_name(place, "tbptt", 0): summary(None, 4.0),
    }
    failures = {run_name(place, "tbptt", 1): "not finite", run_name(place, "rtu", 0): "no", run_name(place, "rtu", 1): "no"}
    sab, tbptt, rtu = lines_of([place], ("sab", "tbptt", "rtu"), (0, 1), found, failures)
    # Student's t with one degree of freedom: 12.706 times the standard error, 1; a share lies between 0 and 1.
    assert sab.total == pytest.approx((2.0, 2.0 - 12.7062, 2.0 + 12.7062), abs=1e-4)
    assert sab.success == pytest.approx((0.6, 0.0, 1.0), abs=1e-12)
    assert (sab.scores, sab.failures) == ({0: 0.5, 1: 0.7}, {})
    assert (tbptt.success, tbptt.total, tbptt.scores) == (None, (4.0, None, None), {0: 4.0})
    assert cells(tbptt)[2:7] == ["-", "", "4", "", "1 of 2"]
    assert cells(rtu)[2:] == ["-", "", "failed", "", "0 of 2", "", ""]
    assert of_seeds(np.array([0.25, 0.25, 0.25])) == (0.25, 0.25, 0.25)


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs one after the other in this process."""

    def one_by_one(runs: list[Planned], work: Any, **_: Any) -> Swept:
        return Swept({run.name: work(run.config, out=run.out, resume=True, display=Display()) for run in runs}, {})

    monkeypatch.setattr("sabsim.runs.sweep.sweep", one_by_one)


@pytest.mark.usefixtures("one_by_one")
def test_the_command_leaves_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--hidden", "4", "--slots", "4", "--k-top", "2", "--streams", "2", "--steps", "40", "--eval-episodes", "2"]
    more = ["--credits", "sab", "tbptt", "--seeds", "2", *sizes, "--final-episodes", "2", "--out", str(tmp_path)]
    assert main(["sweep", CHAIN, *more]) == 0
    assert CHAIN in capsys.readouterr().out
    stored = json.loads((tmp_path / "results" / "sweep.json").read_text())
    assert [line["credit"] for line in stored["lines"]] == ["sab", "tbptt"]
    summary = json.loads((tmp_path / "MemoryChain-v0-memory_length-3" / "tbptt" / "1" / "summary.json").read_text())
    assert stored["lines"][1]["scores"]["1"] == summary["evaluation"]["success"]["estimate"]
    with (tmp_path / "results" / "sweep.csv").open() as file:
        assert [line[1] for line in csv.reader(file)] == ["credit", "sab", "tbptt"]
    assert "| sab |" in (tmp_path / "results" / "sweep.md").read_text()


@pytest.mark.usefixtures("one_by_one")
def test_quick_leaves_what_is_asked_for(tmp_path: Path) -> None:
    """It stands for shorter defaults; in folders named as rich would mark up words."""
    sizes = ["--hidden", "4", "--slots", "4", "--k-top", "2", "--streams", "2", "--final-episodes", "2"]
    out = tmp_path / "sweep[lr=1]"
    assert main(["sweep", CHAIN, "--quick", "--steps", "40", "--seeds", "1", *sizes, "--out", str(out)]) == 0
    (path,) = out.glob("*/*/0/config.json")
    run = json.loads(path.read_text())["run"]
    assert [run[name] for name in ("steps", "final_episodes", "eval_every", "eval_episodes")] == [40, 2, 4_000, 8]


@pytest.mark.parametrize(("words", "steps"), [("--quick", 4_000), ("--quick --no-quick", AgentRunOptions().steps)])
def test_quick_is_what_was_said_last(words: str, steps: int) -> None:
    assert _parse([CHAIN, *words.split()]).run.steps == steps


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("sweep", "which environments? such as sabsim/MemoryChain-v0; see 'sabsim sweep --help'"),
        ("sweep sabsim/Nowhere-v0", "no environment of this name is registered"),
        (f"sweep {CHAIN} --credits sab tbtt", "credit = 'tbtt': must be one of sab"),
        (f"sweep {CHAIN} --credits sab sab", "credit rule 'sab': is named twice"),
        (f"sweep {CHAIN} {CHAIN}", "environment 'MemoryChain-v0-memory_length-3': is named twice"),
        ("sweep sabsim/MemoryChain-v0,3", "env_args = '3': must be KEY=VALUE"),
        (f"sweep {CHAIN} --seeds 0", "seeds = 0: must be at least 1"),
        (f"sweep {CHAIN} --jobs 0", "jobs = 0: must be at least 1"),
        ("sweep sabsim/MemoryChain-v0 --gpus 0.5", "gpus = 0.5: only for --ray"),
        ("reproduce table1 --gpus 0.5", "gpus = 0.5: only for --ray"),
        ("reproduce table1 --gpus 2 --ray local", "gpus = 2.0: must be above 0 and at most 1"),
    ],
)
def test_a_mistake_is_one_line(arguments: str, words: str, mistake: Callable[..., str]) -> None:
    assert words in mistake(*arguments.split())
