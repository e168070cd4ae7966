"""The bounded memory: what an offer leaves, what a reset may touch, and that nothing grows."""

import gc
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sabsim import SAB, SGD, TBPTT, Adam, ConfigError, Network, StreamingLearner
from sabsim.macrostate import Macrostate, Offer
from sabsim.retention import All, Novelty, Recent, Relevancy, Reservoir, Retention, Surprise

STREAMS, SLOTS, BLOCK, D_IN, HIDDEN = 3, 5, 4, 2, 3
POLICIES: dict[str, Retention] = {
    "all": All(slots=60),
    "recent": Recent(slots=SLOTS),
    "reservoir": Reservoir(slots=SLOTS),
    "relevancy": Relevancy(slots=SLOTS),
    "novelty": Novelty(slots=SLOTS, input_effect=0),  # the usual input is learned from all streams, like a parameter
    "surprise": Surprise(slots=SLOTS),
}


# What an offer leaves, scores with many ties included


@dataclass(frozen=True)
class Kept:
    birth: int
    score: float


def best(held: list[Kept], offered: list[Kept], slots: int, safe_after: int) -> list[Kept]:
    """The newest are safe; of the others the highest scores stay, and of equal scores the oldest."""
    safe = [kept for kept in held + offered if kept.birth > safe_after]
    rest = sorted((k for k in held + offered if k.birth <= safe_after), key=lambda k: (-k.score, k.birth))
    return safe + rest[: slots - len(safe)]


SCORES = st.lists(st.one_of(st.just(-float("inf")), st.integers(0, 3).map(float)), min_size=2 * BLOCK, max_size=2 * BLOCK)
BLOCKS = st.lists(st.tuples(SCORES, st.frozensets(st.integers(0, 5), max_size=1)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(blocks=BLOCKS, slots=st.integers(1, 6), protect=st.integers(0, 3))
def test_an_offer_leaves_the_best_of_both(blocks: list, slots: int, protect: int) -> None:
    like = torch.zeros((), dtype=torch.float64)
    memory = Macrostate(streams=2, slots=slots, d_in=1, hidden=2, width_c=1, k_trunc=2, like=like)
    retention = Novelty(slots=slots, protect=protect)
    models: list[list[Kept]] = [[], []]
    for block, (drawn, ended) in enumerate(blocks):
        memory.clear(torch.tensor([b in ended for b in range(2)]))
        scores = torch.tensor(drawn, dtype=torch.float64).view(2, BLOCK)
        birth = torch.arange(block * BLOCK, (block + 1) * BLOCK).expand(2, -1)
        mark = birth.double()[..., None]  # whatever a microstate keeps says whose it is
        offer = Offer(mark.expand(-1, -1, 2), mark[..., None].expand(-1, -1, 2, 3), mark, birth % 2 + 1, birth, scores)
        now = (block + 1) * BLOCK - 1
        memory.offer(offer, retention, now, 1)
        for b, held in enumerate(models):
            offered = [Kept(i, s) for i, s in zip(birth[b].tolist(), scores[b].tolist(), strict=True) if s >= 0]
            models[b] = best([] if b in ended else held, offered, slots, now - retention.protected)
            found = memory.birth[b][memory.occupied[b]]
            assert sorted(found.tolist()) == sorted(kept.birth for kept in models[b])
            for name, expected in {"m": found, "segment": found, "c": found, "length": found % 2 + 1}.items():
                array = memory.arrays[name].view(2, slots + 1, -1)[b, :slots][memory.occupied[b]]
                assert torch.equal(array, expected[:, None].expand_as(array).to(array.dtype)), name


# Streams and sequences do not see each other


def learner_of(retention: Retention, *, salience: str = "dot", readout: str = "summary", **rule: float) -> StreamingLearner:
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=2, hidden=HIDDEN, salience=salience, readout=readout),
        credit=SAB(k_top=3, k_trunc=BLOCK, **rule), retention=retention, optimizer=SGD(lr=0.0), streams=STREAMS, seed=1,
        dtype=torch.float64,
    )  # fmt: skip
    learner.flat.copy_(torch.randn(learner.flat.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    return learner


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def row(learner: StreamingLearner, stream: int) -> list[Tensor]:
    """All that is kept of one stream in memory, and what its last step read."""
    memory, read = learner.macrostate, learner.read
    assert read is not None
    arrays = (array.view(STREAMS, -1)[stream] for array in memory.arrays.values() if array.dim())
    return [t.clone() for t in (*arrays, *(field[stream] for field in read))]


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=3, deadline=None, derandomize=True, database=None)
@given(resets=st.lists(st.frozensets(st.sampled_from([0, 2, 9, 10]), max_size=2), min_size=14, max_size=18))
def test_what_one_stream_does_never_touches_another(name: str, resets: list[frozenset[int]]) -> None:
    """Stream 1 lives the same life bit for bit, in company that begins anew or not, on other inputs and signals."""
    lives = []
    for wild in (False, True):
        learner, life = learner_of(POLICIES[name]), []
        x, signal = draw(3, len(resets), STREAMS, D_IN), draw(4, len(resets), STREAMS, 2)
        if wild:
            x[:, ::2], signal[:, ::2] = 9 * draw(5, len(resets), 2, D_IN), 9 * draw(6, len(resets), 2, 2)
        for t, done in enumerate(resets):
            learner.reset(torch.tensor([wild and b in done for b in range(STREAMS)]))
            life += [learner.step(x[t])[1].clone(), *row(learner, 1)]
            learner.learn(signal[t], signal[t].norm(dim=1))
        lives.append(life)
    assert all(torch.equal(a, b) for a, b in zip(*lives, strict=True))


@pytest.mark.parametrize(("salience", "readout"), [("dot", "summary"), ("affine", "weights")])
@pytest.mark.parametrize("name", [name for name in POLICIES if name != "all"])
def test_an_ended_sequence_leaves_no_trace(name: str, salience: str, readout: str) -> None:
    """Two learners with different pasts are the same after a reset, even where outputs depend on which slot is read."""
    outputs = []
    for past in (0, 1):
        learner, seen = learner_of(POLICIES[name], salience=salience, readout=readout, explore=0.0), []
        for t in range(8 * BLOCK):
            begin = 5 * BLOCK + 2
            if t == begin:
                learner.reset(torch.ones(STREAMS, dtype=torch.bool))
            seed = 100 * t + (past if t < begin else 0)
            y = learner.step(3 * draw(seed, STREAMS, D_IN))
            learner.learn(draw(seed + 50, STREAMS, 2))
            if t >= begin:
                seen.append(y.clone())
        outputs.append(torch.stack(seen))
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k_att", [1, 2, 3])
@pytest.mark.parametrize("name", POLICIES)
def test_births_are_unique_spaced_and_of_the_sequence(name: str, k_att: int) -> None:
    learner, begin = learner_of(POLICIES[name], k_att=k_att), [0] * STREAMS
    for t in range(11 * BLOCK):
        done = [t % (5 + 4 * b) == 3 or (b == 2 and t in (8, 9)) for b in range(STREAMS)]
        learner.reset(torch.tensor(done))
        begin = [t if d else start for d, start in zip(done, begin, strict=True)]
        readable = [[i for i in births if i >= 0] for births in learner.macrostate.birth.tolist()]
        learner.learn(learner.step(draw(t, STREAMS, D_IN)))
        read = learner.read
        assert read is not None
        for b, births in enumerate(readable):
            assert len(births) == len(set(births)) == int(learner.macrostate.occupied[b].sum()) <= learner.retention.slots
            assert all(begin[b] <= i < t - t % BLOCK and (i - begin[b]) % k_att == k_att - 1 for i in births)
            sources = read.source_step[b][read.weight[b] > 0].tolist()
            assert len(sources) == len(set(sources))
            assert set(sources) <= set(births)


# Bounded


def tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("name", ["relevancy", "novelty"])
def test_nothing_grows(name: str) -> None:
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=2, hidden=HIDDEN), credit=SAB(k_top=3, k_trunc=BLOCK), retention=POLICIES[name],
        optimizer=Adam(), streams=STREAMS,
    )  # fmt: skip
    sizes = []
    for t in range(401):
        if t % 200 == 0:
            state = learner.state_dict()
            held = sum(v.numel() * v.element_size() for v in state.values() if isinstance(v, Tensor))
            del state
            sizes.append((tensors(), held, learner.macrostate_bytes, learner.macrostate.nbytes))
        learner.reset(torch.tensor([t % 7 == 0, t % 50 == 0, False]))
        learner.learn(learner.step(torch.ones(STREAMS, D_IN)))
    assert all(a == b for a, b in pairwise(sizes[1:]))
    assert sizes[0][1:] == sizes[1][1:]
    numbers = STREAMS * (SLOTS + 1) * BLOCK * (HIDDEN + D_IN)  # the segments, in float32
    assert 4 * numbers < sizes[0][2] < 12 * numbers


def test_without_recall_there_is_no_memory() -> None:
    learner = StreamingLearner(
        Network(d_in=1, d_out=1, hidden=2), credit=TBPTT(k_trunc=2), retention=Recent(slots=4), optimizer=SGD()
    )
    assert learner.macrostate_bytes == 0
    assert learner.read is None
    with pytest.raises(ConfigError, match="tbptt"):
        _ = learner.macrostate
