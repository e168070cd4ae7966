"""The learner as a whole: seeds, saved states, evaluators, replay events, and what makes an update due."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sabsim import BPTT, SAB, SGD, TBPTT, Adam, CreditRule, Immediate, Memoryless, Network, ReplayEvents, StreamingLearner
from sabsim.reference import ReferenceLearner
from sabsim.retention import All, Novelty, Recent, Relevancy, Reservoir, Retention, Surprise

STREAMS, D_IN, D_OUT, HIDDEN, SLOTS = 3, 3, 2, 4, 5
RECENT = Recent(slots=SLOTS)
NETWORK = Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN)


@dataclass(frozen=True)
class Case:
    credit: CreditRule
    retention: Retention = RECENT
    network: Network = NETWORK
    backend: str = "auto"

    def __str__(self) -> str:
        trigger = "-triggered" if self.credit.trigger == "replay" else ""
        settings = (self.retention.name, self.network.sparsify, self.credit.block, self.backend)
        return "-".join([f"{self.credit.name}{trigger}", *map(str, settings)])

    def learner(self, *, seed: int = 0, dtype: torch.dtype = torch.float64, **keywords: Any) -> StreamingLearner:
        settings: dict[str, Any] = {"optimizer": Adam(lr=0.01, warmup_updates=0), "streams": STREAMS, **keywords}
        return StreamingLearner(
            self.network, credit=self.credit, retention=self.retention, seed=seed, dtype=dtype, backend=self.backend,
            **settings,
        )  # fmt: skip


NOISY = SAB(k_top=3, k_trunc=4, replays=2, explore=1.0, negligible=0.0)
CASES = [
    Case(NOISY),
    Case(NOISY, Novelty(slots=SLOTS), replace(NETWORK, cell="gru", salience="mlp")),
    Case(NOISY, Relevancy(slots=SLOTS), replace(NETWORK, cell="rnn", stores="h")),
    Case(replace(NOISY, update_every=1), Reservoir(slots=SLOTS)),
    Case(replace(NOISY, update_every=3, k_att=2), Surprise(slots=SLOTS), replace(NETWORK, sparsify="dense")),
    Case(
        replace(NOISY, trigger="replay", negligible=0.1), All(slots=40),
        replace(NETWORK, salience="affine", sparsify="relu", readout="weights"),
    ),
    Case(replace(NOISY, replay_threshold=0.8), Novelty(slots=SLOTS), replace(NETWORK, salience="tanh")),
    Case(NOISY, Novelty(slots=SLOTS), replace(NETWORK, salience="tanh", sparsify="normalised")),
    Case(TBPTT(k_trunc=4)),
    Case(TBPTT(k_trunc=4, update_every=1)),
    Case(BPTT(length=8)),
    Case(Immediate()),
    Case(Immediate(update_every=3)),
    Case(Memoryless(k_trunc=4)),
    Case(NOISY, backend="torch"),
    Case(replace(NOISY, update_every=1), Novelty(slots=SLOTS), backend="torch"),
    Case(TBPTT(k_trunc=4), backend="torch"),
]  # fmt: skip


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def everything(learner: StreamingLearner) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value).clone() for name, value in learner.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def signal_at(t: int, streams: int = STREAMS) -> Tensor:
    """A learning signal: loud for four steps, then faint for eight."""
    return (5.0 if t // 4 % 3 == 0 else 0.02) * draw(t + 5000, streams, D_OUT)


def drive(learner: StreamingLearner, first: int, last: int) -> Iterator[tuple[Tensor, ReplayEvents | None]]:
    """Steps first .. last-1 on inputs, signals and resets that depend on the step alone."""
    like = learner.flat
    for t in range(first, last):
        learner.reset(torch.tensor([t % 11 == 5, t % 14 == 4, False])[: learner.streams])
        y = learner.step(2 * draw(t, learner.streams, D_IN).to(like)).clone()
        signal = signal_at(t, learner.streams).to(like)
        yield y, learner.learn(signal, signal.norm(dim=1))


def outcome(learner: StreamingLearner, first: int, last: int) -> list[Tensor]:
    """Outputs, events and all that the learner is afterwards."""
    found = []
    for y, events in drive(learner, first, last):
        found += [y, *(field.clone() for field in events or ())]
    return found + list(everything(learner).values())


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


# Seeds, states, evaluators


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_seed_is_one_history(case: Case) -> None:
    assert equal(outcome(case.learner(seed=4), 0, 26), outcome(case.learner(seed=4), 0, 26))
    other = case.learner(seed=5)
    assert not torch.equal(case.learner(seed=4).flat, other.flat)
    assert not torch.equal(next(drive(case.learner(seed=4), 0, 1))[0], next(drive(other, 0, 1))[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_saved_state_continues_bit_for_bit(case: Case, dtype: torch.dtype) -> None:
    """Saved after any step of a block, its last one and one with a reset included, into a learner of another seed."""
    whole, end = case.learner(dtype=dtype), 34
    for t in range(21):
        list(drive(whole, t, t + 1))
        if t < 16:
            continue
        state, kept = whole.state_dict(), everything(whole)
        copies = [case.learner(seed=9, dtype=dtype) for _ in range(2)]
        list(drive(copies[1], 0, 7))  # one that has a past of its own
        for copy in copies:
            copy.load_state_dict(state)
            assert same(everything(copy), kept)
        assert equal(*(outcome(copy, t + 1, end) for copy in copies))
        # what was saved is a copy, and not touched by what came after
        assert all(torch.equal(torch.as_tensor(value), kept[name]) for name, value in state.items())
        last = everything(copies[0])
    list(drive(whole, 21, end))
    assert same(everything(whole), last)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_evaluator_is_apart_and_deterministic(case: Case) -> None:
    learner = case.learner()
    list(drive(learner, 0, 18))
    before, learned = everything(learner), {name: value.clone() for name, value in learner.learned.items()}
    histories = [outcome(learner.evaluator(streams=2, seed=3), 0, 26) for _ in range(2)]
    assert same(everything(learner), before)
    assert equal(*histories)
    evaluator = learner.evaluator()
    assert evaluator.streams == STREAMS
    assert evaluator.clock == 0
    assert not evaluator.learning
    assert all(events is None for _, events in drive(evaluator, 0, 13))
    assert int(evaluator.updates) == 0
    list(drive(learner, 18, 30))  # and the other way round
    assert all(torch.equal(value, learned[name]) for name, value in evaluator.learned.items())
    assert not torch.equal(learner.flat, before["flat"])


def test_an_evaluator_plays_the_averaged_parameters_once_there_are_some() -> None:
    learner = Case(NOISY).learner(optimizer=Adam(average=0.9))
    learner.flat.add_(0.1)
    assert torch.equal(learner.evaluator().flat, learner.flat)
    list(drive(learner, 0, 18))
    assert not torch.equal(learner.evaluator().flat, learner.flat)
    assert torch.equal(learner.evaluator().flat, learner.state_dict()["optimizer.average"])
    plain = Case(NOISY).learner(optimizer=Adam(average=0.0))
    list(drive(plain, 0, 18))
    assert torch.equal(plain.evaluator().flat, plain.flat)


def test_an_evaluator_does_not_explore() -> None:
    noisy, plain = (Case(replace(NOISY, explore=explore)).learner() for explore in (5.0, 0.0))
    a, b = (drive(learner.evaluator(), 0, 26) for learner in (noisy, plain))
    assert all(torch.equal(y, expected) for (y, _), (expected, _) in zip(a, b, strict=True))
    a, b = (drive(learner, 0, 26) for learner in (noisy, plain))
    assert not all(torch.equal(y, expected) for (y, _), (expected, _) in zip(a, b, strict=True))


def test_a_learner_that_does_not_learn_only_remembers() -> None:
    learner = Case(NOISY).learner()
    start = learner.flat.clone()
    learner.learning = False
    assert all(events is None for _, events in drive(learner, 0, 13))
    assert torch.equal(learner.flat, start)
    assert learner.macrostate.occupied.any()


# Replay events


@pytest.mark.parametrize("case", [case for case in CASES if case.credit.recalls], ids=str)
def test_events_tell_what_was_recalled_and_replayed(case: Case) -> None:
    learner = case.learner()
    k_trunc, replays = case.credit.k_trunc, case.credit.budget
    begin, reads, losses, count = [0] * STREAMS, [], [], 0
    for t, (_, events) in enumerate(drive(learner, 0, 36)):
        begin = [t if done else b for done, b in zip((t % 11 == 5, t % 14 == 4, False), begin, strict=True)]
        read = learner.read
        assert read is not None
        reads.append([dict(zip(*pair, strict=True)) for pair in zip(*(x.tolist() for x in read[2:0:-1]), strict=True)])
        losses.append(signal_at(t).norm(dim=1))
        assert (events is None) == ((t + 1) % case.credit.block != 0)
        if events is None:
            continue
        assert all(field.shape == (STREAMS, replays) for field in events)
        assert (events.credit >= 0).all()
        assert torch.equal(events.valid, events.credit > 0)
        for b, place in events.valid.nonzero().tolist():
            event = ReplayEvents(*(field[b, place].item() for field in events))
            chain = range(max(0, t + 1 - k_trunc), t + 1)
            assert event.lag == event.step - event.source_step > 0
            assert event.step in chain
            assert event.source_step < t + 1 - (t + 1 - event.step) // case.credit.block * case.credit.block
            # it was held and read at that step, with the weight given, which is its greatest in the chain
            assert event.weight == reads[event.step][b][event.source_step]
            assert event.weight == max(reads[i][b].get(event.source_step, 0) for i in chain)
            assert event.loss == pytest.approx(losses[event.step][b].item(), rel=1e-12)
            born_into = max([0, *(i for i in range(event.source_step + 1) if i % 11 == 5 and b == 0)])
            born_into = max([born_into, *(i for i in range(event.source_step + 1) if i % 14 == 4 and b == 1)])
            assert event.replayed_steps == min(k_trunc, event.source_step - born_into + 1)
            count += 1
        for sources, valid in zip(events.source_step.tolist(), events.valid.tolist(), strict=True):
            replayed = [source for source, used in zip(sources, valid, strict=True) if used]
            assert len(replayed) == len(set(replayed))
    assert count > 15


class Negligible(ReferenceLearner):
    """The oracle with only the twins connected whose credit is not below a fraction of the update's greatest."""

    fraction = 1.0

    def _greatest_credit(self) -> set[tuple[int, int]]:
        norms = {source: credit.norm() for source, credit in self.credit.items()}
        return {source for source in norms if norms[source] >= self.fraction * max(norms.values())}


def beside(learner: StreamingLearner, oracle: Negligible, steps: int) -> Iterator[ReplayEvents]:
    """The replays of each update; outputs, how many there are and every gradient are those of the oracle."""
    for t in range(steps):
        done = torch.tensor([t % 11 == 5, t % 14 == 4, False])
        for side in (learner, oracle):
            side.reset(done)
        x, signal, birth = 2 * draw(t, STREAMS, D_IN), signal_at(t), learner.macrostate.birth
        torch.testing.assert_close(learner.step(x), oracle.step(x, birth), rtol=1e-12, atol=1e-12)
        events, expected = learner.learn(signal), oracle.learn(signal)
        if expected is None or events is None:
            continue
        assert int(events.valid.sum()) == len(oracle.replayed)
        for name, gradient in expected.items():
            torch.testing.assert_close(learner.grads[name], gradient, rtol=1e-9, atol=1e-12)
        yield events


@pytest.mark.parametrize("fraction", [0.3, 1.0])
def test_negligible_credit_is_not_replayed(fraction: float) -> None:
    """The gradient is the oracle's with the small credits zeroed; at 1 one replay an update is left in all streams."""
    learner = Case(SAB(k_top=3, k_trunc=4, replays=SLOTS, explore=0.0, negligible=fraction)).learner(optimizer=SGD(lr=0.0))
    oracle = Negligible(
        learner.parameters, streams=STREAMS, k_top=3, k_trunc=4, slots=SLOTS, salience="cosine", readout="summary"
    )  # fmt: skip
    oracle.fraction, dropped = fraction, 0
    for _ in beside(learner, oracle, 28):
        assert fraction < 1 or len(oracle.replayed) == min(1, len(oracle.credit))
        dropped += len(oracle.credit) - len(oracle.replayed)
    assert dropped > 10


@pytest.mark.parametrize(("asked", "most"), [(None, 3), (1, 1), (5, 5), (0, 0)])
def test_as_many_are_replayed_as_a_step_recalls_unless_one_says_otherwise(asked: int | None, most: int) -> None:
    learner = Case(SAB(k_top=3, k_trunc=4, replays=asked, explore=0.0, negligible=0.0)).learner()
    counts = set()
    for t in range(40):
        learner.step(draw(t, STREAMS, D_IN))
        events = learner.learn(signal_at(t))
        if events is not None:
            counts |= set(events.valid.sum(1).tolist())
    assert max(counts, default=0) == most


class Thresholded(Negligible):
    """The oracle with only the twins connected whose credit is at least a multiple of the usual greatest."""

    fraction, threshold = 0.0, 1.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.usual, self.updates = 0.0, 0

    def _greatest_credit(self) -> set[tuple[int, int]]:
        norms = {source: float(credit.norm()) for source, credit in self.credit.items()}
        admitted = {source for source in norms if norms[source] >= self.threshold * self.usual**0.5}
        greatest = [max((norm for (b, _), norm in norms.items() if b == stream), default=0.0) for stream in range(STREAMS)]
        self.updates += 1
        self.usual += (sum(norm * norm for norm in greatest) / STREAMS - self.usual) / self.updates
        return admitted


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_credit_below_the_threshold_is_not_replayed(backend: str) -> None:
    """The gradient is the oracle's with the credits zeroed that are not several times as large as is usual."""
    rule = SAB(k_top=3, k_trunc=4, replays=SLOTS, explore=0.0, negligible=0.0, replay_threshold=0.8)
    learner = Case(rule, backend=backend).learner(optimizer=SGD(lr=0.0))
    oracle = Thresholded(
        learner.parameters, streams=STREAMS, k_top=3, k_trunc=4, slots=SLOTS, salience="cosine", readout="summary"
    )  # fmt: skip
    oracle.threshold, counts = rule.replay_threshold, []
    for _ in beside(learner, oracle, 80):
        counts.append((len(oracle.replayed), len(oracle.credit)))
        oracle.updates += not oracle.credit  # the oracle does not ask when there is none
    assert any(replayed == 0 < credited for replayed, credited in counts)
    assert any(0 < replayed < credited for replayed, credited in counts)


# What makes an update due


def test_a_triggered_update_waits_for_more_credit_than_usual() -> None:
    """Parameters change only where the block's replayed credit exceeds its running mean, by all gradients since then."""
    lr = 0.05
    rule = SAB(k_top=3, k_trunc=4, replays=2, trigger="replay")
    optimizer = SGD(lr=lr, clip=0.0)
    learner = Case(rule).learner(optimizer=optimizer)
    clock = Case(replace(rule, trigger="clock")).learner(optimizer=optimizer)
    usual, waiting, dues = 0.0, torch.zeros_like(learner.flat), []
    for t in range(100):
        loud = 10.0 if t // 4 % 5 == 1 else 0.01 if t // 4 % 5 < 4 else 0.0
        learner.step(2 * draw(t, STREAMS, D_IN))
        signal = loud * draw(t + 5000, STREAMS, D_OUT)
        clock.load_state_dict(learner.state_dict())
        clock.learn(signal)
        before, events = learner.flat.clone(), learner.learn(signal)
        if events is None:
            assert torch.equal(learner.flat, before)
            continue
        waiting += clock.grad
        total = events.credit.sum().item()
        due = total > usual
        usual += 0.01 * (total - usual)
        if due:
            torch.testing.assert_close(learner.flat, before - lr * waiting, rtol=1e-12, atol=1e-13)
            assert not torch.equal(learner.flat, before)
            waiting = torch.zeros_like(waiting)
        else:
            assert torch.equal(learner.flat, before)
        torch.testing.assert_close(learner.grad, waiting, rtol=1e-12, atol=1e-13)
        dues.append(due)
    assert 4 <= sum(dues) == int(learner.updates) <= len(dues) - 10
