"""Recall over many slots: older keys with exact ones where it matters choose what all exact keys would, to the last bit."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sabsim import SAB, Adam, Network, StreamingLearner
from sabsim.exploration import MANY_SLOTS, Exploration
from sabsim.native import library_or_none, pieces
from sabsim.retention import Novelty, Recent

D_IN, D_OUT, STREAMS, HIDDEN, SLOTS = 4, 3, 2, 11, 90
RULE = SAB(k_top=3, k_trunc=3, replays=2, explore=4.0)
compiled = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")


def learner_of(lazy: bool, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> StreamingLearner:
    keywords: dict[str, Any] = {
        "credit": RULE,
        "retention": Recent(slots=SLOTS),
        "optimizer": Adam(lr=0.02, warmup_updates=0),
    }
    keywords |= {"streams": STREAMS, "seed": 3, "backend": "native"} | settings
    monkeypatch.setattr(pieces, "LAZY_FROM", 1 if lazy else 10**9)
    return StreamingLearner(Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN), **keywords)


def play(learner: StreamingLearner, first: int, last: int) -> Tensor:
    generator = torch.Generator().manual_seed(first)
    outputs = []
    for t in range(first, last):
        learner.reset(torch.tensor([t % 101 == 100, False]))
        x = torch.randn(STREAMS, D_IN, generator=generator).to(learner.flat)
        y = learner.step(torch.zeros_like(x) if t % 7 > 4 else x)
        outputs.append(y.clone())
        learner.learn(y - x[:, :D_OUT])
    return torch.stack(outputs)


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("rule", "retention", "room"),
    [
        (RULE, Recent(slots=SLOTS), 1024),
        (RULE, Recent(slots=SLOTS), 2),
        (replace(RULE, update_every=1, explore=0.0), Novelty(slots=SLOTS), 1024),
        (replace(RULE, trigger="replay", k_top=SLOTS), Novelty(slots=SLOTS), 5),
    ],
    ids=["recent", "no room", "sliding", "all read"],
)
def test_a_history_with_older_keys_is_that_with_exact_ones(
    rule: SAB, retention: Any, room: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, over resets, full and half-empty memories, and new bases."""
    monkeypatch.setattr(pieces, "EXACT_KEYS", room)
    both = [learner_of(lazy, monkeypatch, credit=rule, retention=retention, dtype=dtype) for lazy in (True, False)]
    assert torch.equal(*(play(learner, 0, 400) for learner in both))
    states = [learner.state_dict() for learner in both]
    assert all(torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][name])) for name, value in states[0].items())


@compiled
def test_a_stream_of_equal_microstates_is_plain_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "EXACT_KEYS", 20)
    learner = learner_of(True, monkeypatch, credit=replace(RULE, explore=0.0), optimizer=Adam(lr=1e-5))
    play(learner, 0, 99)
    plain = learner.window._calls.learner.tensors["plain"]  # type: ignore[attr-defined]
    assert (plain == 0).all()
    learner.macrostate.arrays["m"].fill_(0.1)
    learner.window.refresh(learner.macrostate)
    play(learner, 102, 108)
    before = plain.clone()
    assert (before > 0).all()
    play(learner, 108, 114)
    assert torch.equal(plain, before - 2)


@compiled
def test_most_slots_need_no_exact_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is for: with parameters that change little, few exact keys; in an evaluation, no new base."""
    learner = learner_of(True, monkeypatch, credit=replace(RULE, explore=0.0), optimizer=Adam(lr=1e-5))
    play(learner, 0, 240)
    scratch = learner.window._calls.learner.tensors  # type: ignore[attr-defined]
    base, before = scratch["base_W_k"], scratch["base_W_k"].clone()
    scratch["spent"].zero_()
    play(learner, 240, 249)
    assert 0 < int(scratch["spent"]) < 3 * STREAMS * SLOTS / 4  # all keys, in three blocks: 3 * STREAMS * SLOTS
    assert torch.equal(base, before)
    learner.learning = False
    play(learner, 249, 600)
    assert torch.equal(base, before)


def test_the_noise_of_many_slots_is_gumbel_noise() -> None:
    like = torch.zeros((), dtype=torch.float64)
    exploration = Exploration(block=3, streams=2, slots=MANY_SLOTS, temperature=10.0, like=like)
    exploration.draw(torch.Generator().manual_seed(0), 0.5)
    found = exploration.arrays["noise"].flatten().sort().values
    expected = -torch.log(-torch.log((torch.arange(len(found), dtype=torch.float64) + 0.5) / len(found)))
    shares = torch.exp(-torch.exp(-found)) - torch.exp(-torch.exp(-expected))
    assert shares.abs().max() < 1.63 / len(found) ** 0.5  # Kolmogorov-Smirnov, 1 %


@compiled
@settings(max_examples=40, deadline=None)
@given(
    slots=st.integers(3, 40), filled=st.integers(0, 40), drift=st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 10.0]),
    kinds=st.integers(1, 12), g=st.sampled_from([10.0, 0.0, -3.0]), seed=st.integers(0, 1000),
    room=st.sampled_from([2, 1024]),
)  # fmt: skip
def test_the_choice_is_the_naive_one(
    slots: int, filled: int, drift: float, kinds: int, g: float, seed: int, room: int
) -> None:
    """Against the definition, with many equal microstates, zeros, empty slots, and any distance from the base."""
    filled, generator = min(filled, slots), torch.Generator().manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "EXACT_KEYS", room)
        learner = learner_of(
            True, patch, retention=Recent(slots=slots), streams=1, dtype=torch.float64,
            credit=replace(RULE, replays=0, explore=0.0),
        )  # fmt: skip
    memory, p = learner.macrostate, learner.parameters
    values = torch.randn(kinds, HIDDEN, generator=generator, dtype=torch.float64)
    values[0] = 0
    memory.arrays["m"][:slots] = values[torch.randint(kinds, (slots,), generator=generator)]
    memory.arrays["empty"][:filled] = False
    memory.arrays["stamp"][:slots] = torch.arange(slots)
    learner.window.refresh(memory)
    p["salience.W_k"].add_(drift * torch.randn(HIDDEN, HIDDEN, generator=generator, dtype=torch.float64))
    p["salience.g"].fill_(g)
    learner.window._calls.learner.tensors["spent"].fill_(-(10**6))  # type: ignore[attr-defined]  # the base stays
    learner.window.refresh(memory)
    learner.step(torch.randn(1, D_IN, generator=generator, dtype=torch.float64))
    q = p["salience.W_q"] @ learner.window.rings["h_hat"][learner._position - 1, 0]
    k = memory.m[0, :filled] @ p["salience.W_k"].t()
    k = k / k.norm(dim=1, keepdim=True).clamp_min(1e-6)
    scores = g * (k @ (q / q.norm().clamp_min(1e-6)))
    read = learner.read
    assert read is not None
    count = min(RULE.k_top, filled)
    found = read.slot[0, :count]
    torch.testing.assert_close(scores[found], scores.topk(count).values, rtol=0, atol=1e-12)
    assert len(set(read.slot[0].tolist())) == RULE.k_top
    equal = scores[found[1:]] == scores[found[:-1]]
    assert bool((found[1:] > found[:-1])[equal & (memory.m[0, found[1:]] == memory.m[0, found[:-1]]).all(1)].all())
    assert (read.weight[0, count:] == 0).all()
    assert (read.source_step[0, count:] == -1).all()
