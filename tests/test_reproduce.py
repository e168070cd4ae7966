"""The paper's tables: rows and their runs, the figures over seeds, budgets, and the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sabsim.cli import main
from sabsim.reproduce import TABLES, as_markdown, figure3, figures_of, plan, tables
from sabsim.runs import Display, RunConfig
from sabsim.runs.sweep import Planned, Swept


@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_a_run_that_can_be_made(name: str) -> None:
    table = TABLES[name]
    assert len({row.folder for row in table.rows}) == len(table.rows)
    for quick in (False, True):
        for row in table.rows:
            config = tables.config(table, row, 3, quick=quick)
            assert config.run.seed == 3
            assert config.run.stop_at == (table.stop_at if row.leads else None)
            if quick:
                assert config.run.budget == tables.QUICK_BUDGET
                assert config.task != table.task
                config.resolved()


def test_what_the_paper_reports() -> None:
    """The figures that could be checked, in the row that they belong to."""
    known = {name: {row.name: row.paper for row in table.rows if row.paper is not None} for name, table in TABLES.items()}
    assert known == {
        "table1": {"SAB (5, 5)": 0.996, "SAB (10, 10)": 1.0},
        "table2": {"SAB (5, 5)": 0.993, "SAB (10, 10)": 0.987},
        "table3": {},
        "table4": {"SAB (10, 10)": 0.0001},
        "table5": {"SAB (10, 10)": 0.00014},
        "table6": {"SAB (20, 5, 10)": 1.40},
        "table7": {"SAB (20, 5, 10)": 1.53},
        "table8": {"SAB (14, 5, 14)": 0.911},
        "table8-permuted": {"SAB (14, 5, 14)": 0.942},
    }


def test_a_row_follows_the_leading_ones(tmp_path: Path) -> None:
    leading = plan("table1", (), 2, tmp_path, quick=False, leading=True)
    others = plan("table1", (), 2, tmp_path, quick=False, leading=False, budget=7_000)
    assert {run.name for run in leading} == {f"table1/SAB ({k}, {k})/seed {seed}" for k in (5, 10) for seed in (0, 1)}
    assert {run.config.run.budget for run in leading} == {200_000}
    assert {run.config.run.budget for run in others} == {7_000}
    assert not {run.name for run in leading} & {run.name for run in others}
    assert len({run.out for run in [*leading, *others]}) == 2 * len(TABLES["table1"].rows)
    (chosen,) = plan("table1", ("LSTM, BPTT",), 1, tmp_path, quick=False, leading=False)
    assert chosen.config.learner.credit == "bptt"


def summary(accuracy: float, sequences: int, *, stopped: bool) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "sequences": sequences,
        "seconds": 10.0 * accuracy,
        "stopped_early": stopped,
        "macrostate_bytes": 4_000,
    }


def test_figures_are_means_over_seeds_with_failures_told() -> None:
    found = figures_of(
        "table1",
        {
            "table1/SAB (5, 5)/seed 0": summary(0.99, 4_000, stopped=True),
            "table1/SAB (5, 5)/seed 1": summary(1.0, 8_000, stopped=True),
            "table1/SAB (5, 5)/seed 2": summary(0.95, 9_000, stopped=False),
            "table1/LSTM, BPTT/seed 1": summary(0.25, 8_000, stopped=False),
        },
        {"table1/SAB (5, 5), paper/seed 0": "loss is not finite at step 40"},
        seeds=3,
    )
    assert [item.row for item in found] == ["LSTM, BPTT", "SAB (5, 5)", "SAB (5, 5), paper"]
    lstm, sab, paper = found
    assert sab.mean == pytest.approx(0.98)
    # Student's t with 2 degrees of freedom: 4.303 times the standard error.
    half = 4.302653 * 0.0264575 / 3**0.5
    assert (sab.low, sab.high) == (pytest.approx(0.98 - half, abs=1e-5), pytest.approx(0.98 + half, abs=1e-5))
    assert (sab.sequences, sab.solved, sab.memory) == (8_000, 2, 4_000)
    assert (lstm.low, lstm.high, lstm.solved) == (None, None, None)
    assert (paper.mean, paper.failures) == (None, {0: "loss is not finite at step 40"})
    text = as_markdown("table1", found, quick=True)
    assert "quick: scaled down, says nothing about the paper" in text
    assert "| SAB (5, 5) | 0.9960 | 0.9800 |" in text
    assert "- SAB (5, 5), paper, seed 0: loss is not finite at step 40" in text


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few sequences, one after the other in this process."""

    def one_by_one(runs: list[Planned], work: Any, **_: Any) -> Swept:
        done = {}
        for run in runs:
            size = replace(run.config.run, eval_sequences=8, eval_every=16, streams=4)
            learner = replace(run.config.learner, hidden=8, slots=12)
            config = replace(run.config, run=size, learner=learner)
            done[run.name] = work(config, out=run.out, resume=True, display=Display())
        return Swept(done, {})

    monkeypatch.setattr("sabsim.runs.sweep.sweep", one_by_one)


@pytest.mark.usefixtures("small")
def test_the_command_leaves_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reproduce", "table1", "--quick", "--seeds", "1", "--out", str(tmp_path / "runs")]
    rows = ["--rows", "SAB (5, 5)", "LSTM, TBPTT (5)", "--budget", "16", "--results", str(tmp_path / "results")]
    assert main([*arguments, *rows]) == 0
    assert "quick: scaled down" in capsys.readouterr().out
    stored = json.loads((tmp_path / "results" / "table1.json").read_text())
    assert stored["quick"]
    assert [row["row"] for row in stored["rows"]] == ["LSTM, TBPTT (5)", "SAB (5, 5)"]
    assert {row["sequences"] for row in stored["rows"]} == {16}
    with (tmp_path / "results" / "table1.csv").open() as file:
        assert [line[0] for line in csv.reader(file)] == ["row", "LSTM, TBPTT (5)", "SAB (5, 5)"]
    # A smaller budget than a run was begun with does not cut it: it is read as it is.
    before = (tmp_path / "results" / "table1.csv").read_text()
    assert main([*arguments, *rows[:-4], "--budget", "8", "--results", str(tmp_path / "results")]) == 0
    assert (tmp_path / "results" / "table1.csv").read_text() == before


def test_figure_3_is_a_recorded_run_of_table_1(tmp_path: Path) -> None:
    planned = figure3.plan(tmp_path, quick=False)
    assert isinstance(planned.config, RunConfig)
    row = tables.config(TABLES["table1"], TABLES["table1"].row("SAB (5, 5)"), 0, quick=False)
    differs = {name for name, _, _ in planned.config.differences(row)}
    assert differs == {"budget", "stop_at", "eval_every", "record_streams", "record_every"}
    assert figure3.plan(tmp_path, quick=True).config.task.T == 20
    assert figure3.plan(tmp_path, quick=True, budget=40).config.run.budget == 40


@pytest.mark.usefixtures("small")
def test_figure_3_is_drawn_with_its_run_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reproduce", "figure3", "--quick", "--budget", "40", "--out", str(tmp_path / "runs"), "--quiet"]
    assert main([*arguments, "--results", str(tmp_path / "results")]) == 0
    assert "quick: scaled down" in capsys.readouterr().out
    results = tmp_path / "results"
    assert {path.name for path in results.iterdir()} == {f"figure3.{kind}" for kind in ("png", "svg", "json", "md")}
    stored = json.loads((results / "figure3.json").read_text())
    assert stored["config"]["task_options"] == {"T": 20}
    assert stored["made_by"]["date"]
    assert [phase["name"] for phase in stored["phases"]][::2] == ["Early", "Late"]
    assert all(0 <= phase["wanted"] <= phase["any_digit"] <= 1 for phase in stored["phases"])
    words = (results / "figure3.md").read_text()
    assert "quick: scaled down, says nothing about the paper" in words
    assert figure3.PAPER in words
    assert "(quick: scaled down)" in (results / "figure3.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("reproduce", "which table? one of table1, table2"),
        ("reproduce table9", "table = 'table9': must be one of table1"),
        ("reproduce table1 --rows LSTM", "row = 'LSTM': must be one of LSTM, BPTT"),
        ("reproduce figure3 --rows LSTM", "rows = LSTM: figure3 has none; leave --rows out"),
        ("reproduce table1 --seeds 0", "seeds = 0: must be at least 1"),
        ("reproduce table1 --budget 0", "budget = 0: must be at least 1"),
    ],
)
def test_a_mistake_is_one_line(arguments: str, words: str, mistake: Callable[..., str]) -> None:
    assert words in mistake(*arguments.split())
