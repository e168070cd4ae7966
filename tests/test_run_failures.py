"""What can go wrong with a run: each a clear error, and nothing that was recorded is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sabsim.errors import ConfigError, NonFiniteError, RunFolderError, StorageError
from sabsim.runs import (
    Checkpoint,
    LearnerOptions,
    RunConfig,
    RunFolder,
    RunOptions,
    build,
    folder,
    load_checkpoint,
    loop,
    read_rows,
    save_checkpoint,
    train,
)
from sabsim.tasks import Copying

SMALL = RunConfig(
    task=Copying(T=5),
    learner=LearnerOptions(hidden=8, slots=8, k_top=3),
    run=RunOptions(streams=4, budget=60, eval_every=20, eval_sequences=8, checkpoint_every=20, device="cpu"),
)
TO_FILL_A_DISK = (
    "--T 5 --hidden 8 --slots 8 --k-top 3 --streams 4 --record-streams 4 --record-every 1 --budget 4000 "
    "--checkpoint-every 40 --eval-every 4000 --eval-sequences 8 --device cpu --quiet"
)


@pytest.fixture(autouse=True)
def quick_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at here does not need 1,000 sequences."""
    monkeypatch.setattr(loop, "FINAL_SEQUENCES", 16)


def variant(**run: Any) -> RunConfig:
    """`SMALL` with some options of the run changed."""
    return replace(SMALL, run=replace(SMALL.run, **run))


def test_nan_ends_the_run_with_the_tables_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream_type = type(build(SMALL).stream)
    original = stream_type.take

    def poisoned(self: Any, count: int) -> Any:
        began = self.clock
        steps = original(self, count)
        if self.streams == 4 and began <= 290 < began + count:
            steps.x[290 - began, 2, 0] = float("nan")
        return steps

    with monkeypatch.context() as patch:
        patch.setattr(stream_type, "take", poisoned)
        with pytest.raises(NonFiniteError, match=r"step 290, stream 2; .*last checkpoint, at 40 sequences"):
            train(variant(record_every=1, gap=0), out=tmp_path)
    assert read_rows(tmp_path / "run.sqlite", "SELECT max(step) FROM steps") == [(274,)]
    for state in load_checkpoint(RunFolder(tmp_path)).states.values():
        assert not any(isinstance(v, torch.Tensor) and v.is_floating_point() and v.isnan().any() for v in state.values())
    assert train(None, out=tmp_path, resume=True)["sequences"] == 60


def test_a_run_folder_is_not_overwritten(tmp_path: Path) -> None:
    train(variant(budget=4), out=tmp_path)
    with pytest.raises(ConfigError, match=r"out = .*holds a run; give another --out, or --resume"):
        train(SMALL, out=tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds 'thesis.tex' but no run"):
        train(SMALL, out=tmp_path / "other")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = RunFolder(tmp_path)
    save_checkpoint(place, Checkpoint(states={"part": {"x": torch.ones(3), "n": 1}}, numbers={"at": 1}))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.os, "fsync", full)
    with pytest.raises(StorageError, match=r"checkpoint.safetensors': No space left on device; free space"):
        save_checkpoint(place, Checkpoint(states={"part": {"x": torch.zeros(3), "n": 2}}, numbers={"at": 2}))
    kept = load_checkpoint(place)
    assert kept.numbers == {"at": 1}
    assert kept.states["part"]["n"] == 1
    assert torch.equal(torch.as_tensor(kept.states["part"]["x"]), torch.ones(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.json", "checkpoint.safetensors"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file sizes")
def test_a_disk_that_fills_up_loses_nothing_recorded(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = f"{sys.executable} -m sabsim run copying {TO_FILL_A_DISK} --out {out}"
    # No file may grow beyond 800 blocks of 512 bytes.
    done = subprocess.run(["sh", "-c", f"ulimit -f 800; exec {command}"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("sabsim: '")
    assert done.stderr.count("\n") == 1
    assert "free space" in done.stderr
    _has_what_its_checkpoint_counts(out)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount of its own")
def test_a_full_tmpfs_loses_nothing_recorded(tmp_path: Path) -> None:
    mount, kept = tmp_path / "mount", tmp_path / "kept"
    mount.mkdir()
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=800k", "none", str(mount)]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("this system does not let us mount a tmpfs")
    command = f"{sys.executable} -m sabsim run copying {TO_FILL_A_DISK} --out {mount}/run"
    script = f"mount -t tmpfs -o size=800k none {mount} && {command}; status=$?; cp -r {mount}/run {kept}"
    script += "; exit $status"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("sabsim: '")
    assert "full" in done.stderr or "No space left" in done.stderr
    _has_what_its_checkpoint_counts(kept)


def _has_what_its_checkpoint_counts(out: Path) -> None:
    """The checkpoint loads, the database is whole and holds the rows it counts, and the run can go on."""
    numbers = load_checkpoint(RunFolder(out)).numbers
    assert numbers["rows"]["steps"] > 0
    connection = sqlite3.connect(out / "run.sqlite")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for table, rows in numbers["rows"].items():
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] >= rows
    connection.close()
    config = RunFolder(out).read_config()
    config = replace(config, run=replace(config.run, budget=numbers["sequences"] + 8))
    assert train(config, out=out, resume=True)["sequences"] == numbers["sequences"] + 8


def test_a_database_that_shrank_is_noticed(tmp_path: Path) -> None:
    train(variant(budget=8), out=tmp_path)
    connection = sqlite3.connect(tmp_path / "run.sqlite")
    connection.execute("DELETE FROM events")
    connection.commit()
    connection.close()
    with pytest.raises(RunFolderError, match=r"table events has 0 rows, the checkpoint counts"):
        train(variant(budget=16), out=tmp_path, resume=True)


def test_a_database_that_someone_holds_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(variant(budget=8), out=tmp_path)
    monkeypatch.setattr("sabsim.runs.database._PATIENCE", 0.05)
    connection = sqlite3.connect(tmp_path / "run.sqlite")
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageError, match=r"database is locked; close the program that holds it"):
        train(variant(budget=16), out=tmp_path, resume=True)
    connection.close()


def test_a_database_that_is_none_is_noticed(tmp_path: Path) -> None:
    train(variant(budget=8), out=tmp_path)
    (tmp_path / "run.sqlite").write_bytes(os.urandom(5000))
    with pytest.raises(RunFolderError, match=r"run.sqlite': file is not a database; restore"):
        train(variant(budget=16), out=tmp_path, resume=True)
