"""An encoder before the cell: its gradient against the oracle in both backends, and what agents need beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sabsim.cells
from sabsim import SAB, SGD, TBPTT, Adam, ConfigError, CreditRule, Encoder, Network, StreamingLearner
from sabsim.encoder import Encoding
from sabsim.native import library_or_none
from sabsim.reference import ReferenceLearner
from sabsim.retention import Novelty, Recent, Relevancy, Reservoir, Retention

STREAMS, SHAPE, D_IN, D_OUT, HIDDEN, K_TRUNC, SLOTS, STEPS = 3, (2, 3), 4, 3, 5, 3, 6, 17
TOLERANCE = 1e-9
# Inside a block, at its first and at its last step, twice running.
RESETS = {0: [0], 5: [2], 7: [1], 8: [1], 9: [0], 14: [1, 2]}
compiled = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")


class Small(nn.Module):
    """Two layers on bytes, one of them without a bias, so that names with dots and several shapes occur."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5, dtype=torch.float64)
        self.second = nn.Linear(5, D_IN, bias=False, dtype=torch.float64)

    def forward(self, observation: Tensor) -> Tensor:
        seen = observation.flatten(1).to(self.first.weight.dtype)
        return self.second(torch.tanh(self.first(seen / 4)))


def small(p: dict[str, Tensor], observation: Tensor) -> Tensor:
    """The same for the oracle, one observation at a time."""
    seen = observation.flatten().to(torch.float64)
    hidden = torch.tanh(p["encoder.first.weight"] @ (seen / 4) + p["encoder.first.bias"])
    return p["encoder.second.weight"] @ hidden


@dataclass(frozen=True, kw_only=True)
class Case:
    backend: str = "torch"
    cell: str = "lstm"
    k_att: int = 1
    update_every: int = K_TRUNC
    replays: int = SLOTS
    retention: Retention = Recent(slots=SLOTS)  # noqa: RUF009 - frozen

    def __str__(self) -> str:
        return "-".join(map(str, [*list(self.__dict__.values())[:-1], self.retention.name]))

    def learner(self, lr: float = 0.0, **keywords: Any) -> StreamingLearner:
        credit = SAB(
            k_top=3, k_trunc=K_TRUNC, k_att=self.k_att, update_every=self.update_every, replays=self.replays,
            explore=0.0, negligible=0.0,
        )  # fmt: skip
        learner = StreamingLearner(
            Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN, cell=self.cell), credit=credit, retention=self.retention,
            optimizer=SGD(lr=lr, clip=0.0), encoder=encoder(), streams=STREAMS, dtype=torch.float64,
            backend=self.backend, **keywords,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(5)
        learner.flat.copy_(0.4 * torch.randn(learner.flat.shape, generator=generator, dtype=torch.float64))
        return learner

    def oracle(self, learner: StreamingLearner, **keywords: Any) -> ReferenceLearner:
        return ReferenceLearner(
            learner.parameters, streams=STREAMS, k_top=3, k_trunc=K_TRUNC, k_att=self.k_att, slots=SLOTS,
            update_every=self.update_every, replays=self.replays, cell=self.cell, encoder=small, **keywords,
        )  # fmt: skip


CASES = [
    Case(),
    Case(cell="gru", k_att=2, retention=Novelty(slots=SLOTS)),
    Case(cell="rnn", update_every=1, retention=Reservoir(slots=SLOTS)),
    Case(cell="lstm", k_att=2, update_every=1, replays=2, retention=Relevancy(slots=SLOTS, buffer=2)),
    Case(cell="gru", update_every=1, replays=0),
    Case(cell="rnn", k_att=2, replays=2, retention=Novelty(slots=SLOTS)),
]
NATIVE = [
    Case(backend="native"),
    Case(backend="native", k_att=2, retention=Novelty(slots=SLOTS)),
    Case(backend="native", update_every=1, retention=Reservoir(slots=SLOTS)),
    Case(backend="native", k_att=2, update_every=1, replays=2, retention=Relevancy(slots=SLOTS, buffer=2)),
    Case(backend="native", update_every=2, replays=0),
]
BOTH = [*CASES, *(pytest.param(case, marks=compiled) for case in NATIVE)]
EACH = [Case(), pytest.param(Case(backend="native"), marks=compiled)]


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(module=Small(), shape=SHAPE)


def met(steps: int = STEPS) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Resets (B,), observations (B, *SHAPE) and signals (B, D_OUT) of some steps."""
    generator = torch.Generator().manual_seed(6)
    found = []
    for t in range(steps):
        done = torch.zeros(STREAMS, dtype=torch.bool)
        done[RESETS.get(t, [])] = True
        observation = torch.randint(0, 9, (STREAMS, *SHAPE), generator=generator).to(torch.uint8)
        found.append((done, observation, torch.randn(STREAMS, D_OUT, generator=generator, dtype=torch.float64)))
    return found


def worst(found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]], name: str) -> float:
    """Greatest deviation in any block over the block's greatest entry, or a thousandth of the run's if that is more."""
    run = max(g[name].abs().max().item() for g in expected)
    assert run > 1e-6, f"{name} has a trivial gradient"
    errors = []
    for fast, slow in zip(found, expected, strict=True):
        scale = max(slow[name].abs().max().item(), 1e-3 * run)
        errors.append((fast[name] - slow[name]).abs().max().item() / scale)
    return max(errors)


def both(learner: StreamingLearner, oracle: ReferenceLearner) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Gradients of every block from both, and a check of the outputs."""
    fast, slow = [], []
    for done, observation, signal in met():
        for side in (learner, oracle):
            side.reset(done)
        birth = learner.macrostate.birth.clone()
        y, expected = learner.step(observation), oracle.step(observation, birth)
        assert (y - expected).abs().max() < TOLERANCE
        learner.learn(signal)
        if (gradients := oracle.learn(signal)) is not None:
            slow.append(gradients)
            fast.append({name: g.clone() for name, g in learner.grads.items()})
    return fast, slow


@pytest.mark.parametrize("case", BOTH, ids=str)
def test_the_gradient_of_every_parameter_equals_the_oracle(case: Case) -> None:
    learner = case.learner()
    assert learner.backend == case.backend
    fast, slow = both(learner, case.oracle(learner))
    assert set(fast[0]) == set(slow[0])
    assert {"encoder.first.weight", "encoder.first.bias", "encoder.second.weight"} < set(fast[0])
    for name in slow[0]:
        error = worst(fast, slow, name)
        assert error < TOLERANCE, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize("case", EACH, ids=str)
def test_online_training_follows_the_oracle(case: Case) -> None:
    """Segments are encoded with today's parameters, the chain with those of its block, which are the same."""
    lr = 0.05

    def descend(parameters: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        for name, parameter in parameters.items():
            parameter -= lr * gradients[name]

    learner = case.learner(lr=lr)
    start = {name: p.clone() for name, p in learner.parameters.items()}
    oracle = case.oracle(learner, update=descend)
    both(learner, oracle)
    for name, expected in oracle.parameters.items():
        moved = (expected - start[name]).abs().max().item()
        assert moved > 1e-5, name
        assert (learner.parameters[name] - expected).abs().max().item() < TOLERANCE * max(moved, 1e-3), name


def test_replay_reaches_the_encoder() -> None:
    """The comparison above would prove little of segments if they gave the encoder nothing."""
    change = [both(case.learner(), case.oracle(case.learner()))[0] for case in (Case(), Case(replays=0))]
    gaps = [(a["encoder.first.weight"] - b["encoder.first.weight"]).abs().max() for a, b in zip(*change, strict=True)]
    assert max(gaps) > 1e-4


def wrong_weights(self: object, p: dict[str, Tensor], local: sabsim.cells.Local, out: Tensor) -> None:
    """Credit on x through W_h's first columns."""
    torch.mm(local.joined[0].flatten(0, 1), p["W"][:, D_IN : 2 * D_IN], out=out.view(-1, D_IN))


def old_segments(learner: StreamingLearner) -> Callable[[Tensor], Tensor]:
    """``Encoding.again`` that mixes up the steps of the segments."""
    encoding = learner._encoding
    assert encoding is not None
    return lambda segments=None: Encoding.again(encoding, None if segments is None else segments.flip(1))


def test_planted_bugs_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    name, case = "encoder.second.weight", Case()
    learner = case.learner()
    monkeypatch.setattr(learner._encoding, "again", old_segments(learner))
    assert worst(*both(learner, case.oracle(learner)), name) > 1e3 * TOLERANCE
    learner = case.learner()
    monkeypatch.setattr(sabsim.cells.Cell, "input_credit", wrong_weights)
    assert worst(*both(learner, case.oracle(learner)), name) > 1e3 * TOLERANCE


@compiled
def test_a_planted_native_bug_is_caught() -> None:
    """C is not told that there are observations: segments are then encoded from zeros."""
    case = Case(backend="native")
    learner = case.learner()
    learner._backend._calls.learner.set(observed=0)
    assert worst(*both(learner, case.oracle(learner)), "encoder.second.weight") > 1e3 * TOLERANCE


@pytest.mark.parametrize("credit", [TBPTT(k_trunc=3), SAB(k_top=2, k_trunc=3, trigger="replay")], ids=["tbptt", "trigger"])
def test_backends_agree_with_adam(credit: CreditRule) -> None:
    """Rules without recall, gradients that accumulate, and Adam in C on the module's parameters."""
    if library_or_none(torch.float64) is None:
        pytest.skip("no C compiler here")
    ends = []
    for backend in ("torch", "native"):
        learner = StreamingLearner(
            Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN), credit=credit, retention=Recent(slots=SLOTS),
            optimizer=Adam(lr=0.01, warmup_updates=0), encoder=encoder(), streams=STREAMS, dtype=torch.float64,
            backend=backend,
            )  # fmt: skip
        start = learner.parameters["encoder.first.weight"].clone()
        for done, observation, signal in met(30):
            learner.reset(done)
            learner.step(observation)
            learner.learn(signal)
        assert (learner.parameters["encoder.first.weight"] - start).abs().max() > 1e-3
        ends.append(learner.flat.clone())
    assert (ends[0] - ends[1]).abs().max() < TOLERANCE


@pytest.mark.parametrize("case", EACH, ids=str)
def test_a_saved_learner_goes_on_in_another_backend_and_its_evaluator_encodes_alike(case: Case) -> None:
    learner, steps = case.learner(lr=0.05), met()
    for done, observation, signal in steps[:10]:
        learner.reset(done)
        learner.step(observation)
        learner.learn(signal)
    other = Case().learner(lr=0.05)
    other.load_state_dict(learner.state_dict())
    for done, observation, signal in steps[10:]:
        outputs = []
        for side in (learner, other):
            side.reset(done)
            outputs.append(side.step(observation).clone())
            side.learn(signal)
        assert (outputs[0] - outputs[1]).abs().max() < TOLERANCE
    first = learner.evaluator()
    before = learner.flat.clone()
    assert torch.isfinite(first.step(steps[0][1])).all()
    assert all(torch.equal(a, b) for a, b in zip(first.learned.values(), learner.learned.values(), strict=True))
    first.parameters["encoder.first.weight"].zero_()
    assert torch.equal(learner.flat, before)


@pytest.mark.parametrize("case", [*EACH, Case(update_every=1)], ids=str)
def test_a_peek_tells_the_next_output_and_changes_nothing(case: Case) -> None:
    peeking, other = case.learner(lr=0.05), case.learner(lr=0.05)
    steps = met()
    for t, (done, observation, signal) in enumerate(steps[:-1]):
        for side in (peeking, other):
            side.reset(done)
        # Within a block nothing happens between the peek and the step; at its beginning the last block is still in the way.
        within = t % K_TRUNC > 0 and case.update_every > 1
        expected = peeking.peek(observation).clone() if within else None
        y = peeking.step(observation)
        assert expected is None or torch.equal(y, expected)
        assert torch.equal(y, other.step(observation))
        peeking.peek(steps[t + 1][1])
        for side in (peeking, other):
            side.learn(signal)
    assert torch.equal(peeking.flat, other.flat)


@pytest.mark.parametrize("case", EACH, ids=str)
def test_a_block_of_signals_at_once_is_what_they_are_one_by_one(case: Case) -> None:
    one, other = case.learner(lr=0.05), case.learner(lr=0.05)
    block: list[Tensor] = []
    for done, observation, signal in met():
        for side in (one, other):
            side.reset(done)
            side.step(observation)
        block.append(signal)
        events = one.learn(signal)
        if len(block) == K_TRUNC:
            found = other.learn_block(torch.stack(block))
            assert events is not None
            assert found is not None
            assert all(torch.equal(a, b) for a, b in zip(events, found, strict=True))
            assert torch.equal(one.grad, other.grad)
            block.clear()
    assert torch.equal(one.flat, other.flat)


def test_errors_name_what_is_wrong() -> None:
    learner = Case().learner()
    with pytest.raises(ConfigError, match=r"observation is \(3, 6\)"):
        learner.step(torch.zeros(STREAMS, 6, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=r"torch\.float32: must be"):
        learner.step(torch.zeros(STREAMS, *SHAPE))
    learner.step(torch.zeros(STREAMS, *SHAPE, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="after 1 of a block's 3 steps"):
        learner.learn_block(torch.zeros(3, STREAMS, D_OUT, dtype=torch.float64))
    with pytest.raises(ConfigError, match="shape = "):
        Encoder(module=Small(), shape=())
    with pytest.raises(ConfigError, match="no parameters"):
        Encoder(module=nn.Flatten(), shape=SHAPE)
    with pytest.raises(ConfigError, match=r"must be \(2, d_in\) = \(2, 7\)"):
        StreamingLearner(
            Network(d_in=7, d_out=2), credit=TBPTT(), retention=Recent(slots=2), optimizer=SGD(), encoder=encoder()
        )
