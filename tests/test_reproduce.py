"""The paper's tables: rows and their runs, the figures over seeds, budgets, and the command."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sabsim.cli import main
from sabsim.reproduce import TABLES, figure3, plan, tables
from sabsim.runs import Display, RunConfig
from sabsim.runs.folder import RunFolder
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


@pytest.mark.parametrize("name", TABLES)
def test_the_numbers_in_a_rows_name_are_those_of_its_run(name: str) -> None:
    """They are k_trunc, k_top and k_att, as many of them as there are."""
    table, checked = TABLES[name], 0
    for row in table.rows:
        if told := re.match(r"(?:SAB|no replay|LSTM, TBPTT) \(([\d, ]+)\)", row.name):
            numbers = [int(number) for number in told[1].split(",")]
            learner = tables.config(table, row, 0, quick=False).learner
            assert [learner.k_trunc, learner.k_top, learner.k_att][: len(numbers)] == numbers, row.name
            checked += 1
    assert checked


def test_a_row_follows_the_leading_ones(tmp_path: Path) -> None:
    leading = plan("table1", (), 2, tmp_path, quick=False, leading=True)
    others = plan("table1", (), 2, tmp_path, quick=False, leading=False, budget=7_000)
    names = ("SAB (5, 5)", "SAB (10, 10)", "LSTM, self-attention", "RelLSTM (10, 15)")
    assert {run.name for run in leading} == {f"table1/{name}/seed {seed}" for name in names for seed in (0, 1)}
    assert {run.config.run.budget for run in leading} == {200_000}
    assert {run.config.run.budget for run in others} == {7_000}
    assert not {run.name for run in leading} & {run.name for run in others}
    assert len({run.out for run in [*leading, *others]}) == 2 * len(TABLES["table1"].rows)
    (chosen,) = plan("table1", ("LSTM, BPTT",), 1, tmp_path, quick=False, leading=False)
    assert chosen.config.learner.credit == "bptt"


def test_the_others_do_not_wait_for_rows_that_stand_alone() -> None:
    sequences = {"table1/SAB (5, 5)/seed 0": 4_000, "table1/SAB (10, 10)/seed 1": 6_000}
    alone = {"table1/RelLSTM (10, 15)/seed 0": 90_000, "table1/LSTM, self-attention/seed 1": 70_000}
    assert tables.needed("table1", sequences | alone) == 6_000
    assert tables.needed("table1", alone) is None


def test_a_row_is_found_by_its_name() -> None:
    table = TABLES["table1"]
    assert [table.place(row.name) for row in table.rows] == list(range(len(table.rows)))
    assert table.place("gone") == len(table.rows)
    with pytest.raises(KeyError, match="gone"):
        table.row("gone")


def test_rivals_with_attention_have_the_settings_of_their_paper() -> None:
    assert TABLES["table8-permuted"].row("RelLSTM (10, 10)").learner["slots"] == 20
    for name, nu, rho in (("table1", 10, 15), ("denoise", 15, 15)):
        table = TABLES[name]
        resolved = tables.config(table, table.row(f"RelLSTM ({nu}, {rho})"), 0, quick=False).resolved()
        assert (resolved.learner.slots, resolved.learner.buffer, resolved.learner.retention) == (nu + rho, nu, "relevancy")
        assert not resolved.run.stagger
        full = tables.config(table, table.row("LSTM, self-attention"), 0, quick=False).resolved()
        assert (full.learner.slots, full.learner.retention) == (table.task.length, "all")


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
    arguments = ["reproduce", "table1", "--quick", "--seeds", "1", "--threads", "2", "--out", str(tmp_path / "runs")]
    rows = ["--rows", "SAB (5, 5)", "LSTM, TBPTT (5)", "--budget", "16", "--results", str(tmp_path / "results")]
    assert main([*arguments, *rows]) == 0
    assert RunFolder(tmp_path / "runs" / "table1" / "SAB--5--5" / "0").read_config().run.threads == 2
    assert "quick: scaled down" in capsys.readouterr().out
    stored = json.loads((tmp_path / "results" / "table1.json").read_text())
    assert stored["quick"]
    assert [row["row"] for row in stored["rows"]] == ["LSTM, TBPTT (5)", "SAB (5, 5)"]
    assert {row["sequences"] for row in stored["rows"]} == {19}  # with the block in which the sixteenth ends
    with (tmp_path / "results" / "table1.csv").open() as file:
        assert [line[0] for line in csv.reader(file)] == ["row", "LSTM, TBPTT (5)", "SAB (5, 5)"]
    # A smaller budget than a run was begun with does not cut it: it is read as it is.
    before = (tmp_path / "results" / "table1.csv").read_text()
    assert main([*arguments, *rows[:-4], "--budget", "8", "--results", str(tmp_path / "results")]) == 0
    assert (tmp_path / "results" / "table1.csv").read_text() == before
    # A later call with another row keeps these two, with what they were made by.
    results = ["--results", str(tmp_path / "results")]
    assert main([*arguments, "--rows", "no replay", "--budget", "24", *results]) == 0
    printed = capsys.readouterr().out
    kept = json.loads((tmp_path / "results" / "table1.json").read_text())
    assert [row["row"] for row in kept["rows"]] == ["LSTM, TBPTT (5)", "no replay", "SAB (5, 5)"]
    assert [row["sequences"] for row in kept["rows"]] == [19, 27, 19]
    assert ["--budget 8" in row["command"] for row in kept["rows"]] == [True, False, True]
    assert all(row["made_by"][0]["machine"] for row in kept["rows"])
    # Told is what decides the figures, and no place on this machine.
    assert kept["rows"][1]["command"] == "sabsim reproduce table1 --seeds 1 --rows 'no replay' --budget 24 --quick"
    assert all(row["row"] in printed for row in kept["rows"])


def test_figure_3_is_a_recorded_run_of_table_1(tmp_path: Path) -> None:
    planned = figure3.plan(tmp_path, quick=False)
    assert isinstance(planned.config, RunConfig)
    row = tables.config(TABLES["table1"], TABLES["table1"].row("SAB (5, 5)"), 0, quick=False)
    differs = {name for name, _, _ in planned.config.differences(row)}
    assert differs == {"budget", "stop_at", "eval_every", "record_streams", "record_every"}
    elsewhere = figure3.plan(tmp_path, quick=False, device="cpu", threads=2).config.run
    assert (elsewhere.device, elsewhere.threads) == ("cpu", 2)
    assert figure3.plan(tmp_path, quick=True).config.task.T == 20
    assert figure3.plan(tmp_path, quick=True, budget=40).config.run.budget == 40


def test_figure_3_is_stopped_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reproduce", "figure3", "--quick", "--budget", "400", "--out", str(tmp_path / "runs"), "--quiet"]
    assert main([*arguments, "--minutes", "0.0001", "--results", str(tmp_path / "results")]) == 75
    assert "time is up" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


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
        ("reproduce table1 --rows LSTM", "row = 'LSTM': must be one of LSTM, BPTT; LSTM, TBPTT (1); "),
        ("reproduce figure3 --rows LSTM", "rows = LSTM: figure3 has none; leave --rows out"),
        ("reproduce table1 --seeds 0", "seeds = 0: must be at least 1"),
        ("reproduce table1 --budget 0", "budget = 0: must be at least 1"),
        ("reproduce table1 --threads 0", "threads = 0: must be at least 1"),
    ],
)
def test_a_mistake_is_one_line(arguments: str, words: str, mistake: Callable[..., str]) -> None:
    assert words in mistake(*arguments.split())


def test_a_row_may_have_a_budget_of_its_own() -> None:
    """Unless the command says how many sequences there are to be."""
    table = TABLES["table8-permuted-full"]
    row, other = table.row("SAB (56, 14, 56)"), table.row("SAB (14, 10, 14)")
    budgets = [
        tables.config(table, *what, quick=quick, budget=budget).run.budget
        for what, quick, budget in (
            ((row, 0), False, None),
            ((other, 0), False, None),
            ((row, 0), False, 9),
            ((row, 0), True, None),
        )
    ]
    assert budgets == [row.budget, table.budget, 9, tables.QUICK_BUDGET]


def test_quick_runs_are_evaluated_in_time() -> None:
    """On data the parameters that did best are the result: they must not be those before any training."""
    for table in TABLES.values():
        for row in table.rows:
            quick = tables.config(table, row, 0, quick=True).run
            assert quick.eval_every <= quick.budget // 4
