"""The transfer table: what is learned at one T is played at others, resumably, and set beside the published figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sabsim.cli import main
from sabsim.errors import RunFolderError
from sabsim.reproduce import TABLES, plan, transfer
from sabsim.runs import Display, RunConfig, RunFolder, loop
from sabsim.runs.sweep import Planned, Swept


def config_of(run: Planned) -> RunConfig:
    """The run with sizes of a test."""
    size = replace(run.config.run, eval_sequences=8, eval_every=16, streams=4)
    learner = replace(run.config.learner, hidden=8)
    return replace(run.config, run=size, learner=learner)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SEQUENCES", 12)
    monkeypatch.setattr(transfer, "_FEWEST", 4)
    monkeypatch.setattr(loop, "FINAL_SEQUENCES", 16)


@pytest.fixture
def run(tmp_path: Path) -> Planned:
    """A run of RelLSTM."""
    rows = ("RelLSTM (10, 15)",)
    (planned,) = plan("transfer", rows, 1, tmp_path, quick=True, leading=True, budget=16)
    return replace(planned, config=config_of(planned))


def test_the_lengths_are_those_of_the_paper() -> None:
    assert transfer.lengths_of("transfer", quick=False) == (100, 200, 400, 2000, 5000)
    assert transfer.lengths_of("transfer", quick=True) == (20, 40, 80)
    assert [name for name in TABLES if transfer.lengths_of(name, quick=False)] == ["transfer"]
    assert TABLES["transfer"].task.T == 100


def test_fewer_long_sequences_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [transfer.how_many(T) for T in (100, 200, 400, 2000, 5000)] == [1000, 1000, 1000, 200, 100]


def test_a_kill_costs_only_what_was_not_played_yet(
    run: Planned, killed_at: Callable[[Any, str, int], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = transfer.work_of("transfer", quick=True)
    with killed_at(transfer, "play", 2):
        work(run.config, out=run.out, resume=True, display=Display())
    folder = RunFolder(run.out)
    assert [path.name for path in folder.evaluations.iterdir()] == ["T20.json"]
    played = []
    real = transfer.play
    monkeypatch.setattr(transfer, "play", lambda config, *a, **k: played.append(config.task.T) or real(config, *a, **k))
    summary = work(run.config, out=run.out, resume=True, display=Display())
    assert played == [40, 80]
    assert work(run.config, out=run.out, resume=True, display=Display()) == summary
    assert played == [40, 80]
    # Longer training makes what was played before out of date.
    longer = replace(run.config, run=replace(run.config.run, budget=32))
    assert work(longer, out=run.out, resume=True, display=Display())["sequences"] == 32
    assert played == [40, 80, 20, 40, 80]
    assert transfer.accuracy_at(folder, 40, trained=32, sequences=12) is not None
    assert transfer.accuracy_at(folder, 40, trained=16, sequences=12) is None
    assert transfer.accuracy_at(folder, 40, trained=32, sequences=13) is None
    (folder.evaluations / "T40.json").write_text("{")
    assert transfer.accuracy_at(folder, 40, trained=32, sequences=12) is None


def test_what_is_played_is_what_evaluate_plays(run: Planned, capsys: pytest.CaptureFixture[str]) -> None:
    transfer.train_and_play(run.config, out=run.out, resume=True, display=Display(), lengths=(60,))
    stored = json.loads((run.out / "evaluations" / "T60.json").read_text())
    assert main(["evaluate", str(run.out), "--T", "60", "--sequences", "12", "--json"]) == 0
    (again,) = json.loads(capsys.readouterr().out)
    for key in ("accuracy", "loss", "sequences", "trained_sequences", "slots"):
        assert stored[key] == again[key]


def test_rows_stand_beside_the_published_figures() -> None:
    """Means with their intervals over seeds; a dash where there is nothing."""
    scores = {0: 0.9, 1: 1.0, 2: 0.95}
    found = [
        transfer.Transfer(row="SAB (5, 5)", T=200, sequences=1000, scores=scores, mean=0.95, low=0.826, high=1.0),
        transfer.Transfer(row="RelLSTM (10, 15)", T=5000, sequences=100, scores={0: 0.5}, mean=0.5, low=None, high=None),
    ]
    title, *lines = transfer.as_lines("transfer", found, quick=False)
    assert title == ["row", "T = 100", "T = 200", "T = 400", "T = 2,000", "T = 5,000"]
    assert lines == [
        ["SAB (5, 5)", "-", "0.950 (0.826 .. 1.000)", "-", "-", "-"],
        ["RelLSTM (10, 15)", "-", "-", "-", "-", "0.500"],
        ["SAB, published (Kerg)", "-", "0.95", "0.75", "0.47", "0.41"],
        ["RelLSTM, published (Kerg)", "-", "0.99", "0.99", "0.99", "0.99"],
    ]
    assert len(transfer.as_lines("transfer", found, quick=True)) == 3


def test_the_command_leaves_accuracies_by_T(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def one_by_one(runs: list[Planned], work: Any, **_: Any) -> Swept:
        return Swept({run.name: work(config_of(run), out=run.out, resume=True, display=Display()) for run in runs}, {})

    monkeypatch.setattr("sabsim.runs.sweep.sweep", one_by_one)
    # What a test's sizes change is not what makes a run another row's.
    monkeypatch.setattr("sabsim.reproduce.finished_runs", lambda *a, **k: {})
    rows = ["LSTM, BPTT", "SAB (5, 5)", "LSTM, self-attention", "RelLSTM (10, 15)"]
    arguments = ["reproduce", "transfer", "--quick", "--seeds", "1", "--budget", "8", "--rows", *rows]
    assert main([*arguments, "--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results"), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "T = 80" in shown
    results = tmp_path / "results"
    assert {path.name for path in results.glob("transfer-lengths.*")} == {
        f"transfer-lengths.{k}" for k in ("json", "csv", "md")
    }
    with (results / "transfer-lengths.csv").open() as file:
        lines = list(csv.reader(file))
    assert [line[0] for line in lines] == ["row", *rows]
    assert all(0 <= float(cell) <= 1 for line in lines[1:] for cell in line[1:])
    stored = json.loads((results / "transfer-lengths.json").read_text())
    assert stored["quick"]
    assert len(stored["lengths"]) == 4 * 3
    assert "quick: scaled down, says nothing about the paper" in (results / "transfer-lengths.md").read_text()


def test_rows_of_calls_before_stay(tmp_path: Path) -> None:
    """A call that plays one row keeps what the file holds of the others, and replaces its own."""

    def scored(row: str, score: float) -> transfer.Transfer:
        return transfer.Transfer(row=row, T=200, sequences=1000, scores={0: score}, mean=score, low=None, high=None)

    transfer.write_transfers(
        "transfer", [scored("SAB (5, 5)", 0.5), scored("RelLSTM (10, 15)", 0.9)], tmp_path, quick=False
    )
    found = transfer.merged("transfer", transfer.stored_transfers("transfer", tmp_path), [scored("SAB (5, 5)", 1.0)])
    assert found == [scored("SAB (5, 5)", 1.0), scored("RelLSTM (10, 15)", 0.9)]
    # Played at one T so far: the others stay, and so does what has more seeds.
    longer, several = replace(found[0], T=400), replace(found[0], scores={0: 0.7, 1: 0.8})
    assert transfer.merged("transfer", [several, longer], [found[0]]) == [several, longer]
    assert transfer.merged("transfer", [found[0], longer], [several]) == [several, longer]


def test_damaged_accuracies_by_T_are_told_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "transfer-lengths.json").write_text('{"lengths": [{"row": "SAB (5, 5)"}]}')
    with pytest.raises(RunFolderError, match=r"transfer-lengths\.json': cannot be read"):
        transfer.stored_transfers("transfer", tmp_path)
    out = tmp_path / "runs"
    arguments = ["reproduce", "transfer", "--quick", "--rows", "SAB (5, 5)", "--out", str(out), "--results", str(tmp_path)]
    assert main([*arguments, "--quiet"]) != 0
    assert "transfer-lengths.json" in capsys.readouterr().err
    assert not out.exists()
