"""Runs a block at a time: the same steps, scores, rows and parameters as step by step, bit for bit.

What a CUDA graph needs of the host is tried here with a stand-in for the capture; the tests at the end need a device.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sabsim.runs.blocks
import sabsim.runs.evaluate
import sabsim.runs.loop
from sabsim.cli import main
from sabsim.runs import LearnerOptions, RunConfig, RunOptions, load_checkpoint, train
from sabsim.runs.blocks import Blocks, blocks_of
from sabsim.runs.build import build
from sabsim.runs.evaluate import held_out
from sabsim.runs.folder import RunFolder
from sabsim.summing import sum_by_slot
from sabsim.tasks import Adding, CharLM, Copying, Denoise, Pixels, Score, Task, TaskStep

cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
STEP = ("x", "target", "weight", "scored", "first", "last")
SCORE = ("loss", "dL_dy", "metric_sum", "count")
TABLES = ("metrics", "episodes", "steps", "events")
TASKS: list[Task] = [Copying(T=7), Denoise(T=15), Adding(T=10), CharLM(passage=10), Pixels(permuted=True)]


@pytest.mark.parametrize("stagger", [False, True], ids=["in phase", "staggered"])
@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_steps_taken_at_once_equal_steps_one_by_one(task: Task, part: Any, stagger: bool) -> None:
    # A share of the text's test part ends within the steps played.
    options: dict[str, Any] = {"streams": 900 if task.name == "charlm" else 4, "seed": 1, "stagger": stagger, "part": part}
    single, whole = task.stream(**options), task.stream(**options)
    draws = torch.Generator().manual_seed(0)
    for count in (1, 3, 20, 64, 65, 7, 130, 500):
        steps = whole.take(count)
        y = torch.randn(count, whole.streams, task.d_out, generator=draws)
        scores = whole.score_all(y, steps)
        for t in range(count):
            step = single.next()
            for mine, its, names in ((step, steps, STEP), (single.score(y[t], step), scores, SCORE)):
                assert [name for name in names if not torch.equal(getattr(mine, name), getattr(its, name)[t])] == [], t
        assert single.begins == whole.begins
        assert torch.equal(single.positions(), whole.positions())
        mine, its = single.state_dict(), whole.state_dict()
        assert [name for name in mine if not torch.equal(torch.as_tensor(mine[name]), torch.as_tensor(its[name]))] == []


def test_sums_by_slot_equal_on_every_device() -> None:
    """The matrix product, which other devices take, against the sum in order."""
    draws = torch.Generator().manual_seed(0)
    slot = torch.randint(0, 4, (6, 3, 2), generator=draws)
    values = torch.randn(6, 3, 2, 5, generator=draws, dtype=torch.float64)
    product = torch.bmm(
        sabsim.summing.one_hot(slot.transpose(0, 1).flatten(1), 4, values.dtype), values.transpose(0, 1).flatten(1, 2)
    )
    torch.testing.assert_close(sum_by_slot(slot, values, 4), product, rtol=1e-13, atol=1e-13)


def config(task: Task, **changes: Any) -> RunConfig:
    learner = LearnerOptions(hidden=6, k_trunc=4, k_top=3, slots=8, replays=2, **changes)
    run = RunOptions(
        streams=3, budget=40, eval_every=13, eval_sequences=8, checkpoint_every=11, record_streams=2, record_every=3,
        record_hidden=True, device="cpu", backend="torch",
    )  # fmt: skip
    return RunConfig(task=task, learner=learner, run=run)


CONFIGS = [
    config(Copying(T=4), update_every=2),
    config(Copying(T=4), retention="relevancy"),
    config(Adding(T=12), retention="surprise", update_every=3),
    config(CharLM(passage=12), retention="recent", explore=0.0),
    config(Copying(T=4), credit="tbptt"),
    config(Copying(T=4), credit="bptt"),
]
NAMES = ["copying-2", "relevancy", "adding", "charlm", "tbptt", "bptt"]


def rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(folder / "run.sqlite")) as database:
        return {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in (*TABLES, "hidden")}


def require_same_runs(a: Path, b: Path) -> None:
    assert rows(a) == rows(b)
    mine, its = (load_checkpoint(RunFolder(folder)).states for folder in (a, b))
    for room, state in mine.items():
        odd = [name for name in state if not torch.equal(torch.as_tensor(state[name]), torch.as_tensor(its[room][name]))]
        assert odd == [], room


@pytest.fixture
def by_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets runs go on by blocks where they would go by steps."""
    return lambda: monkeypatch.setattr(sabsim.runs.loop, "blocks_of", Blocks)


@pytest.mark.parametrize("run", CONFIGS, ids=NAMES)
def test_a_run_by_blocks_equals_one_by_steps(run: RunConfig, tmp_path: Path, by_blocks: Callable[[], None]) -> None:
    train(run, out=tmp_path / "steps")
    by_blocks()
    train(run, out=tmp_path / "blocks")
    require_same_runs(tmp_path / "steps", tmp_path / "blocks")
    assert rows(tmp_path / "blocks")["episodes"]


@pytest.mark.parametrize("captured", [False, True], ids=["plain", "captured"])
@pytest.mark.parametrize("run", CONFIGS, ids=NAMES)
def test_blocks_resumed_equal_blocks_unbroken(
    run: RunConfig,
    captured: bool,
    tmp_path: Path,
    by_blocks: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    killed_at: Any,
) -> None:
    by_blocks()
    if captured:
        pretend_captures(monkeypatch)
    train(run, out=tmp_path / "whole")
    with killed_at(sabsim.runs.loop.Loop, "_advance", 9):
        train(run, out=tmp_path / "killed")
    train(run, out=tmp_path / "killed", resume=True)
    require_same_runs(tmp_path / "whole", tmp_path / "killed")


def pretend_captures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Blocks are captured as on a CUDA device, with a stand-in: calls that change nothing but tensors. Counts replays."""
    played = [0]

    def capture(call: Callable[[], Any], device: torch.device, generator: torch.Generator) -> Any:
        score, events = call()

        def again() -> None:
            blocks = call.__closure__
            assert blocks is not None
            learner = next(c.cell_contents for c in blocks if isinstance(c.cell_contents, Blocks))._learner
            clock = learner.clock
            now, then = call()
            for name in SCORE:
                getattr(score, name).copy_(getattr(now, name))
            for place, event in zip(events or (), then or (), strict=True):
                place.copy_(event)
            learner.clock = clock
            played[0] += 1

        return again, (score, events)

    class OnDevice(Blocks):
        def __init__(self, learner: Any, stream: Any) -> None:
            super().__init__(learner, stream)
            self.reason = None

    monkeypatch.setattr(sabsim.runs.blocks, "capture", capture)
    monkeypatch.setattr(sabsim.runs.blocks, "warm_up", lambda call, device: [call() for _ in range(2)])
    monkeypatch.setattr(sabsim.runs.loop, "blocks_of", OnDevice)
    return played


@pytest.mark.parametrize("run", CONFIGS, ids=NAMES)
def test_captured_blocks_equal_plain_ones(
    run: RunConfig, tmp_path: Path, by_blocks: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_blocks()
    train(run, out=tmp_path / "plain")
    played = pretend_captures(monkeypatch)
    train(run, out=tmp_path / "captured")
    assert played[0] > 10
    require_same_runs(tmp_path / "plain", tmp_path / "captured")
