"""The native backend beside torch: equal histories on every instruction set, saved states, and faults.

That its gradients are right is shown in test_keystone.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sabsim import (
    BPTT,
    SAB,
    SGD,
    TBPTT,
    Adam,
    ConfigError,
    CreditRule,
    Immediate,
    Memoryless,
    Network,
    NonFiniteError,
    StreamingLearner,
)
from sabsim.native import exploration, library_or_none
from sabsim.optim import Optimizer
from sabsim.retention import All, Novelty, Recent, Relevancy, Reservoir, Retention, Surprise

STREAMS, D_IN, D_OUT, SLOTS = 3, 5, 4, 7
compiled = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A combination of pieces that the native backend serves."""

    credit: CreditRule
    retention: Retention = field(default_factory=lambda: Novelty(slots=SLOTS))
    optimizer: Optimizer = field(default_factory=lambda: Adam(lr=0.003, warmup_updates=0))
    stores: str = "h_hat"
    feeds: str = "h"
    hidden: int = 19
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    def __str__(self) -> str:
        parts = [
            self.credit.name,
            str(self.credit.block),
            self.retention.name,
            self.optimizer.name,
            self.stores,
            self.feeds,
        ]
        return "-".join(parts)

    def learner(self, backend: str, **settings: Any) -> StreamingLearner:
        network = Network(
            d_in=D_IN,
            d_out=D_OUT,
            hidden=self.hidden,
            stores=self.stores,
            feeds=self.feeds,  # type: ignore[arg-type]
        )
        keywords = {"streams": STREAMS, "seed": 4, "dtype": torch.float64} | settings
        return StreamingLearner(
            network,
            credit=self.credit,
            retention=self.retention,
            optimizer=self.optimizer,
            familiar=True,
            backend=backend,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            **keywords,
        )


RULE = SAB(k_top=3, k_trunc=4, replays=2, explore=0.5)
CASES = [
    Case(credit=RULE),
    Case(credit=replace(RULE, update_every=1), retention=Relevancy(slots=SLOTS)),
    Case(credit=replace(RULE, update_every=3, k_att=2), stores="h"),
    Case(credit=replace(RULE, update_every=3), feeds="h_hat"),
    Case(credit=replace(RULE, update_every=1, k_att=2), stores="h", feeds="h_hat", retention=Reservoir(slots=SLOTS)),
    Case(credit=replace(RULE, update_every=3), feeds="h_hat", dropout=0.3, recurrent_dropout=0.2),
    Case(credit=TBPTT(k_trunc=4, update_every=2), feeds="h_hat"),
    Case(credit=replace(RULE, replays=SLOTS, k_top=SLOTS, negligible=0.0), retention=Reservoir(slots=SLOTS)),
    Case(credit=replace(RULE, replays=0, explore=0.0), retention=Surprise(slots=SLOTS)),
    Case(credit=replace(RULE, k_top=1, replays=1), retention=Recent(slots=1)),
    Case(credit=replace(RULE, trigger="replay"), retention=Novelty(slots=SLOTS, input_effect=0.0)),
    Case(credit=RULE, retention=All(slots=40), optimizer=SGD(lr=0.01, momentum=0.5)),
    *(
        Case(credit=RULE, optimizer=Adam(**{"warmup_updates": 0, **settings}))
        for settings in (
            {"schedule": "rsqrt", "decay_updates": 9, "weight_decay": 0.1, "spike": 1.2, "clip": 0.0},
            {"schedule": "inverse", "decay_updates": 9, "warmup_updates": 7},
            {"schedule": "linear", "decay_updates": 6, "restarts": 3, "amsgrad": False, "spike": 0.0},
            {"schedule": "cosine", "decay_updates": 90, "clip": 0.2},
        )
    ),
    Case(credit=replace(RULE, k_trunc=7), hidden=64),
    Case(credit=replace(RULE, update_every=3), dropout=0.3),
    Case(credit=TBPTT(k_trunc=4, update_every=2), dropout=0.3),
    Case(credit=replace(RULE, update_every=3), dropout=0.3, recurrent_dropout=0.2),
    Case(credit=TBPTT(k_trunc=4, update_every=2), recurrent_dropout=0.3),
    Case(credit=TBPTT(k_trunc=4, update_every=2)),
    Case(credit=BPTT(length=13)),
    Case(credit=Immediate()),
    Case(credit=Immediate(update_every=5)),
    Case(credit=Memoryless(k_trunc=5)),
]  # fmt: skip


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drive(learner: StreamingLearner, first: int, last: int) -> Iterator[Tensor]:
    """Steps with resets at awkward moments; the signal is that of a squared error. Yields the outputs."""
    like, streams = learner.flat, learner.streams
    for t in range(first, last):
        learner.reset(torch.tensor([t % 13 == 6, t % 29 == 9, t % 13 == 7] * streams)[:streams])
        y = learner.step(draw(t, streams, D_IN).to(like))
        signal = y - 2 * draw(t + 5000, streams, D_OUT).to(like)
        yield y.clone()
        learner.learn(signal / streams, None if t % 2 else signal.norm(dim=1))


def play(learner: StreamingLearner, first: int, last: int) -> Tensor:
    return torch.stack(list(drive(learner, first, last)))


def everything(learner: StreamingLearner) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value).clone() for name, value in learner.state_dict().items()}


@compiled
def test_the_usual_norm_of_louder_times_is_a_limit_in_c_too() -> None:
    case, ends = Case(credit=RULE, optimizer=Adam(lr=0.003, warmup_updates=0, clip=0.0, spike=0.5)), []
    for backend, louder in (("torch", True), ("native", True), ("native", False)):
        learner = case.learner(backend)
        play(learner, 0, 40)
        if louder:
            learner._optim["greatest_mean_square"].mul_(1e4)
        play(learner, 40, 120)
        ends.append(learner.flat.clone())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=1e-12)
    assert (ends[2] - ends[0]).abs().max() > 1e-4


@compiled
@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_blocks_without_a_signal(case: Case) -> None:
    """Their walk back is left out: no gradient, no replay, no credit of the block before; later ones are whole."""
    ours, theirs = case.learner("native"), case.learner("torch")
    block = ours.credit.block
    for t in range(30 * block):
        silent = t // block % 5 < 3
        for learner in (ours, theirs):
            learner.reset(torch.tensor([t % 41 == 6, False, t % 53 == 7]))
            y = learner.step(draw(t, STREAMS, D_IN))
            signal = torch.zeros_like(y) if silent else y - draw(t + 5000, STREAMS, D_OUT)
            events = learner.learn(signal)
            if silent and learner.block_is_full:
                assert not learner.grad.any()
                assert events is None or not events.valid.any()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours.flat, theirs.flat, rtol=1e-9, atol=1e-10)
    assert ours.updates == theirs.updates == 30


@compiled
def test_blocks_that_trigger_no_update_keep_the_packed_weights() -> None:
    """Parameters that did not move are not packed again, nor are keys made of them; those that moved are."""
    learner = Case(credit=replace(RULE, trigger="replay")).learner("native")
    moved = kept = 0
    for t in range(40 * learner.credit.block):
        before, packings, updates = learner.flat.clone(), learner.window._calls.pack(), int(learner.updates)
        y = learner.step(draw(t, STREAMS, D_IN))
        loud = t // learner.credit.block % 3 == 0
        learner.learn((y - draw(t + 5000, STREAMS, D_OUT)) * loud)
        due = int(learner.updates) > updates
        assert due is not torch.equal(learner.flat, before)
        assert learner.window._calls.pack() == packings + due
        moved, kept = moved + due, kept + (learner.block_is_full and not due)
    assert moved > 5
    assert kept > 5


@compiled
@pytest.mark.parametrize("case", CASES, ids=str)
def test_hundreds_of_updates_follow_torch(case: Case) -> None:
    """Outputs, parameters, memory and generator of both backends stay equal in float64."""
    ours, theirs = case.learner("native"), case.learner("torch")
    assert (ours.backend, theirs.backend) == ("native", "torch")
    steps = 200
    found, expected = play(ours, 0, steps), play(theirs, 0, steps)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    assert ours.updates == theirs.updates
    assert ours.updates > 10
    states = everything(ours), everything(theirs)
    assert states[0].keys() == states[1].keys()
    scratch = ("trace.k", "trace.gk", "trace.k_norm")  # the native backward pass keeps one key per microstate, not per read
    unread = ("ring.m", "ring.index")  # an empty slot may stand for any other in a choice
    for name, value in states[0].items():
        if name not in (*scratch, *unread):
            torch.testing.assert_close(value, states[1][name], rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.usefixtures("isa")
def test_every_instruction_set_follows_torch(dtype: torch.dtype) -> None:
    for hidden, streams in ((37, 1), (64, 13)):
        case = Case(credit=RULE, hidden=hidden)
        found = play(case.learner("native", dtype=dtype, streams=streams), 0, 60)
        expected = play(case.learner("torch", dtype=dtype, streams=streams), 0, 60)
        tolerance = 1e-10 if dtype is torch.float64 else 2e-4
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@compiled
def test_many_units_follow_torch() -> None:
    """From 256 units on weights are packed for the way back, and of long blocks what is multiplied from the left."""
    case = Case(credit=replace(RULE, k_trunc=30), hidden=520)
    found, expected = (play(case.learner(backend, streams=9), 0, 60) for backend in ("native", "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@compiled
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-7), (torch.float64, 1e-15)])
@pytest.mark.usefixtures("isa")
def test_sigmoid_and_tanh_are_exact_to_rounding(dtype: torch.dtype, tolerance: float) -> None:
    """Relative error against the same in more digits, from tiny arguments to saturated ones."""
    n = 4001
    learner = StreamingLearner(
        Network(d_in=1, d_out=1, hidden=n), credit=Immediate(), retention=Recent(), optimizer=SGD(), dtype=dtype,
        backend="native",
    )  # fmt: skip
    learner.flat.zero_()
    x = torch.cat([torch.linspace(-86, 86, n // 2), torch.logspace(-12, 1, n - n // 2)]).to(dtype)
    learner.parameters["cell.b"].copy_(x.repeat(4))
    learner.step(torch.zeros(1, 1))
    gates = learner.window.tape["gates"][0, 0].double()
    for found, exact in ((gates[:n], torch.sigmoid(x.double())), (gates[3 * n :], torch.tanh(x.double()))):
        assert ((found - exact) / exact).abs().max() < tolerance * (1 if dtype is torch.float32 else 2)


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_saved_native_state_continues_bit_for_bit(case: Case, dtype: torch.dtype) -> None:
    whole, first, second = (case.learner("native", dtype=dtype, seed=seed) for seed in (4, 4, 9))
    outputs = play(whole, 0, 71)
    play(first, 0, 37)
    second.load_state_dict(first.state_dict())
    assert torch.equal(play(second, 37, 71), outputs[37:])
    kept, other = everything(whole), everything(second)
    assert all(torch.equal(kept[name], other[name]) for name in kept)


@compiled
def test_a_state_saved_by_torch_goes_on_natively() -> None:
    case = CASES[0]
    theirs, ours = case.learner("torch"), case.learner("native", seed=9)
    play(theirs, 0, 37)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(play(ours, 37, 80), play(theirs, 37, 80), rtol=1e-9, atol=1e-10)


@compiled
@pytest.mark.parametrize("case", [CASES[0], CASES[1]], ids=str)
@pytest.mark.parametrize("moment", [37, 40])
def test_a_native_state_saved_at_any_moment_goes_on_in_torch(case: Case, moment: int) -> None:
    """Within a block too: what the native backend has put off is in the state."""
    ours, theirs = case.learner("native"), case.learner("torch", seed=9)
    play(ours, 0, moment)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(play(ours, moment, 80), play(theirs, moment, 80), rtol=1e-9, atol=1e-10)


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.usefixtures("isa")
def test_noise_is_that_of_torch(dtype: torch.dtype) -> None:
    """Equal numbers, and the generators stay equal, other draws between them included."""
    explorations = [
        case.learner(backend, dtype=dtype)._exploration for case in CASES[:1] for backend in ("native", "torch")
    ]
    generators = [torch.Generator().manual_seed(6) for _ in explorations]
    for _ in range(40):
        for one, generator in zip(explorations, generators, strict=True):
            assert one is not None
            one.draw(generator, 0.5)
        ours, theirs = (one.arrays for one in explorations if one is not None)
        tolerance = 1e-6 if dtype is torch.float32 else 1e-13
        torch.testing.assert_close(ours["noise"], theirs["noise"], rtol=tolerance, atol=tolerance)
        assert torch.equal(ours["coin"], theirs["coin"])
        assert torch.equal(*(generator.get_state() for generator in generators))


@compiled
def test_a_torch_that_draws_otherwise_draws_the_noise_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exploration, "GENERATOR_BYTES", 1)
    case = CASES[0]
    found, expected = (play(case.learner(backend), 0, 60) for backend in ("native", "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@compiled
def test_parameters_changed_from_outside_are_used_at_once() -> None:
    case, outputs = CASES[0], []
    for backend in ("native", "torch"):
        learner = case.learner(backend)
        play(learner, 0, 10)
        learner.parameters["cell.W_h"].mul_(0.5)
        learner.parameters["readout.b"].add_(1.0)
        outputs.append(play(learner, 10, 20))
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-10)


@compiled
def test_inputs_of_other_kinds_are_taken_as_torch_takes_them() -> None:
    """Other number types, a transposed view, a signal of one row for all streams."""
    outputs = []
    for backend in ("native", "torch"):
        learner, seen = CASES[0].learner(backend), []
        for t in range(12):
            x = draw(t, D_IN, STREAMS).t().float() if t % 2 else torch.ones(STREAMS, D_IN, dtype=torch.int64)
            seen.append(learner.step(x).clone())
            learner.learn(draw(t, D_OUT, STREAMS).t(), torch.ones(()))
        outputs.append(torch.stack(seen))
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-10)


@compiled
@pytest.mark.parametrize(
    ("where", "message"),
    [("x", "input x is not finite at step 6, stream 1"), ("signal", "signal dL/dy is not finite at step 6, stream 1")],
)
def test_the_first_nan_is_named(where: str, message: str) -> None:
    for backend in ("native", "torch"):
        learner = CASES[0].learner(backend)
        before = None
        for t in range(8):  # two blocks
            x, signal = draw(t, STREAMS, D_IN), draw(t + 50, STREAMS, D_OUT)
            if t == 6:
                (x if where == "x" else signal)[1, 2] = torch.nan
                before = learner.flat.clone()
            learner.step(x)
            learner.learn(signal)
        with pytest.raises(NonFiniteError, match=message):
            learner.check()
        assert before is not None
        assert torch.equal(learner.flat, before), backend


def test_a_combination_that_is_not_served_is_refused_or_left_to_torch() -> None:
    for piece, name in (("cell", "gru"), ("salience", "mlp"), ("sparsify", "relu"), ("readout", "weights")):
        network = Network(d_in=D_IN, d_out=D_OUT, hidden=8, **{piece: name})  # type: ignore[arg-type]
        settings: dict[str, Any] = {"credit": RULE, "retention": Recent(slots=SLOTS), "optimizer": SGD()}
        assert StreamingLearner(network, **settings, backend="auto").backend == "torch"
        with pytest.raises(ConfigError, match=rf"{piece} = '{name}': it serves {piece} "):
            StreamingLearner(network, **settings, backend="native")
    with pytest.raises(ConfigError, match="backend = 'fast': must be one of auto, torch, native"):
        CASES[0].learner("fast")
