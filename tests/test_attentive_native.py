"""The native kernel of the rivals with self-attention beside torch: equal histories, whatever the sizes.

That its gradients are those of the equations is shown in test_attentive.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sabsim import SGD, Adam, All, Network, Relevancy
from sabsim.attentive import AttentiveLearner
from sabsim.credit import FullAttention, ScreenedAttention
from sabsim.native import library_or_none

pytestmark = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")
D_IN, D_OUT = 3, 2


def pair(length: int, screened: tuple[int, int] | None, **options: Any) -> tuple[AttentiveLearner, AttentiveLearner]:
    """The same learner twice, native and torch; ``screened``: nu and rho."""
    credit = FullAttention(length=length) if screened is None else ScreenedAttention(length=length)
    retention = All(slots=length) if screened is None else Relevancy(slots=sum(screened), buffer=screened[0])
    network = Network(d_in=D_IN, d_out=D_OUT, hidden=options.pop("hidden", 7), forget_bias=1.0)
    keywords = {"optimizer": SGD(lr=0.05), "streams": 3, "dtype": torch.float64} | options
    learners = [
        AttentiveLearner(network, credit=credit, retention=retention, backend=backend, **keywords)
        for backend in ("native", "torch")
    ]
    return learners[0], learners[1]


def play(learner: AttentiveLearner, count: int, *, seed: int = 0) -> Tensor:
    """Outputs of ``count`` sequences, learned from."""
    generator, streams, ys = torch.Generator().manual_seed(seed), learner.streams, []
    for _ in range(count):
        learner.reset(torch.ones(streams, dtype=torch.bool))
        for _ in range(learner.length):
            x, signal = (torch.randn(streams, d, generator=generator, dtype=torch.float64) for d in (D_IN, D_OUT))
            ys.append(learner.step(x.to(learner.dtype)).clone())
            learner.learn(signal.to(learner.dtype))
    return torch.stack(ys)


def alike(one: AttentiveLearner, other: AttentiveLearner, *, tolerance: float = 1e-9) -> None:
    """Same state to rounding, choices to the last bit."""
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        there = theirs[name]
        if isinstance(value, Tensor) and value.is_floating_point():
            torch.testing.assert_close(value, there, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
        else:
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(there)), name


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 14),
    screened=st.none() | st.tuples(st.integers(1, 5), st.integers(1, 5)),
    streams=st.sampled_from([1, 2, 5, 64]),
    hidden=st.sampled_from([1, 5, 16, 33]),
    seed=st.integers(0, 2**31),
)
def test_whatever_the_sizes_it_follows_torch(
    length: int, screened: tuple[int, int] | None, streams: int, hidden: int, seed: int
) -> None:
    native, reference = pair(length, screened, streams=streams, hidden=hidden, seed=seed)
    assert (native.backend, reference.backend) == ("native", "torch")
    y, expected = (play(learner, 2, seed=seed) for learner in (native, reference))
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    alike(native, reference)
    torch.testing.assert_close(native.grad, reference.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.usefixtures("isa")
def test_every_instruction_set_follows_torch(dtype: torch.dtype) -> None:
    native, reference = pair(40, (8, 9), dtype=dtype, hidden=37)
    tolerance = 1e-10 if dtype is torch.float64 else 2e-4
    y, expected = (play(learner, 3) for learner in (native, reference))
    torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(native.grad, reference.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("screened", [None, (3, 4)])
def test_within_a_sequence_memory_and_reads_are_those_of_torch(screened: tuple[int, int] | None) -> None:
    """After every step, so also what is there while slots are filled; and one goes on from what the other has saved."""
    native, reference = pair(15, screened, optimizer=Adam())
    x = torch.randn(15, 3, D_IN, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for t in range(15):
        for learner in (native, reference):
            learner.step(x[t])
            learner.learn(torch.ones(3, D_OUT, dtype=torch.float64))
        alike(native, reference)
        assert torch.equal(native.read.source_step, reference.read.source_step)
        if t == 9:
            saved = native.state_dict(), reference.state_dict()
            native.load_state_dict(saved[1])
            reference.load_state_dict(saved[0])
    assert torch.allclose(native.grad, reference.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 40.0), (torch.float64, 300.0)])
def test_responses_that_saturate_are_finite_and_right(dtype: torch.dtype, most: float) -> None:
    """exp(2 q) exp(2 k) overflows and underflows where query and key are as large, of the same sign or of another."""
    native, reference = pair(8, None, dtype=dtype, hidden=16)
    for learner in (native, reference):
        learner.parameters["cell.b"].normal_(0, 20, generator=torch.Generator().manual_seed(3))  # states near 1, -1 and 0
        for name in ("attention.V_a", "attention.U_a"):
            weights = learner.parameters[name]
            weights.mul_(most / weights.abs().sum(1).max())
    y, expected = (play(learner, 1) for learner in (native, reference))
    assert native._sequence.steps["q"].abs().max() > most / 5
    tolerance = 1e-9 if dtype is torch.float64 else 1e-3
    torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(native.grad, reference.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("pointer", ["U_a", "V_a", "v"])
def test_a_planted_bug_is_caught(pointer: str) -> None:
    """The way back in C is shown weights of zeros."""
    native, reference = pair(17, (3, 4))
    play(native, 1)
    play(reference, 1)
    alike(native, reference)
    struct = native._sequence._struct  # type: ignore[attr-defined]
    struct.bind(**{pointer: torch.zeros_like(struct.tensors[pointer])})
    for learner in (native, reference):
        play(learner, 1)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(native.grad, reference.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["memory.place", "memory.ousted", "memory.accepted", "memory.alpha", "step.q", "step.k"])
def test_the_way_back_needs_all_that_was_written_down(name: str) -> None:
    native, reference = pair(17, (3, 4))
    native.parameters["attention.v"].mul_(4)
    reference.parameters["attention.v"].mul_(4)
    native.learn = lambda *_: None  # type: ignore[method-assign]
    play(native, 1)
    play(reference, 1)
    for damaged in (False, True):
        if damaged:
            native._sequence.arrays()[name].zero_()
        native.grad.zero_()
        native._sequence.steps["signal"].copy_(reference._sequence.steps["signal"])
        native._sequence.backward()
        assert torch.allclose(native.grad, reference.grad, rtol=1e-8, atol=1e-10) != damaged
