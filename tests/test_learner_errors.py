"""What a learner refuses, and what it says and keeps when a value is not finite."""

import re
from collections.abc import Callable
from math import inf, nan
from typing import Any

import pytest
import torch
from torch import Tensor

from sabsim import BPTT, SAB, SGD, TBPTT, Adam, ConfigError, CreditRule, Immediate, Network, StreamingLearner
from sabsim.errors import NonFiniteError
from sabsim.retention import All, Recent, Retention

STREAMS, D_IN, D_OUT = 3, 2, 2


def learner_of(
    credit: CreditRule | None = None,
    *,
    network: dict[str, Any] | None = None,
    retention: Retention | None = None,
    streams: int = STREAMS,
    **keywords: Any,
) -> StreamingLearner:
    return StreamingLearner(
        Network(**({"d_in": D_IN, "d_out": D_OUT, "hidden": 4} | (network or {}))),
        credit=credit or SAB(k_top=2, k_trunc=4), retention=retention or Recent(slots=4), optimizer=Adam(lr=0.01),
        streams=streams, **keywords,
    )  # fmt: skip


no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: learner_of(SAB(k_top=5)), ["slots = 4", "k_top = 5"]),
        (lambda: learner_of(SAB(k_top=2, replays=6)), ["replays = 6", "slots = 4"]),
        (lambda: learner_of(streams=0), ["streams = 0"]),
        (lambda: learner_of(streams=-1), ["streams = -1"]),
        (lambda: SAB(k_top=0), ["k_top = 0", "at least 1"]),
        (lambda: SAB(k_att=0), ["k_att = 0"]),
        (lambda: SAB(k_trunc=0), ["k_trunc = 0"]),
        (lambda: SAB(replays=-1), ["replays = -1"]),
        (lambda: SAB(k_trunc=4, update_every=5), ["update_every = 5", "k_trunc = 4"]),
        (lambda: SAB(k_trunc=4, update_every=0), ["update_every = 0"]),
        (lambda: TBPTT(k_trunc=4, update_every=5), ["update_every = 5", "k_trunc = 4"]),
        (lambda: TBPTT(k_trunc=-1), ["k_trunc = -1"]),
        (lambda: SAB(explore=-0.5), ["explore = -0.5"]),
        (lambda: SAB(negligible=1.5), ["negligible = 1.5"]),
        (lambda: SAB(trigger="often"), ["trigger = 'often'", "clock", "replay"]),
        (lambda: BPTT(), ["bptt", "length", "endless"]),
        (lambda: BPTT(length=0), ["length = 0"]),
        (lambda: learner_of(network={"cell": "elman"}), ["cell = 'elman'", "lstm", "gru", "rnn"]),
        (lambda: learner_of(network={"salience": "cosines"}), ["salience = 'cosines'", "cosine, dot"]),
        (lambda: learner_of(network={"sparsify": "hard"}), ["sparsify = 'hard'", "softmax"]),
        (lambda: learner_of(network={"stores": "c"}), ["stores = 'c'", "h_hat"]),
        (lambda: learner_of(network={"feeds": "s"}), ["feeds = 's'", "h, h_hat"]),
        (lambda: learner_of(network={"readout": "none"}), ["readout = 'none'", "summary"]),
        (lambda: learner_of(network={"hidden": 0}), ["hidden = 0"]),
        (lambda: learner_of(network={"d_in": -3}), ["d_in = -3"]),
        (lambda: learner_of(network={"forget_bias": -1.0}), ["forget_bias = -1.0"]),
        (lambda: learner_of(device="abacus"), ["device = 'abacus'"]),
        pytest.param(lambda: learner_of(device="cuda"), ["device = 'cuda'", "cpu"], marks=no_cuda),
    ],
)
def test_a_setting_that_does_not_fit_is_named_in_one_line(make: Callable[[], object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("credit", [TBPTT(k_trunc=3), Immediate(), SAB(k_top=4, replays=4)])
def test_the_largest_setting_that_fits_is_accepted(credit: CreditRule) -> None:
    """Slots bind only those who recall."""
    learner_of(credit, retention=Recent(slots=4 if credit.recalls else 1)).step(torch.zeros(STREAMS, D_IN))


def run(learner: StreamingLearner, first: int, last: int, spoil: Callable[[int, Tensor, Tensor], None]) -> None:
    for t in range(first, last):
        generator = torch.Generator().manual_seed(t)
        x, signal = (torch.randn(STREAMS, width, generator=generator) for width in (D_IN, D_OUT))
        spoil(t, x, signal)
        learner.reset(torch.tensor([t % 7 == 3, False, False]))
        learner.step(x)
        learner.learn(signal)


def nothing(t: int, x: Tensor, signal: Tensor) -> None:
    pass


@pytest.mark.parametrize(
    "credit",
    [
        SAB(k_top=2, k_trunc=4),
        SAB(k_top=2, k_trunc=4, update_every=3),
        SAB(k_top=2, k_trunc=4, update_every=1, trigger="replay"),
        TBPTT(k_trunc=4, update_every=2),
        Immediate(),
    ],
    ids=["sab", "overlapping", "triggered", "tbptt", "immediate"],
)
@pytest.mark.parametrize("value", [nan, inf])
@pytest.mark.parametrize("which", ["input x", "learning signal dL/dy"])
@pytest.mark.parametrize(("step", "stream"), [(0, 2), (9, 0), (10, 1), (11, 2)])
def test_a_value_that_is_not_finite_is_found(credit: CreditRule, value: float, which: str, step: int, stream: int) -> None:
    """Tensor, step and stream of the first one are named whenever one asks; no parameter is spoilt by it."""
    learner = learner_of(credit)

    def spoil(t: int, x: Tensor, signal: Tensor) -> None:
        if t in (step, step + 5):  # the second one does not cover the first
            (x if which == "input x" else signal)[stream, 1] = value

    run(learner, 0, step, nothing)
    learner.check()
    run(learner, step, step + 24, spoil)
    for _ in range(2):
        with pytest.raises(NonFiniteError, match=rf"{re.escape(which)} .*step {step}, stream {stream}$"):
            learner.check()
    assert torch.isfinite(learner.flat).all()
    saved = learner.state_dict()
    other = learner_of(credit)
    other.load_state_dict(saved)
    with pytest.raises(NonFiniteError, match=f"step {step}, stream {stream}"):
        other.check()


def test_a_state_that_overflows_is_found() -> None:
    learner = learner_of(SAB(k_top=2, k_trunc=4), network={"salience": "affine", "sparsify": "relu", "stores": "h"})
    learner.parameters["cell.b"].fill_(nan)
    run(learner, 0, 4, nothing)
    with pytest.raises(NonFiniteError, match=r"hidden state h .*step 0, stream 0"):
        learner.check()


def test_a_gradient_that_overflows_is_found() -> None:
    learner = learner_of(SAB(k_top=2, k_trunc=4))
    learner.parameters["readout.W_h"].fill_(100.0)

    def spoil(t: int, x: Tensor, signal: Tensor) -> None:
        signal[1, 0] = 3e38 if t == 6 else 0.0

    run(learner, 0, 4, nothing)
    before = learner.flat.clone()
    run(learner, 4, 8, spoil)
    assert torch.equal(learner.flat, before)
    with pytest.raises(NonFiniteError, match=r"gradient .*after step 7"):
        learner.check()


def test_an_evaluator_tells_as_well() -> None:
    evaluator = learner_of().evaluator()

    def spoil(t: int, x: Tensor, signal: Tensor) -> None:
        if t == 5:
            x[1] = nan

    run(evaluator, 0, 12, spoil)
    with pytest.raises(NonFiniteError, match=r"input x .*step 5, stream 1"):
        evaluator.check()


def test_a_full_memory_of_all_is_found() -> None:
    learner = learner_of(SAB(k_top=2, k_trunc=4), retention=All(slots=8))
    run(learner, 0, 9, nothing)
    learner.check()
    run(learner, 9, 13, nothing)
    with pytest.raises(ConfigError, match=r"slots = 8.*'all'"):
        learner.check()


@pytest.mark.parametrize("credit", [SAB(k_top=2, k_trunc=4), TBPTT(k_trunc=4)], ids=lambda rule: rule.name)
@pytest.mark.parametrize("change", [{"streams": 1}, {"network": {"hidden": 5}}, {"network": {"cell": "gru"}}], ids=str)
def test_the_state_of_another_learner_is_refused(credit: CreditRule, change: dict[str, Any]) -> None:
    learner, other = learner_of(credit), learner_of(credit, **change)
    with pytest.raises((ConfigError, RuntimeError, KeyError)):
        learner.load_state_dict(other.state_dict())


@pytest.mark.parametrize("shape", [(STREAMS, 1), (STREAMS, 3), (1, 2), (2,)], ids=str)
@pytest.mark.parametrize("call", ["step", "learn"])
def test_a_tensor_of_another_shape_is_refused(call: str, shape: tuple[int, ...]) -> None:
    """Not broadcast in silence: a column for all inputs, or one stream's row for all streams."""
    learner = learner_of()
    learner.step(torch.zeros(STREAMS, D_IN))
    with pytest.raises((ConfigError, RuntimeError)):
        getattr(learner, call)(torch.zeros(shape))


def test_the_optimiser_is_asked_only_when_an_update_is_due() -> None:
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=D_OUT, hidden=4), credit=SAB(k_top=2, k_trunc=4, update_every=3),
        retention=Recent(slots=4), optimizer=SGD(lr=0.1), streams=STREAMS,
    )  # fmt: skip
    for t in range(13):
        run(learner, t, t + 1, nothing)
        assert int(learner.updates) == (t + 1) // 3


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_a_gradient_that_overflows_is_found_with_its_step(backend: Any) -> None:
    learner = learner_of(streams=3, backend=backend)
    learner.parameters["readout.W_h"].fill_(100.0)
    generator = torch.Generator().manual_seed(0)
    for t in range(8):
        learner.step(torch.randn(3, D_IN, generator=generator))
        signal = torch.zeros(3, D_OUT)
        signal[1, 0] = 3e38 if t == 6 else 0.0
        learner.learn(signal)
    with pytest.raises(NonFiniteError, match=r"gradient .*after step 7"):
        learner.check()
