"""`sabsim export` to Parquet and CSV: the rows of run.sqlite to the last digit, and a dictionary of every column."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sabsim.agents import AGENT_TABLES, AgentConfig, AgentLearnerOptions, AgentRunOptions, train_agent
from sabsim.analysis.export import export_tables, exports, tables
from sabsim.analysis.export.dictionary import AGENT, TASK

from sabsim.errors import StorageError
from sabsim.runs import TABLES, LearnerOptions, RunConfig, RunDatabase, RunFolder, RunOptions, loop, read_rows, train
from sabsim.runs.database import HIDDEN
from sabsim.tasks import Copying

CONDITION = {"replays": "WHERE kind = 'replay'", "remindings": "WHERE kind = 'reminding'"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An agent on the track with hidden states of two streams, and a supervised run without."""
    folder = tmp_path_factory.mktemp("runs")
    options = AgentRunOptions(
        steps=800, streams=2, eval_every=10_000, eval_episodes=1, record_streams=2, record_every=2, record_hidden=True
    )
    learner = AgentLearnerOptions(hidden=8, slots=8, k_top=3)
    env_args = {"length": 3, "laps_per_epoch": 2}
    train_agent(
        AgentConfig(env="sabsim/LinearTrack-v0", env_args=env_args, learner=learner, run=options), out=folder / "agent"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "FINAL_SEQUENCES", 16)
        small = LearnerOptions(hidden=8, slots=8, k_top=3)
        run = RunOptions(streams=2, budget=60, eval_every=60, eval_sequences=8, record_every=3, device="cpu")
        train(RunConfig(task=Copying(T=5), learner=small, run=run), out=folder / "task")
    return {path.name: path for path in folder.iterdir()}


def recorded(run: Path, name: str) -> list[dict[str, Any]]:
    """The rows of the table as `run.sqlite` has them."""
    table = (AGENT if run.name == "agent" else TASK)[name]
    columns = [column.name for column in table.columns]
    wanted = ", ".join(f'"{column}"' for column in columns)
    rows = read_rows(run / "run.sqlite", f"SELECT {wanted} FROM {table.source} {CONDITION.get(name, '')} ORDER BY id")
    return [dict(zip(columns, row, strict=True)) for row in rows]


@pytest.mark.parametrize("name", ["agent", "task"])
def test_parquet_holds_what_the_database_holds(
    name: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(tables, "AT_ONCE", 100)
    found = export_tables(runs[name], tmp_path / "out", kind="parquet")
    assert found.finished
    assert ("hidden" in found.rows) == (name == "agent")
    for table, count in found.rows.items():
        rows = parquet.read_table(tmp_path / "out" / f"{table}.parquet").to_pylist()
        wanted = recorded(runs[name], table)
        assert len(rows) == len(wanted) == count
        if table == "hidden":
            for row in wanted:
                row["h"] = np.frombuffer(row["h"], "<f4").tolist()
        assert rows == wanted, table
    assert found.rows["steps"] > 100
    assert found.rows["replays"] > 100


def test_csv_holds_what_the_database_holds(runs: dict[str, Path], tmp_path: Path) -> None:
    assert export_tables(runs["agent"], tmp_path / "out", kind="csv").rows["steps"] > 100
    for name in ("steps", "replays", "episodes", "metrics"):
        with (tmp_path / "out" / f"{name}.csv").open(newline="") as file:
            for row, wanted in zip(csv.DictReader(file), recorded(runs["agent"], name), strict=True):
                for column, value in wanted.items():
                    assert row[column] == ("" if value is None else str(value)) or bool(value) == (row[column] == "true")
    with (tmp_path / "out" / "hidden.csv").open(newline="") as file:
        states = [[np.float32(row[f"h_{unit}"]) for unit in range(8)] for row in csv.DictReader(file)]
    assert states == [np.frombuffer(row["h"], "<f4").tolist() for row in recorded(runs["agent"], "hidden")]


def test_every_column_of_the_run_is_described(runs: dict[str, Path], tmp_path: Path) -> None:
    for kind, described in ((AGENT_TABLES, AGENT), (TABLES, TASK)):
        for source, columns in {**kind, **HIDDEN}.items():
            told = {column.name for table in described.values() if table.source == source for column in table.columns}
            # What tells two kinds of event apart, and what one kind of run never has.
            never = {"kind", "loss"} if kind is AGENT_TABLES else {"kind", "reward", "td_error"}
            assert set(columns) - told <= (never if source == "events" else set()), source
    assert set(AGENT) == set(TASK) == set(exports.TABLE_NAMES)
    export_tables(runs["task"], tmp_path / "out", kind="csv")
    with (tmp_path / "out" / "data_dictionary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["meaning"] and row["type"] for row in rows)
    for path in (tmp_path / "out").glob("*.csv"):
        if path.name != "data_dictionary.csv":
            with path.open(newline="") as file:
                assert next(csv.reader(file)) == [row["column"] for row in rows if row["table"] == path.stem]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == json.loads((runs["task"] / "config.json").read_text())
    assert (tmp_path / "out" / "summary.json").exists()


def test_places_and_epochs_of_other_environments(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run = tmp_path / "run"
    run.mkdir()
    RunFolder(run).write_config(AgentConfig(env="sabsim/Exam-v0"))
    database = RunDatabase(run / "run.sqlite", AGENT_TABLES)
    told = [("[1, 2.5]", "dawn", 0.5), (None, None, None), ("[3, 4]", "dusk", 1)]
    database.insert("steps", [(t, 0, 0, t, 1, 0.0, None, None, None, *here, None) for t, here in enumerate(told)])
    database.commit()
    database.close()
    found = export_tables(run, tmp_path / "out", kind="parquet")
    assert not found.finished
    rows = parquet.read_table(tmp_path / "out" / "steps.parquet", columns=["place_x", "place_y", "epoch", "phase"])
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        (1.0, 2.5, "dawn", 0.5),
        (None, None, None, None),
        (3.0, 4.0, "dusk", 1.0),
    ]


def test_only_an_export_is_ever_replaced(runs: dict[str, Path], tmp_path: Path, mistake: Callable[..., str]) -> None:
    run, out = str(runs["task"]), tmp_path / "out"
    out.mkdir()
    export_tables(run, out, kind="csv")
    assert "--overwrite to replace it" in mistake("export", run, "--csv", str(out))
    export_tables(run, out, kind="parquet", overwrite=True)
    assert not (out / "steps.csv").exists()
    (out / "thesis.tex").write_text("mine")
    assert "holds 'thesis.tex', which is of no export" in mistake("export", run, "--csv", str(out), "--overwrite")
    assert "holds 'out', which is of no export" in mistake("export", run, "--csv", str(tmp_path), "--overwrite")
    assert (out / "thesis.tex").read_text() == "mine"
    assert "is the folder of --parquet as well" in mistake("export", run, "--csv", str(out), "--parquet", str(out))
    (tmp_path / "file").write_text("mine")
    assert "is not a folder" in mistake("export", run, "--csv", str(tmp_path / "file"), "--overwrite")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_full_disk_leaves_what_was_there(
    kind: Any, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_tables(runs["task"], tmp_path / "out", kind=kind)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device; free space"):
        export_tables(runs["agent"], tmp_path / "out", kind=kind, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
