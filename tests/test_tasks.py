"""The task streams against obvious descriptions of their sequences, autograd, and their own statistics."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sabsim.errors import ConfigError
from sabsim.tasks import TASKS, Adding, Copying, Denoise, Part, StateDict, Task, TaskStream

BLANK, MARKER = 8, 9
DRAWN = ("adding", "copying", "denoise")  # made of random numbers; tasks with data of their own have files of tests
NAMES = [name for name in sorted(TASKS) if name in DRAWN]
SMALL = {"copying": Copying(T=3), "adding": Adding(T=7), "denoise": Denoise(T=13)}


@dataclass
class Record:
    """What a stream gave, one row a step: `x` is `(steps, streams, d_in)`, the others `(steps, streams)`."""

    x: Tensor
    target: Tensor
    weight: Tensor
    scored: Tensor
    first: Tensor
    last: Tensor
    position: Tensor
    sources: Tensor  # (steps, streams, k)


def record(stream: TaskStream, steps: int) -> Record:
    rows = []
    for _ in range(steps):
        step = stream.next()
        given = (step.x, step.target, step.weight, step.scored, step.first, step.last)
        rows.append([t.clone() for t in (*given, stream.positions(), stream.sources())])
    return Record(*(torch.stack(column) for column in zip(*rows, strict=True)))


def sequences(rec: Record, stream: int, length: int, gap: int = 0) -> tuple[int, list[Record]]:
    """The offset of one stream (steps before the first `first`) and its whole sequences, one stream each."""
    start = int(rec.first[:, stream].int().argmax())
    cut = []
    for begin in range(start, len(rec.x) - length + 1, length + gap):
        cut.append(Record(*(getattr(rec, f)[begin : begin + length, stream] for f in rec.__dataclass_fields__)))
    return start, cut


def symbols(x: Tensor) -> list[int]:
    """The symbols of one-hot rows, which must be one-hot."""
    assert torch.equal(x.sum(-1), torch.ones(len(x), dtype=x.dtype))
    assert torch.equal(x.max(-1).values, torch.ones(len(x), dtype=x.dtype))
    return x.argmax(-1).tolist()


def check_recall(seq: Record, length: int) -> None:
    """What copying and denoise share."""
    assert seq.weight.tolist() == pytest.approx([1 / length] * length)
    assert seq.scored.tolist() == [False] * (length - 10) + [True] * 10
    assert seq.sources[:, 0].tolist()[: length - 10] == [-1] * (length - 10)


def check_copying(task: Copying, seq: Record) -> None:
    check_recall(seq, task.T + 20)
    shown = symbols(seq.x)
    digits = shown[:10]
    assert all(0 <= digit < 8 for digit in digits)
    assert shown == digits + [BLANK] * (task.T - 1) + [MARKER] + [BLANK] * 10
    assert seq.target.tolist() == [BLANK] * (task.T + 10) + digits
    assert seq.sources[-10:, 0].tolist() == list(range(10))


def check_denoise(task: Denoise, seq: Record) -> None:
    check_recall(seq, task.T + 20)
    shown = symbols(seq.x)
    places = [i for i, symbol in enumerate(shown) if symbol < 8]
    assert len(places) == 10
    assert places[-1] < task.T
    assert shown[task.T :] == [BLANK] * 9 + [MARKER] + [BLANK] * 10
    assert MARKER not in shown[: task.T]
    assert seq.target.tolist() == [BLANK] * (task.T + 10) + [shown[i] for i in places]
    assert seq.sources[-10:, 0].tolist() == places


def check_adding(task: Adding, seq: Record) -> None:
    numbers, marks = seq.x.unbind(-1)
    assert bool(((numbers >= 0) & (numbers < 1)).all())
    assert sorted(marks.tolist()) == [0.0] * (task.T - 2) + [1.0] * 2
    marked = [i for i, mark in enumerate(marks.tolist()) if mark]
    assert marked[0] < task.T // 2 <= marked[1]
    total = sum(numbers[i].item() for i in marked)
    assert seq.target.tolist() == pytest.approx([0.0] * (task.T - 1) + [total])
    assert seq.weight.tolist() == [0.0] * (task.T - 1) + [1.0]
    assert seq.scored.tolist() == [False] * (task.T - 1) + [True]
    assert seq.sources.tolist() == [[-1, -1]] * (task.T - 1) + [marked]


CHECKS: dict[str, Any] = {"copying": check_copying, "denoise": check_denoise, "adding": check_adding}
LEAST_T = {"copying": 1, "denoise": 10, "adding": 4}


def check_idle(task: Task, rec: Record, stream: int, idling: slice) -> None:
    for flag in (rec.scored, rec.first, rec.last, rec.weight):
        assert not flag[idling, stream].any()
    assert bool((rec.position[idling, stream] == -1).all())
    assert bool((rec.sources[idling, stream] == -1).all())
    idle = torch.zeros(task.d_in, dtype=rec.x.dtype)
    if task.metric == "accuracy":
        idle[BLANK] = 1
        assert bool((rec.target[idling, stream] == BLANK).all())
    else:
        assert not rec.target[idling, stream].any()
    shown = rec.x[idling, stream]
    assert torch.equal(shown, idle.expand(len(shown), -1))


def check_stream(task: Task, stream: TaskStream, rounds: int, gap: int) -> list[int]:
    """Check every step of `rounds` periods; the offsets."""
    length = task.length
    assert length is not None
    period = length + gap
    assert stream.length == period
    rec = record(stream, rounds * period)
    offsets = []
    for b in range(stream.streams):
        offset, cut = sequences(rec, b, length, gap)
        assert 0 <= offset < period
        check_idle(task, rec, b, slice(0, offset))
        assert len(cut) == rounds - (offset > gap)
        for begin in range(offset + length, rounds * period, period):
            check_idle(task, rec, b, slice(begin, begin + gap))
        for seq in cut:
            CHECKS[task.name](task, seq)
            assert seq.position.tolist() == list(range(length))
            assert seq.first.tolist() == [True] + [False] * (length - 1)
            assert seq.last.tolist() == [False] * (length - 1) + [True]
        offsets.append(offset)
    return offsets


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    name = draw(st.sampled_from(NAMES))
    return TASKS[name](T=draw(st.integers(LEAST_T[name], LEAST_T[name] + 15)))  # type: ignore[call-arg]


@settings(max_examples=40, deadline=None)
@given(
    task=tasks(),
    streams=st.integers(1, 5),
    seed=st.integers(0, 2**70),
    stagger=st.booleans(),
    gap=st.integers(0, 3),
    part=st.sampled_from(get_args(Part)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_every_sequence_is_laid_out_as_described(
    task: Task, streams: int, seed: int, stagger: bool, gap: int, part: Part, dtype: torch.dtype
) -> None:
    stream = task.stream(streams=streams, seed=seed, stagger=stagger, gap=gap, part=part, dtype=dtype)
    offsets = check_stream(task, stream, rounds=4, gap=gap)
    if not stagger:
        assert offsets == [0] * streams


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_types(name: str, dtype: torch.dtype) -> None:
    task = TASKS[name]()
    assert task.name == name
    stream = task.stream(streams=3, seed=0, dtype=dtype)
    assert stream.length == task.length
    step = stream.next()
    assert step.x.shape == (3, task.d_in)
    assert step.x.is_contiguous()
    assert step.x.dtype == step.weight.dtype == dtype
    assert step.target.dtype == (torch.int64 if task.metric == "accuracy" else dtype)
    for flag in (step.scored, step.first, step.last):
        assert flag.dtype == torch.bool
    score = stream.score(torch.zeros(3, task.d_out, dtype=dtype), step)
    assert score.dL_dy.shape == (3, task.d_out)
    for tensor in (score.loss, score.metric_sum, score.count):
        assert tensor.shape == (3,)
        assert tensor.dtype == dtype
    for tensor in (step.target, step.weight, step.scored, step.first, step.last):
        assert tensor.shape == (3,)


@settings(max_examples=20, deadline=None)
@given(task=tasks(), streams=st.integers(1, 6), seed=st.integers(0, 100), stagger=st.booleans(), gap=st.integers(0, 3))
def test_completed_sequences_are_counted(task: Task, streams: int, seed: int, stagger: bool, gap: int) -> None:
    stream, at_once = (task.stream(streams=streams, seed=seed, stagger=stagger, gap=gap) for _ in range(2))
    ended = 0
    for _ in range(5 * stream.length):
        begins, step = stream.begins_at(stream.clock), stream.next()
        assert begins == bool(step.first.any())
        ended += int(step.last.sum())
        assert stream.completed == int(stream.sequences) == ended
    at_once.take(5 * stream.length)
    assert ended == at_once.completed > 0


@pytest.mark.parametrize("name", NAMES)
def test_staggering_shifts_the_streams_and_changes_no_sequence(name: str) -> None:
    task = SMALL[name]
    together = task.stream(streams=16, seed=3)
    apart = task.stream(streams=16, seed=3, stagger=True)
    length = together.length
    a, b = record(together, 3 * length), record(apart, 4 * length)
    offsets = set()
    for row in range(16):
        offset, cut = sequences(b, row, length)
        offsets.add(offset)
        for mine, other in zip(sequences(a, row, length)[1], cut, strict=False):
            assert torch.equal(mine.x, other.x)
            assert torch.equal(mine.target, other.target)
    assert len(offsets) > 3


def test_offsets_are_uniform() -> None:
    stream = Copying(T=1).stream(streams=4200, seed=0, stagger=True)
    begins = torch.zeros(stream.length)
    for i in range(stream.length):
        begins[i] = stream.next().first.sum()
    assert begins.sum() == 4200
    assert (begins - 200).square().sum() / 200 < 45.3  # chi-square with 20 degrees of freedom, p = 0.001


@settings(max_examples=20, deadline=None)
@given(task=tasks(), streams=st.integers(1, 4), stagger=st.booleans())
def test_the_weights_of_a_sequence_sum_to_one(task: Task, streams: int, stagger: bool) -> None:
    stream = task.stream(streams=streams, seed=1, stagger=stagger, dtype=torch.float64)
    rec = record(stream, 3 * stream.length)
    for b in range(streams):
        for seq in sequences(rec, b, stream.length)[1]:
            assert seq.weight.sum().item() == pytest.approx(1, rel=1e-12)


# --- seeds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_is_a_stream(name: str) -> None:
    def inputs(**options: Any) -> Tensor:
        return record(SMALL[name].stream(**{"streams": 4, "seed": 1, **options}), 60).x

    assert torch.equal(inputs(), inputs())
    assert torch.equal(inputs(stagger=True), inputs(stagger=True))
    assert not torch.equal(inputs(), inputs(seed=2))
    assert not torch.equal(inputs(), inputs(part="test"))
    assert torch.equal(inputs(part="test"), inputs(part="test"))
    # What a run was stopped by, and what it is judged by.
    assert not torch.equal(inputs(part="validation"), inputs(part="test"))


def test_training_and_held_out_seeds_never_meet() -> None:
    task = SMALL["copying"]
    training = {task.stream(streams=1, seed=s)._generator.initial_seed() for s in range(300)}
    held_out = {
        task.stream(streams=1, seed=s, part=part)._generator.initial_seed()
        for s in range(300)
        for part in ("validation", "test")
    }
    assert len(training) == 300
    assert len(held_out) == 600
    assert not training & held_out
    assert max(training | held_out) < 2**32  # a CPU generator reads no more bits


def test_the_streams_and_rounds_differ() -> None:
    rec = record(Copying(T=1).stream(streams=8, seed=0), 8 * 21)
    seen = {tuple(symbols(s.x)[:10]) for b in range(8) for s in sequences(rec, b, 21)[1]}
    assert len(seen) == 64


# --- what is drawn --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["copying", "denoise"])
def test_digits_are_uniform_at_each_output(name: str) -> None:
    task = SMALL[name]
    stream = task.stream(streams=4000, seed=5)
    targets = record(stream, stream.length).target[-10:]
    for output in targets:
        counts = torch.bincount(output, minlength=8).float()
        assert (counts - 500).square().sum() / 500 < 29.9  # chi-square, 7 degrees of freedom, p = 1e-4


def test_denoise_scatters_uniformly() -> None:
    stream = Denoise(T=20).stream(streams=4000, seed=6)
    shown = record(stream, 20).x[:, :, :8].sum((1, 2))
    assert shown.sum() == 40000
    # Each step holds a digit with probability 1/2: standard deviation sqrt(4000) / 2.
    assert (shown - 2000).abs().max() < 4 * math.sqrt(4000) / 2


def test_denoise_fills_the_shortest_sequence() -> None:
    check_stream(Denoise(T=10), Denoise(T=10).stream(streams=2, seed=0), rounds=2, gap=0)


@pytest.mark.parametrize("T", [4, 9])
def test_adding_marks_each_half_uniformly(T: int) -> None:
    stream = Adding(T=T).stream(streams=6000, seed=7)
    rec = record(stream, T)
    marked = rec.x[:, :, 1].sum(1)
    for half in (marked[: T // 2], marked[T // 2 :]):
        assert half.sum() == 6000
        p = 1 / len(half)
        assert (half - 6000 * p).abs().max() < 4 * math.sqrt(6000 * p * (1 - p))
    assert rec.x[:, :, 0].mean().item() == pytest.approx(0.5, abs=4 / math.sqrt(12 * 6000 * T))


# --- state ----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    task=tasks(),
    streams=st.integers(1, 4),
    stagger=st.booleans(),
    steps=st.integers(0, 120),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_loaded_stream_goes_on_bit_for_bit(
    task: Task, streams: int, stagger: bool, steps: int, dtype: torch.dtype
) -> None:
    stream = task.stream(streams=streams, seed=8, stagger=stagger, dtype=dtype)
    for _ in range(steps):
        stream.next()
    state = stream.state_dict()
    assert all(isinstance(value, Tensor | int) for value in state.values())
    other = task.stream(streams=streams, seed=9, stagger=not stagger, dtype=dtype)
    for _ in range(7):
        other.next()
    other.load_state_dict(state)
    assert torch.equal(other.positions(), stream.positions())
    assert torch.equal(other.sources(), stream.sources())
    more = 3 * stream.length
    expected, got = record(stream, more), record(other, more)
    for field in Record.__dataclass_fields__:
        assert torch.equal(getattr(expected, field), getattr(got, field))
    assert (stream.clock, stream.completed) == (other.clock, other.completed)
    assert torch.equal(stream.sequences, other.sequences)


def same(a: StateDict, b: StateDict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a)


def test_a_state_is_a_copy() -> None:
    stream = SMALL["adding"].stream(streams=2, seed=0)
    stream.next()
    state = stream.state_dict()
    copies = {k: v.clone() if isinstance(v, Tensor) else v for k, v in state.items()}
    first = record(stream, 30).x
    assert same(state, copies)
    stream.load_state_dict(state)
    assert torch.equal(record(stream, 30).x, first)


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_state_is_refused(name: str) -> None:
    task = SMALL[name]
    stream = task.stream(streams=2, seed=0)
    before = stream.state_dict()
    foreign = [
        task.stream(streams=3, seed=0).state_dict(),
        *(other.stream(streams=2, seed=0).state_dict() for key, other in SMALL.items() if key != name),
        {k: v for k, v in before.items() if k != "generator"},
        {k: v for k, v in before.items() if k != "clock"},
        {**before, "phase": before["phase"].to(torch.int32)},  # type: ignore[union-attr]
    ]
    for state in foreign:
        with pytest.raises(ConfigError, match="task state '"):
            stream.load_state_dict(state)
    assert same(stream.state_dict(), before)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_another_length_is_refused(name: str) -> None:
    saved = TASKS[name](T=30).stream(streams=2, seed=0).state_dict()  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="task state '"):
        SMALL[name].stream(streams=2, seed=0).load_state_dict(saved)


# --- bounds and speed -----------------------------------------------------------------------------


class Operations(TorchDispatchMode):
    """Collects the names of the operations run under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stagger", [False, True])
def test_nothing_is_read_back_from_the_device(name: str, stagger: bool) -> None:
    task = SMALL[name]
    stream = task.stream(streams=4, seed=0, stagger=stagger)
    y = torch.zeros(4, task.d_out)
    with Operations() as operations:
        for _ in range(3 * stream.length):
            stream.score(y, stream.next())
    for waiting in ("_local_scalar_dense", "nonzero", "masked_select", "unique", "aten.index.", "_to_copy"):
        assert not [used for used in operations.names if waiting in used]


@pytest.mark.parametrize("name", NAMES)
def test_steps_and_scores_reuse_their_buffers(name: str) -> None:
    task = SMALL[name]
    stream = task.stream(streams=4, seed=0)
    y = torch.zeros(4, task.d_out)

    def addresses() -> list[int]:
        step = stream.next()
        score = stream.score(y, step)
        tensors = [step.x, step.target, step.weight, step.scored, step.first, step.last]
        return [t.data_ptr() for t in [*tensors, score.loss, score.dL_dy, score.metric_sum, score.count]]

    once = addresses()
    for _ in range(2 * stream.length):
        assert addresses() == once


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_on_cuda(name: str, waiting_is_an_error: Callable[[], AbstractContextManager[None]]) -> None:
    task = SMALL[name]
    stream = task.stream(streams=4, seed=0, stagger=True, device="cuda")
    y = torch.zeros(4, task.d_out, device="cuda")
    with waiting_is_an_error():
        for _ in range(3 * stream.length):
            stream.score(y, stream.next())
    state = stream.state_dict()
    expected = record(stream, 3 * stream.length)
    stream.load_state_dict(state)
    assert torch.equal(record(stream, 3 * stream.length).x, expected.x)


# --- bad arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments_are_named(name: str) -> None:
    least = LEAST_T[name]
    for T in (least - 1, 0, -3, 2.5, True):
        with pytest.raises(ConfigError, match=rf"T must be an integer >= {least}, got {T}"):
            TASKS[name](T=T)  # type: ignore[call-arg]
    assert TASKS[name](T=least).length  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="streams must be an integer >= 1, got 0"):
        SMALL[name].stream(streams=0, seed=0)
    with pytest.raises(ConfigError, match="seed must be an integer >= 0, got -1"):
        SMALL[name].stream(streams=1, seed=-1)
    with pytest.raises(ConfigError, match="dtype must be"):
        SMALL[name].stream(streams=1, seed=0, dtype=torch.int64)
    with pytest.raises(ConfigError, match="part must be one of train, validation, test, got 'valid'"):
        SMALL[name].stream(streams=1, seed=0, part="valid")  # type: ignore[arg-type]


# --- gaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_gap_changes_no_sequence(name: str) -> None:
    task = SMALL[name]
    length = task.length
    assert length is not None
    close, apart = task.stream(streams=5, seed=3, stagger=True), task.stream(streams=5, seed=3, stagger=True, gap=2)
    a, b = record(close, 4 * length), record(apart, 4 * (length + 2))
    for row in range(5):
        mine, other = sequences(a, row, length)[1], sequences(b, row, length, gap=2)[1]
        assert len(mine) >= 3
        for one, two in zip(mine, other, strict=False):
            assert torch.equal(one.x, two.x)
            assert torch.equal(one.target, two.target)


def test_a_gap_of_less_than_no_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="gap must be an integer >= 0, got -1"):
        SMALL["copying"].stream(streams=1, seed=0, gap=-1)
