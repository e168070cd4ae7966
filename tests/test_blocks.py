"""Runs a block at a time: the same steps, scores, rows and parameters as step by step, bit for bit.

What a CUDA graph needs of the host is tried here with a stand-in for the capture; the tests at the end need a device.
"""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sabsim.cli.run
import sabsim.runs.blocks
import sabsim.runs.evaluate
import sabsim.runs.loop
import sabsim.runs.stepping
from sabsim.cli import main
from sabsim.errors import TimeUpError
from sabsim.runs import LearnerOptions, RunConfig, RunOptions, load_checkpoint, train
from sabsim.runs.blocks import Blocks, begin_within, blocks_of
from sabsim.runs.build import build
from sabsim.runs.evaluate import held_out
from sabsim.runs.folder import RunFolder
from sabsim.summing import one_hot, sum_by_slot
from sabsim.tasks import Adding, CharLM, Copying, Denoise, Pixels, Task

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
    product = torch.bmm(one_hot(slot.transpose(0, 1).flatten(1), 4, values.dtype), values.transpose(0, 1).flatten(1, 2))
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
_SCREENED = config(Copying(T=4), credit="screened-attention")
RIVALS = [replace(_SCREENED, learner=replace(_SCREENED.learner, credit="full-attention", slots=None)), _SCREENED]
RIVAL_NAMES = ["full-attention", "screened-attention"]


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
    """Lets runs go on by blocks, also where they would go by steps."""
    return lambda: monkeypatch.setattr(sabsim.runs.stepping, "blocks_of", Blocks)


def steps_only(learner: Any, stream: Any, **stretch: int) -> None:
    """In place of `blocks_of`: nothing plays blocks."""


@pytest.mark.parametrize("run", CONFIGS + RIVALS, ids=NAMES + RIVAL_NAMES)
def test_a_run_by_blocks_equals_one_by_steps(
    run: RunConfig, tmp_path: Path, by_blocks: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sabsim.runs.stepping, "blocks_of", steps_only)
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
    monkeypatch.setattr(sabsim.runs.stepping, "blocks_of", OnDevice)
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


@pytest.mark.parametrize("task", [Copying(T=4), Adding(T=12), CharLM(passage=12)], ids=lambda task: task.name)
def test_an_evaluation_by_blocks_equals_one_by_steps(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the order of sums. Some streams end their last sequence before the others."""
    learner = build(config(task, update_every=2)).learner
    monkeypatch.setattr(sabsim.runs.evaluate, "MOST_STREAMS", {"cpu": 5})
    monkeypatch.setattr(sabsim.runs.evaluate, "MOST_READERS", {"cpu": 5})
    monkeypatch.setattr(sabsim.runs.evaluate, "blocks_of", steps_only)
    found = [held_out(learner, task, sequences=17, seed=0)]
    monkeypatch.setattr(sabsim.runs.evaluate, "blocks_of", lambda learner, stream, stretch: Blocks(learner, stream))
    found.append(held_out(learner, task, sequences=17, seed=0))
    by_steps, by_blocks = ([one.loss, one.metric, one.standard_error] for one in found)
    assert by_blocks == pytest.approx(by_steps, rel=1e-12)


@pytest.mark.parametrize(
    ("update_every", "stretch", "plays"), [(2, 24, True), (2, 25, False), (2, None, True), (1, 24, False)]
)
def test_on_a_cpu_blocks_are_played_where_they_pay(update_every: int, stretch: int | None, plays: bool) -> None:
    """The player must stop at the end of one, and a block be more than one step."""
    parts = build(config(Copying(T=4), update_every=update_every))
    assert (blocks_of(parts.learner, parts.stream, stretch=stretch) is not None) is plays


@pytest.mark.parametrize("run", RIVALS, ids=RIVAL_NAMES)
def test_rivals_with_self_attention_play_whole_sequences(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = build(run)
    blocks = blocks_of(parts.learner, parts.stream)
    assert blocks is not None
    assert blocks.size == parts.stream.length
    found = [held_out(parts.learner, run.task, sequences=17, seed=0)]
    monkeypatch.setattr(sabsim.runs.evaluate, "blocks_of", steps_only)
    found.append(held_out(parts.learner, run.task, sequences=17, seed=0))
    by_blocks, by_steps = ([one.loss, one.metric, one.standard_error] for one in found)
    assert by_blocks == pytest.approx(by_steps, rel=1e-6)
    parts.learner.device = torch.device("cuda")
    assert blocks_of(parts.learner, parts.stream) is None


def test_the_last_begin_within_a_block() -> None:
    stream = Copying(T=4).stream(streams=3, seed=0, stagger=False)
    length = stream.length
    assert [begin_within(stream, at, 5) for at in (0, 1, length - 5, length - 4, length - 1)] == [1, 0, 0, 5, 2]
    assert begin_within(stream, 0, length + 1) == length + 1


def test_a_block_that_does_not_divide_a_sequence_is_refused_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    parts = build(config(Copying(T=5), update_every=2))
    parts.learner.device = torch.device("cuda")
    assert blocks_of(parts.learner, parts.stream, stretch=25) is None
    (record,) = caplog.records
    assert "a sequence has 25 steps, no multiple of the block of 2 steps between updates" in record.getMessage()


def test_a_run_stops_when_its_time_is_up_and_ends_as_one_unbroken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = CONFIGS[0]
    train(run, out=tmp_path / "whole")
    for _ in range(3):
        with pytest.raises(TimeUpError, match=r"time is up at .* sequences; .* goes on with --resume"):
            train(run, out=tmp_path / "pieces", resume=True, until=0.0)
    train(run, out=tmp_path / "pieces", resume=True)
    require_same_runs(tmp_path / "whole", tmp_path / "pieces")
    monkeypatch.setattr("time.time", lambda: 0.0)
    monkeypatch.setattr(sabsim.cli.run, "end_of", lambda minutes: -1.0 if minutes == 2 else None)
    assert main(["run", "copying", "--T", "4", "--minutes", "2", "--quiet", "--out", str(tmp_path / "asked")]) == 75
    assert "goes on with --resume" in capsys.readouterr().err


# On a CUDA device


def on_cuda(run: RunConfig, **changes: Any) -> RunConfig:
    return replace(run, run=replace(run.run, device="cuda", backend="auto", **changes))


@pytest.mark.parametrize("run", [pytest.param(run, marks=cuda, id=name) for run, name in zip(CONFIGS, NAMES, strict=True)])
def test_cuda_a_run_resumed_equals_one_unbroken(run: RunConfig, tmp_path: Path, killed_at: Any) -> None:
    """Bit for bit: no sum on the way depends on the order in which threads come."""
    run = on_cuda(run)
    train(run, out=tmp_path / "whole")
    with killed_at(sabsim.runs.loop.Loop, "_advance", 9):
        train(run, out=tmp_path / "killed")
    train(run, out=tmp_path / "killed", resume=True)
    require_same_runs(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    "run", [pytest.param(CONFIGS[0], marks=cuda, id="copying"), pytest.param(CONFIGS[3], marks=cuda, id="charlm")]
)
def test_cuda_a_larger_run_twice_is_the_same(run: RunConfig, tmp_path: Path) -> None:
    """Many streams and units, so that sums are large enough for many threads."""
    learner = replace(run.learner, hidden=128, k_trunc=4, k_top=3)
    run = on_cuda(replace(run, learner=learner), streams=64, budget=640, eval_every=640, checkpoint_every=640)
    for name in ("a", "b"):
        train(run, out=tmp_path / name)
    require_same_runs(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("run", [pytest.param(run, marks=cuda, id=name) for run, name in zip(CONFIGS, NAMES, strict=True)])
def test_cuda_graphs_equal_steps_one_by_one(run: RunConfig) -> None:
    """In float64, to rounding, with the same random numbers; and there is a graph."""
    run = on_cuda(run, dtype="float64")
    plain, played = build(run), build(run)
    steps, blocks = Blocks(plain.learner, plain.stream), blocks_of(played.learner, played.stream)
    assert blocks is not None
    steps.reason = "one by one"
    size, losses = blocks.size, list[Tensor]()
    for block in range(12 * played.stream.length // size):
        for parts, player in ((plain, steps), (played, blocks)):
            begins = begin_within(parts.stream, block * size, size)
            score, _ = player.play(parts.stream.take(size), begins=begins)
            parts.learner.check()
            losses.append(score.loss.clone())
        torch.testing.assert_close(losses[-1], losses[-2], rtol=1e-9, atol=1e-12)
    assert blocks.reason is None
    for name, its in played.learner.state_dict().items():
        if isinstance(its, Tensor) and its.is_floating_point():
            torch.testing.assert_close(its, plain.learner.state_dict()[name], rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize("task", [pytest.param(task, marks=cuda, id=task.name) for task in TASKS])
def test_cuda_steps_taken_at_once_do_not_wait(
    task: Task, waiting_is_an_error: Callable[[], AbstractContextManager[None]]
) -> None:
    stream = task.stream(streams=4, seed=0, stagger=True, device="cuda")
    y = torch.zeros(stream.length, 4, task.d_out, device="cuda")
    stream.take(stream.length)
    with waiting_is_an_error():
        for _ in range(3):
            stream.score_all(y, stream.take(stream.length))
