"""MemLSTM, RelLSTM and their kin: equal to the literal equations, and behind the calls of a learner.

What is of the native kernel alone is in test_attentive_native.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sabsim import SGD, Adam, All, ConfigError, Network, NonFiniteError, Novelty, Relevancy, StreamingLearner
from sabsim.attentive import AttentiveLearner, ScreenedStates, memory, reference, scores
from sabsim.credit import FullAttention, ScreenedAttention
from sabsim.native import library_or_none
from sabsim.optim import Optimizer

compiled = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")
BACKENDS = ["torch", pytest.param("native", marks=compiled)]
LENGTH, STREAMS = 17, 3


def make(cell: Any, *, screened: tuple[int, int] | None, **options: Any) -> AttentiveLearner:
    """A small learner; ``screened``: nu and rho."""
    length = options.pop("length", LENGTH)
    credit = FullAttention(length=length) if screened is None else ScreenedAttention(length=length)
    retention = All(slots=length) if screened is None else Relevancy(slots=sum(screened), buffer=screened[0])
    network = Network(d_in=4, d_out=3, hidden=6, cell=cell, input_scale=1.0, forget_bias=1.0)
    settings = {"optimizer": SGD(lr=0.0), "streams": STREAMS, "seed": 1} | options
    learner = AttentiveLearner(network, credit=credit, retention=retention, dtype=torch.float64, **settings)
    # Sharp attention, so that states differ in relevance and many of them change places.
    learner.parameters["attention.v"].mul_(4)
    learner.parameters["attention.V_a"].mul_(3)
    return learner


def play(learner: AttentiveLearner, x: Tensor, signal: Tensor | None) -> Tensor:
    """Outputs of whole sequences, (steps, streams, d_out), learned from if there are signals."""
    learner.reset(torch.ones(learner.streams, dtype=torch.bool))
    ys = []
    for t, x_t in enumerate(x):
        ys.append(learner.step(x_t).clone())
        if signal is not None:
            learner.learn(signal[t])
    return torch.stack(ys)


def sequences(seed: int = 0, *, length: int = LENGTH, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, signal = (torch.randn(length, STREAMS, d, generator=generator, dtype=torch.float64).to(dtype) for d in (4, 3))
    return x, signal


def oracle(
    learner: AttentiveLearner, x: Tensor, signal: Tensor, screened: tuple[int, int] | None
) -> tuple[Tensor, Any, Any]:
    """Outputs, gradients by name, and attention of the literal equations."""
    p = {name: value.clone().requires_grad_() for name, value in learner.parameters.items()}
    nu, rho = screened or (None, 0)
    y, attended = reference.outputs(p, x, cell=learner.network.cell, nu=nu, rho=rho)
    (y * signal).sum().backward()
    return y.detach(), {name: value.grad for name, value in p.items()}, attended


def furthest(learner: AttentiveLearner, expected: dict[str, Tensor]) -> float:
    """Greatest relative error of a parameter's gradient."""
    errors = {name: (grad - expected[name]).norm() / expected[name].norm() for name, grad in learner.grads.items()}
    assert errors.keys() == expected.keys()
    return max(float(error) for error in errors.values())


KINDS = [None, (3, 4), (1, 1), (5, 2), (4, 9), (30, 1)]


@pytest.mark.parametrize(
    ("cell", "backend"), [("lstm", "torch"), ("rnn", "torch"), pytest.param("lstm", "native", marks=compiled)]
)
@pytest.mark.parametrize("screened", KINDS)
def test_outputs_and_every_gradient_are_those_of_the_equations(
    cell: str, backend: str, screened: tuple[int, int] | None
) -> None:
    learner = make(cell, screened=screened, backend=backend)
    assert learner.backend == backend
    for seed in (0, 1):  # the second sequence begins where the first one has left its buffers
        x, signal = sequences(seed)
        expected, gradients, attended = oracle(learner, x, signal, screened)
        y = play(learner, x, signal)
        assert torch.allclose(y, expected, rtol=1e-9, atol=1e-12)
        assert furthest(learner, gradients) < 1e-9
        read = learner.read
        last = [{int(i): float(w) for i, w in zip(read.source_step[b], read.weight[b], strict=True) if w} for b in range(3)]
        begun = learner.clock - LENGTH
        assert last == [pytest.approx({begun + i: w.item() for i, w in attended[b][-1].items()}) for b in range(3)]
    assert int(learner.updates) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_is_that_of_finite_differences(backend: str) -> None:
    """The oracle is autograd's; this one is nobody's. Everything remembered: with screening a choice may flip."""
    learner = make("lstm", screened=None, length=7, backend=backend)
    x, signal = sequences(length=7)
    play(learner, x, signal)
    found = learner.grad.clone()
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        direction = torch.randn(found.shape, generator=generator, dtype=found.dtype)
        ends = []
        for sign in (1, -1):
            player = learner.evaluator()
            player.flat.add_(direction, alpha=sign * 1e-6)
            ends.append(float((play(player, x, None) * signal).sum()))
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(found @ direction), rel=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_buffer_for_the_whole_sequence_is_full_attention(cell: str) -> None:
    x, signal = sequences()
    full, screened = make(cell, screened=None), make(cell, screened=(LENGTH, 2))
    assert torch.allclose(play(full, x, signal), play(screened, x, signal), rtol=1e-12)
    assert torch.allclose(full.grad, screened.grad, rtol=1e-9, atol=1e-13)


def test_pieces_of_the_attention_are_as_good_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make("lstm", screened=None, backend="torch")
    x, signal = sequences()
    expected, gradients, _ = oracle(learner, x, signal, None)
    monkeypatch.setattr(scores, "PIECE", 4 * STREAMS * 6)
    assert torch.allclose(play(learner, x, signal), expected, rtol=1e-9, atol=1e-12)
    assert furthest(learner, gradients) < 1e-9


@pytest.mark.parametrize(
    ("owner", "name", "bug"),
    [
        # Credit that reaches a state through its key alone, or through its value alone.
        (memory, "attend_back", lambda real: lambda *a, d_h, **k: real(*a, d_h=torch.zeros_like(d_h), **k)),
        (memory, "attend_back", lambda real: lambda *a, d_k, **k: real(*a, d_k=torch.zeros_like(d_k), **k)),
        # The place in the relevant set that is given back is that of another step.
        (ScreenedStates, "unstore", lambda real: lambda self, t, h, k: real(self, max(t - 1, 0), h, k)),
        # The softmax's normalisation is forgotten.
        (memory, "attend", lambda real: lambda *a: (lambda alpha, ctx: (alpha * 0.5, ctx))(*real(*a))),
    ],
)
def test_a_planted_bug_is_caught(owner: Any, name: str, bug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, name, bug(getattr(owner, name)))
    learner = make("lstm", screened=(3, 4), backend="torch")
    x, signal = sequences()
    _, gradients, _ = oracle(learner, x, signal, (3, 4))
    play(learner, x, signal)
    assert furthest(learner, gradients) > 1e-6


@given(
    nu=st.integers(1, 5),
    rho=st.integers(1, 5),
    length=st.integers(1, 25),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_the_newest_are_kept_and_of_the_others_the_most_relevant(nu: int, rho: int, length: int, seed: int) -> None:
    """Whatever attention does, memory holds the newest nu states and the rho best of those that have left the buffer."""
    held = ScreenedStates(streams=2, slots=nu + rho, buffer=nu, hidden=3, steps=0, like=torch.zeros(0))
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(3, generator=generator) * 5
    relevance = torch.zeros(2, length)
    for t in range(length):
        if t:
            held.attend(t, torch.randn(2, 3, generator=generator), v)
            for b in range(2):
                new = held.born[b, : min(t, nu)]
                relevance[b, new] += held.alpha[0, b, : min(t, nu)]
                assert held.alpha[0, b].sum() == pytest.approx(1, abs=1e-5)
        h = torch.randn(2, 3, generator=generator)
        held.store(t, h, h)
        for b in range(2):
            steps = held.born[b].tolist()
            assert set(steps[:nu]) - {-1} == set(range(max(0, t + 1 - nu), t + 1))
            # One after the other, each that leaves the buffer takes the place of the worst: what stays are the best.
            left = relevance[b, : max(0, t + 1 - nu)]
            kept = sorted(set(steps[nu:]) - {-1})
            assert len(kept) == min(rho, len(left))
            # By their relevance: two that had all of the attention at one step are equal.
            assert torch.equal(left[kept].sort(descending=True).values, left.topk(len(kept)).values)
            assert torch.equal(held.h[b, t % nu], h[b])


@pytest.mark.parametrize("backend", BACKENDS)
def test_playing_needs_the_slots_alone(backend: str) -> None:
    """An evaluator plays much longer sequences in the memory of its slots, without a tape; with the same outputs."""
    learner = make("lstm", screened=(3, 4), length=200, backend=backend)
    x, signal = sequences(length=200)
    expected = play(learner, x, signal)
    player = learner.evaluator()
    assert torch.allclose(play(player, x, None), expected, rtol=1e-9)
    assert player.backend == backend
    assert all(len(array) <= 2 for array in player._sequence.steps.values())
    assert not any(array.requires_grad for array in player._sequence.arrays().values())
    assert player.macrostate_bytes == learner.macrostate_bytes == 2 * STREAMS * 7 * 6 * 8
    assert make("lstm", screened=None, length=200).macrostate_bytes == 2 * STREAMS * 200 * 6 * 8


@pytest.mark.parametrize("screened", [None, (3, 4)])
@pytest.mark.parametrize("stop", [1, 4, 11, LENGTH])
@pytest.mark.parametrize("backend", BACKENDS)
def test_saved_anywhere_and_gone_on_with_bit_for_bit(backend: str, screened: tuple[int, int] | None, stop: int) -> None:
    whole, first, then = (make("lstm", screened=screened, optimizer=Adam(), backend=backend) for _ in range(3))
    x, signal = sequences()
    for learner, steps in ((whole, LENGTH), (first, stop)):
        learner.reset(torch.ones(STREAMS, dtype=torch.bool))
        for t in range(steps):
            learner.step(x[t])
            learner.learn(signal[t])
    then.load_state_dict(first.state_dict())
    for t in range(stop, LENGTH):
        then.step(x[t])
        then.learn(signal[t])
    for learner in (whole, then):
        play(learner, x, signal)
    one, other = whole.state_dict(), then.state_dict()
    assert one.keys() == other.keys()
    for name, value in one.items():
        same = torch.equal(value, torch.as_tensor(other[name])) if isinstance(value, Tensor) else value == other[name]
        assert same, name


@pytest.mark.parametrize("screened", [None, (3, 4)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sequence_at_once_equals_its_steps(backend: str, screened: tuple[int, int] | None) -> None:
    single, whole = (make("lstm", screened=screened, optimizer=Adam(), backend=backend) for _ in range(2))
    for seed in (0, 1):
        x, signal = sequences(seed)
        expected = play(single, x, signal)
        whole.reset(torch.ones(STREAMS, dtype=torch.bool))
        assert whole.block_is_empty
        assert torch.equal(whole.step_block(x), expected)
        read, hidden = whole.read_in_block, whole.hidden_in_block
        assert torch.equal(read.weight[-1], single.read.weight)
        assert torch.equal(read.source_step[-1], single.read.source_step)
        assert torch.equal(hidden[-1], single.hidden)
        # The first step has nothing to read, the second one the first.
        assert not read.weight[0].any()
        assert read.source_step[1][read.weight[1] > 0].unique().tolist() == [whole.clock - LENGTH]
        whole.learn_block(signal)
        assert whole.block_is_full
        assert torch.equal(whole.flat, single.flat)


def test_a_sequence_at_once_is_whole_and_comes_after_a_reset() -> None:
    learner = make("lstm", screened=None)
    x, signal = sequences()
    with pytest.raises(ConfigError, match="x has 16 steps: must be a sequence's 17"):
        learner.step_block(x[1:])
    learner.step(x[0])
    with pytest.raises(ConfigError, match="step_block at step 1 of a sequence of 17: reset comes first"):
        learner.step_block(x)
    with pytest.raises(ConfigError, match="learn_block after 1 of a sequence's 17 steps"):
        learner.learn_block(signal)
    with pytest.raises(ConfigError, match=r"dL_dy has shape \(16, 3, 3\): must be \(length, streams, d_out\)"):
        learner.learn_block(signal[1:])


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="state of another learner: flat has shape"):
        make("lstm", screened=None).load_state_dict(make("rnn", screened=None).state_dict())


def test_streams_begin_together_and_sequences_are_whole() -> None:
    learner = make("lstm", screened=(3, 4))
    x, signal = sequences()
    learner.reset(torch.zeros(STREAMS, dtype=torch.bool))  # none: nothing happens
    with pytest.raises(ConfigError, match="reset of 1 of 3 streams: with credit screened-attention all must begin"):
        learner.reset(torch.tensor([True, False, False]))
    learner.step(x[0])
    with pytest.raises(ConfigError, match="reset after 1 of 17 steps: credit screened-attention learns whole"):
        learner.reset(torch.ones(STREAMS, dtype=torch.bool))
    player = learner.evaluator()
    player.step(x[0])
    player.reset(torch.ones(STREAMS, dtype=torch.bool))
    learner = make("lstm", screened=None)
    play(learner, x, signal)
    with pytest.raises(ConfigError, match="step after the last one of a sequence of 17 steps: reset comes first"):
        learner.step(x[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"streams": 0}, "streams = 0: must be at least 1"),
        ({"dtype": torch.float16}, "dtype = torch.float16: must be"),
        ({"backend": "fast"}, "backend = 'fast': must be one of auto, torch, native"),
        ({"retention": Novelty(slots=17)}, "retention = 'novelty': credit full-attention needs 'all'"),
        ({"retention": All(slots=16)}, "slots = 16: credit full-attention keeps every state, here 17"),
    ],
)
def test_settings_that_do_not_fit(change: dict[str, Any], words: str) -> None:
    settings: dict[str, Any] = {"credit": FullAttention(length=LENGTH), "retention": All(slots=LENGTH), "optimizer": SGD()}
    with pytest.raises(ConfigError, match=words) as caught:
        AttentiveLearner(Network(d_in=4, d_out=3), **settings | change)
    assert "\n" not in str(caught.value)


def test_other_mistakes_are_one_line() -> None:
    learner = make("lstm", screened=None)
    x, _ = sequences()
    with pytest.raises(ConfigError, match=r"x has shape \(4,\): must be"):
        learner.step(x[0, 0])
    with pytest.raises(ConfigError, match=r"dL_dy has shape \(4,\): must be"):
        learner.learn(x[0, 0])
    with pytest.raises(ConfigError, match="credit = 'full-attention' needs the sequence's length"):
        FullAttention()
    with pytest.raises(ConfigError, match="length = 0: must be at least 1"):
        ScreenedAttention(length=0)
    with pytest.raises(ConfigError, match="belongs to an AttentiveLearner"):
        StreamingLearner(
            Network(d_in=4, d_out=3), credit=FullAttention(length=3), retention=All(slots=3), optimizer=SGD(lr=0.1)
        )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("screened", [None, (3, 4)])
def test_cuda_agrees_with_the_cpu(screened: tuple[int, int] | None) -> None:
    here, there = (make("lstm", screened=screened, optimizer=SGD(lr=0.1), device=device) for device in ("cpu", "cuda"))
    x, signal = sequences()
    for _ in range(2):
        y = play(here, x, signal)
        assert torch.allclose(y, play(there, x.cuda(), signal.cuda()).cpu(), rtol=1e-9, atol=1e-12)
        assert torch.allclose(here.grad, there.grad.cpu(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", [SGD(lr=0.1), Adam()], ids=["sgd", "adam"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_that_is_not_finite_changes_nothing(backend: str, optimizer: Optimizer) -> None:
    learner = make("lstm", screened=(3, 4), optimizer=optimizer, backend=backend)
    before = learner.flat.clone()
    x, signal = sequences()
    signal[4, 1, 0] = float("nan")
    play(learner, x, signal)
    assert torch.equal(learner.flat, before)
    with pytest.raises(NonFiniteError, match="gradient is not finite in the update after step 16"):
        learner.check()
