"""What each retention policy keeps, against a plain list that takes one state at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sabsim import RETENTIONS, SAB, SGD, ConfigError, Network, StreamingLearner
from sabsim.retention import All, Novelty, Recent, Relevancy, Reservoir, Retention, Surprise

STREAMS, SLOTS, BLOCK, HIDDEN, PROTECT, BUFFER = 2, 4, 3, 3, 2, 2


@dataclass
class State:
    """A state offered to memory; `weight` is the recall weight it has received while in the short-term buffer."""

    birth: int
    m: Tensor  # (n,)
    novelty: float
    loss: float
    weight: float = 0.0


Keep = Callable[[list[State], State], list[State]]  # what is held, by birth; one more state -> what is held then


def keep_recent(held: list[State], new: State) -> list[State]:
    return [*held, new][-SLOTS:]


def keep_all(held: list[State], new: State) -> list[State]:
    return [*held, new][:SLOTS]


def keep_surprise(held: list[State], new: State) -> list[State]:
    kept = sorted([*held, new], key=lambda state: -state.loss)[:SLOTS]
    return sorted(kept, key=lambda state: state.birth)


def keep_novelty(held: list[State], new: State) -> list[State]:
    old, newest = [*held, new][:-PROTECT], [*held, new][-PROTECT:]
    kept = sorted(old, key=lambda state: -state.novelty)[: SLOTS - PROTECT]
    return sorted(kept, key=lambda state: state.birth) + newest


def keep_relevancy(held: list[State], new: State) -> list[State]:
    relevant, buffer = held[:-BUFFER], [*held[-BUFFER:], new]
    if len(buffer) <= BUFFER:
        return relevant + buffer
    candidate = buffer.pop(0)
    if len(relevant) == SLOTS - BUFFER:
        least = min(relevant, key=lambda state: (state.weight, -state.birth))
        if candidate.weight <= least.weight:
            return relevant + buffer
        relevant.remove(least)
    return [*relevant, candidate, *buffer]


POLICIES: dict[str, tuple[Retention, Keep]] = {
    "recent": (Recent(slots=SLOTS), keep_recent),
    "all": (All(slots=SLOTS), keep_all),
    "surprise": (Surprise(slots=SLOTS), keep_surprise),
    "novelty": (Novelty(slots=SLOTS, protect=PROTECT, input_effect=0), keep_novelty),
    "relevancy": (Relevancy(slots=SLOTS, buffer=BUFFER), keep_relevancy),
}


@dataclass
class Stream:
    """One stream's memory in the plainest way: two lists."""

    keep: Keep
    k_att: int
    held: list[State] = field(default_factory=list)
    finished: list[State] = field(default_factory=list)  # states of the block under way, of the current sequence
    previous: Tensor = field(default_factory=lambda: torch.zeros(HIDDEN, dtype=torch.float64))
    local: int = 0
    refused: bool = False

    def end_block(self) -> None:
        for state in self.finished:
            self.refused |= len(self.held) == SLOTS
            self.held = self.keep(self.held, state)
        self.finished = []

    def reset(self) -> None:
        self.held, self.finished, self.local = [], [], 0
        self.previous = torch.zeros_like(self.previous)

    def step(self, birth: int, h_hat: Tensor, loss: float, read: dict[int, float]) -> None:
        for state in self.held[-BUFFER:]:
            state.weight += read.get(state.birth, 0.0)
        if self.local % self.k_att == self.k_att - 1:
            novelty = float((h_hat - self.previous).norm())
            self.finished.append(State(birth, h_hat.clone(), novelty, loss))
        self.previous, self.local = h_hat.clone(), self.local + 1


def learner_of(retention: Retention, *, streams: int, k_att: int, k_top: int = 2) -> StreamingLearner:
    """A learner that only remembers, and whose output is h_hat: y = h - s."""
    learner = StreamingLearner(
        Network(d_in=2, d_out=HIDDEN, hidden=HIDDEN),
        credit=SAB(k_top=k_top, k_trunc=BLOCK, k_att=k_att, explore=0.0), retention=retention, optimizer=SGD(),
        streams=streams, seed=3, dtype=torch.float64,
    )  # fmt: skip
    learner.learning = False
    eye = torch.eye(HIDDEN, dtype=torch.float64)
    for name, value in {"readout.W_h": eye, "readout.W_s": -eye, "salience.W_q": 5 * eye, "salience.W_k": eye}.items():
        learner.parameters[name].copy_(value)
    return learner


def mask(streams: frozenset[int]) -> Tensor:
    return torch.tensor([b in streams for b in range(STREAMS)])


# Numbers beyond the streams are nobody's reset: most steps have none, some one or both, also twice running.
RESETS = st.lists(st.frozensets(st.integers(0, 11), max_size=2), min_size=7 * BLOCK, max_size=10 * BLOCK)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(resets=RESETS, k_att=st.integers(1, 3), seed=st.integers(0, 999))
def test_a_policy_keeps_what_the_list_keeps(name: str, resets: list[frozenset[int]], k_att: int, seed: int) -> None:
    retention, keep = POLICIES[name]
    learner = learner_of(retention, streams=STREAMS, k_att=k_att)
    models = [Stream(keep, k_att) for _ in range(STREAMS)]
    generator = torch.Generator().manual_seed(seed)
    for t, done in enumerate([*resets, frozenset({9})]):
        x, loss = (torch.randn(STREAMS, *shape, generator=generator, dtype=torch.float64) for shape in ((2,), ()))
        learner.reset(mask(done))
        for b, model in enumerate(models):
            if t % BLOCK == 0:
                model.end_block()
            if b in done:
                model.reset()
            birth = learner.macrostate.birth[b]
            assert sorted(birth[birth >= 0].tolist()) == [state.birth for state in model.held]
            for state in model.held:
                found = learner.macrostate.m[b][birth == state.birth][0]
                torch.testing.assert_close(found, state.m, rtol=1e-12, atol=1e-12)
                if name == "relevancy" and t % BLOCK == 0:  # what is out of the buffer accrues no more
                    score = learner.macrostate.arrays["score"].view(STREAMS, -1)[b, :SLOTS][birth == state.birth]
                    assert float(score) == pytest.approx(state.weight, rel=1e-12)
        h_hat = learner.step(2 * x)
        learner.learn(torch.zeros_like(h_hat), loss)
        read = learner.read
        assert read is not None
        for b, model in enumerate(models):
            weights = dict(zip(read.source_step[b].tolist(), read.weight[b].tolist(), strict=True))
            model.step(t, h_hat[b], abs(float(loss[b])), weights)
    if name == "all" and any(model.refused for model in models):
        with pytest.raises(ConfigError, match=f"slots = {SLOTS}"):
            learner.check()
    else:
        learner.check()


def test_the_reservoir_holds_a_uniform_sample_of_the_sequence() -> None:
    """Inclusions without replacement have covariance p (1 - p) T/(T-1) (I - 1/T): chi-square with T - 1 degrees."""
    streams, steps, before = 600, 4 * BLOCK, 4
    learner = learner_of(Reservoir(slots=SLOTS), streams=streams, k_att=1)
    ended = torch.arange(streams) % 2 == 0  # half of the streams begin anew inside a block, and forget what was before
    for t in range(before + steps + 1):
        if t == before:
            learner.reset(ended)
        if t == before + steps:
            learner.reset(torch.zeros(streams, dtype=torch.bool))
            break
        learner.step(torch.zeros(streams, 2, dtype=torch.float64))
    births = learner.macrostate.birth
    for birth, first in ((births[ended], before), (births[~ended], 0)):
        # Offered so far are the states up to the last full block.
        last = (before + steps) // BLOCK * BLOCK
        count, total = last - first, len(birth)
        assert birth.min() >= first
        share = SLOTS / count
        found = torch.bincount(birth.flatten() - first, minlength=count).double()
        variance = total * share * (1 - share) * count / (count - 1)
        statistic = float(((found - total * share) ** 2).sum() / variance)
        chance = torch.special.gammaincc(torch.tensor((count - 1) / 2), torch.tensor(statistic / 2))
        assert chance > 1e-3, f"chi-square {statistic:.1f} of {count - 1} degrees"


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(resets=RESETS, k_att=st.integers(1, 3))
def test_the_reservoir_never_takes_back_what_it_let_go(resets: list[frozenset[int]], k_att: int) -> None:
    learner = learner_of(Reservoir(slots=SLOTS), streams=STREAMS, k_att=k_att)
    local, offered, gone = [0] * STREAMS, [0] * STREAMS, [set[int]() for _ in range(STREAMS)]
    pending, held = [[] for _ in range(STREAMS)], [set[int]() for _ in range(STREAMS)]
    for t, done in enumerate(resets):
        learner.reset(mask(done))
        for b in range(STREAMS):
            now = set(learner.macrostate.birth[b].tolist()) - {-1}
            if t % BLOCK == 0:
                offered[b] += len(pending[b])
                assert now <= held[b] | set(pending[b])
                pending[b] = []
            if b in done:
                local[b], offered[b], pending[b] = 0, 0, []
            assert not now & gone[b]
            assert len(now) == min(SLOTS, offered[b])
            gone[b] |= held[b] - now
            held[b] = now
            if local[b] % k_att == k_att - 1:
                pending[b].append(t)
            local[b] += 1
        learner.step(torch.zeros(STREAMS, 2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recent(slots=0), "slots = 0"),
        (lambda: All(slots=-2), "slots = -2"),
        (lambda: Novelty(slots=4, protect=-1), "protect = -1"),
        (lambda: Relevancy(slots=4, buffer=-3), "buffer = -3"),
        (lambda: Relevancy(slots=4, buffer=4), "slots = 4"),
    ],
)
def test_a_setting_out_of_range_is_named(make: Callable[[], Retention], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_every_policy_has_its_name() -> None:
    assert all(policy.name == name for name, policy in RETENTIONS.items())
    assert set(RETENTIONS) == {*POLICIES, "reservoir"}


def test_half_the_slots_are_the_buffer_by_default() -> None:
    assert (Relevancy(slots=9).protected, Relevancy(slots=9, buffer=3).protected) == (4, 3)
