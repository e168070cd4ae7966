"""Killed and resumed, a run must end like one that never was: same rows, same parameters, same summary."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs import (
    LearnerOptions,
    RunConfig,
    RunFolder,
    RunOptions,
    checkpoint,
    load_checkpoint,
    loop,
    train,
)
from sabsim.runs.folder import write_json
from sabsim.tasks import Copying

KilledAt = Callable[[Any, str, int], AbstractContextManager[None]]
SameRun = Callable[..., None]
SMALL = RunConfig(
    task=Copying(T=5),
    learner=LearnerOptions(hidden=8, slots=8, k_top=3),
    run=RunOptions(
        streams=4,
        budget=100,
        eval_every=50,
        eval_sequences=8,
        checkpoint_every=30,
        record_streams=2,
        record_every=3,
        record_hidden=True,
        device="cpu",
    ),
)


@pytest.fixture(autouse=True)
def quick_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared here does not need 1,000 sequences."""
    monkeypatch.setattr(loop, "FINAL_SEQUENCES", 16)


def variant(learner: dict[str, Any], run: dict[str, Any]) -> RunConfig:
    """`SMALL` with some options changed."""
    return replace(SMALL, learner=replace(SMALL.learner, **learner), run=replace(SMALL.run, **run))


@pytest.mark.parametrize(
    ("learner", "run"),
    [
        ({}, {}),
        ({"k_trunc": 4, "update_every": 3}, {"stagger": True}),
        ({"trigger": "replay", "retention": "reservoir", "cell": "gru"}, {"dtype": "float64"}),
        ({"credit": "tbptt", "k_trunc": 7}, {"stagger": True}),
        ({"retention": "relevancy", "preset": "paper", "k_att": 2}, {}),
    ],
)
def test_several_kills_change_nothing(
    learner: dict[str, Any], run: dict[str, Any], tmp_path: Path, killed_at: KilledAt, same_run: SameRun
) -> None:
    config = variant(learner, run)
    train(config, out=tmp_path / "whole")
    for blocks in (3, 9, 7):
        with killed_at(loop.Loop, "_advance", blocks):
            train(config, out=tmp_path / "killed", resume=True)
    train(None, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed", empty={"events"} if config.learner.credit == "tbptt" else ())


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [
        (checkpoint, "write_bytes", 1),  # before the first checkpoint
        (checkpoint, "write_json", 1),  # between the first checkpoint and its sidecar
        (checkpoint, "write_bytes", 3),  # rows committed, checkpoint not yet
        (checkpoint, "write_json", 3),  # checkpoint there, sidecar one behind
        (loop.Loop, "_finish", 1),  # trained, but no summary
        (loop, "write_json", 1),  # final rows, but no summary
    ],
)
def test_a_kill_between_any_two_files_changes_nothing(
    owner: Any, name: str, calls: int, tmp_path: Path, killed_at: KilledAt, same_run: SameRun
) -> None:
    config = variant({}, {"budget": 80})
    train(config, out=tmp_path / "whole")
    with killed_at(owner, name, calls):
        train(config, out=tmp_path / "killed")
    train(config, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_kill_9_at_a_random_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_twice: Callable[[str, Path, float], None], same_run: SameRun
) -> None:
    monkeypatch.setattr(loop, "FINAL_SEQUENCES", 1000)  # as in the other process, should it come to its end
    train(variant({}, {"budget": 600}), out=tmp_path / "whole")
    options = "--T 5 --hidden 8 --slots 8 --k-top 3 --streams 4 --budget 600 --eval-every 50"
    options += " --eval-sequences 8 --checkpoint-every 30 --record-streams 2 --record-every 3 --record-hidden --device cpu"
    killed_twice(f"run copying {options}", tmp_path / "killed", 1.5)
    train(None, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_interrupt_saves_a_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "sabsim", "run", "copying", "--T", "5", "--hidden", "8"]
    command += ["--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # the evaluation before the first block
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("sabsim: stopped at ")
    assert errors.count("\n") == 1
    assert load_checkpoint(RunFolder(out)).numbers["sequences"] > 0


def test_a_longer_budget_goes_on_like_one_run(tmp_path: Path, same_run: SameRun) -> None:
    train(variant({}, {"budget": 70}), out=tmp_path / "run")
    train(SMALL, out=tmp_path / "run", resume=True)
    train(SMALL, out=tmp_path / "whole")
    same_run(tmp_path / "whole", tmp_path / "run")
    assert RunFolder(tmp_path / "run").read_config().run.budget == SMALL.run.budget


def test_a_higher_goal_goes_on_like_one_run(tmp_path: Path, same_run: SameRun) -> None:
    """A run that stopped because it was good enough, and then is not."""
    stopped = train(variant({}, {"stop_at": 0.0}), out=tmp_path / "run")
    assert (stopped["sequences"], stopped["stopped_early"]) == (0, True)
    higher = variant({}, {"stop_at": 1.0})
    assert train(higher, out=tmp_path / "run", resume=True)["sequences"] >= SMALL.run.budget
    train(higher, out=tmp_path / "whole")
    same_run(tmp_path / "whole", tmp_path / "run")


def test_a_run_goes_on_from_before_optimisers_kept_their_greatest_norm(tmp_path: Path) -> None:
    train(variant({}, {"budget": 70}), out=tmp_path)
    then = load_checkpoint(RunFolder(tmp_path))
    learner = {name: value for name, value in then.states["learner"].items() if "greatest_mean_square" not in name}
    checkpoint.save_checkpoint(RunFolder(tmp_path), replace(then, states={**then.states, "learner": learner}))
    assert train(SMALL, out=tmp_path, resume=True)["sequences"] >= SMALL.run.budget
    now = load_checkpoint(RunFolder(tmp_path)).states["learner"]
    assert float(now["optimizer.greatest_mean_square"]) >= float(learner["optimizer.mean_square_norm"]) > 0


def test_a_finished_run_says_so(tmp_path: Path, notes: Any) -> None:
    config = variant({}, {"budget": 8})
    summary = train(config, out=tmp_path)
    before = (tmp_path / "run.sqlite").read_bytes()
    assert train(config, out=tmp_path, resume=True, display=notes) == summary
    assert "finished at 8 sequences" in notes.said[0]
    assert (tmp_path / "run.sqlite").read_bytes() == before


def test_resume_refuses_other_options_and_tasks(tmp_path: Path) -> None:
    train(variant({}, {"budget": 8}), out=tmp_path)
    with pytest.raises(ConfigError, match=r"hidden = 16: the run in .* has 8"):
        train(variant({"hidden": 16}, {"budget": 8}), out=tmp_path, resume=True)
    with pytest.raises(ConfigError, match=r"T = 6: the run in .* has 5"):
        train(replace(SMALL, task=Copying(T=6)), out=tmp_path, resume=True)
    with pytest.raises(ConfigError, match=r"budget = 4: .* has 8 sequences"):
        train(variant({}, {"budget": 4}), out=tmp_path, resume=True)
    with pytest.raises(RunFolderError, match="no run to resume"):
        train(None, out=tmp_path / "other", resume=True)


def test_two_writers_are_kept_apart(tmp_path: Path) -> None:
    train(variant({}, {"budget": 8}), out=tmp_path)
    with RunFolder(tmp_path).locked(), pytest.raises(RunFolderError, match="another process"):
        train(None, out=tmp_path, resume=True)


@pytest.mark.parametrize("size", [0, 5, 500, -20])
def test_a_truncated_checkpoint_is_refused(size: int, tmp_path: Path) -> None:
    train(variant({}, {"budget": 8}), out=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    rows = (tmp_path / "run.sqlite").read_bytes()
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    with pytest.raises(RunFolderError, match=r"checkpoint is missing or damaged .*put back a copy"):
        train(variant({}, {"budget": 16}), out=tmp_path, resume=True)
    assert (tmp_path / "run.sqlite").read_bytes() == rows


@pytest.mark.parametrize("lost", ["run.sqlite", "checkpoint.safetensors"])
def test_a_refused_resume_leaves_the_folder_as_it_was(lost: str, tmp_path: Path) -> None:
    """The final figures of a finished run above all."""
    train(variant({}, {"budget": 8}), out=tmp_path)
    (tmp_path / lost).unlink()
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".json"}
    with pytest.raises(RunFolderError):
        train(variant({}, {"budget": 16}), out=tmp_path, resume=True)
    assert "summary.json" in kept
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept


def test_a_missing_checkpoint_does_not_cost_the_tables(tmp_path: Path) -> None:
    train(variant({}, {"budget": 8}), out=tmp_path)
    rows = (tmp_path / "run.sqlite").read_bytes()
    (tmp_path / "checkpoint.safetensors").unlink()
    with pytest.raises(RunFolderError, match="the checkpoint is missing"):
        train(None, out=tmp_path, resume=True)
    assert (tmp_path / "run.sqlite").read_bytes() == rows


def test_the_clock_goes_on(tmp_path: Path) -> None:
    """Seconds, and steps per second, are those of all parts of the run."""
    train(variant({}, {"budget": 20}), out=tmp_path)
    folder = RunFolder(tmp_path)
    then = load_checkpoint(folder)
    checkpoint.save_checkpoint(folder, replace(then, numbers=then.numbers | {"seconds": 1000.0, "training_seconds": 500.0}))
    summary = train(SMALL, out=tmp_path, resume=True)
    assert summary["seconds"] > 1000
    assert summary["steps_per_second"] < summary["steps"] / 500


def test_a_run_that_was_good_enough_says_so(tmp_path: Path, notes: Any) -> None:
    config = variant({}, {"stop_at": 0.0})
    summary = train(config, out=tmp_path)
    before = (tmp_path / "run.sqlite").read_bytes()
    assert train(config, out=tmp_path, resume=True, display=notes) == summary
    assert "it reached stop_at = 0.0 at 0 sequences" in notes.said[0]
    assert (tmp_path / "run.sqlite").read_bytes() == before


def test_who_began_a_run_has_made_it(tmp_path: Path) -> None:
    train(variant({}, {"budget": 4}), out=tmp_path)
    folder = RunFolder(tmp_path)
    write_json(folder.config, folder.description() | {"made_by": {"sabsim": "0.0.1"}})
    train(variant({}, {"budget": 8}), out=tmp_path, resume=True)
    assert folder.description()["made_by"] == {"sabsim": "0.0.1"}


def test_a_checkpoint_of_other_contents_is_refused(tmp_path: Path) -> None:
    train(variant({}, {"budget": 4}), out=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match="its digest does not fit its contents"):
        load_checkpoint(RunFolder(tmp_path))
