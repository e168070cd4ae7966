"""Dropout of what the readout reads, drawn anew each block, and of what the next step sees, drawn for each sequence: in
learning only, and off unless asked for.

That its gradients are right is shown in test_keystone.py, that both backends agree in test_native.py.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from sabsim import SAB, TBPTT, Adam, ConfigError, CreditRule, Network, Recent, StreamingLearner
from sabsim.dropout import Dropout, RecurrentDropout
from sabsim.native import library_or_none
from sabsim.runs import LearnerOptions, RunConfig, RunOptions, build_learner
from sabsim.tasks import CharLM, Copying

STREAMS, D_IN, D_OUT, BLOCK = 3, 4, 2, 5
RULE = SAB(k_top=2, k_trunc=BLOCK, explore=0.0)
BACKENDS = [
    "torch",
    pytest.param("native", marks=pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")),
]


def learner_with(
    dropout: float,
    backend: str = "torch",
    credit: CreditRule = RULE,
    seed: int = 0,
    recurrent: float = 0.0,
    cell: str = "lstm",
) -> StreamingLearner:
    return StreamingLearner(
        Network(d_in=D_IN, d_out=D_OUT, hidden=6, cell=cell), credit=credit, retention=Recent(slots=4),
        optimizer=Adam(warmup_updates=0),
        streams=STREAMS, seed=seed, dtype=torch.float64, dropout=dropout, recurrent_dropout=recurrent, backend=backend,
    )  # fmt: skip


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def read_out(learner: StreamingLearner, read: Tensor) -> Tensor:
    """What a readout of ``read`` (B, w), [h ; s], is by the learner's parameters."""
    p = learner.parameters
    weights = [p[f"readout.{name}"] for name in ("W_h", "W_s") if f"readout.{name}" in p]
    return read @ torch.cat(weights, 1).t() + p["readout.b"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("credit", [RULE, TBPTT(k_trunc=BLOCK)], ids=["sab", "tbptt"])
def test_the_readout_reads_what_the_mask_leaves(backend: str, credit: CreditRule) -> None:
    """The same mask at each step of a block, another in the next; the state goes on as if nothing were left out."""
    learner, whole = learner_with(0.5, backend, credit), learner_with(0.0, backend, credit)
    masks = []
    for t in range(6 * BLOCK):
        y, plain = learner.step(draw(t, STREAMS, D_IN)), whole.step(draw(t, STREAMS, D_IN))
        position = learner.window.history + t % BLOCK
        read, mask = learner.window.rings["readout"][position], learner.window.mask
        assert mask is not None
        torch.testing.assert_close(y, read_out(learner, read * mask), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(plain, read_out(whole, read), rtol=1e-12, atol=1e-12)
        masks.append(mask.clone())
        for each in (learner, whole):
            each.learn(torch.zeros(STREAMS, D_OUT, dtype=torch.float64))
    blocks = torch.stack(masks).view(6, BLOCK, *masks[0].shape)
    assert torch.equal(blocks, blocks[:, :1].expand_as(blocks))
    assert set(blocks.unique().tolist()) == {0.0, 2.0}
    assert len({tuple(block[0].flatten().tolist()) for block in blocks}) == 6


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_left_out_but_in_learning(backend: str) -> None:
    """Neither in a look ahead nor in an evaluation, of an evaluator or of the learner itself."""
    learner = learner_with(0.9, backend)
    whole = learner_with(0.0, backend)
    for t in range(4 * BLOCK):
        x = draw(t, STREAMS, D_IN)
        torch.testing.assert_close(learner.peek(x), whole.peek(x), rtol=1e-12, atol=1e-12)
        assert not torch.allclose(learner.step(x), whole.step(x))
        for each in (learner, whole):
            each.learn(torch.zeros(STREAMS, D_OUT, dtype=torch.float64))
    evaluator, other = learner.evaluator(), whole.evaluator()
    learner.learning = False
    learner.reset(torch.ones(STREAMS, dtype=torch.bool))
    for t in range(3 * BLOCK):
        x = draw(t, STREAMS, D_IN)
        expected = other.step(x)
        for each in (evaluator, learner):
            torch.testing.assert_close(each.step(x), expected, rtol=1e-12, atol=1e-12)
            each.learn(torch.zeros(STREAMS, D_OUT, dtype=torch.float64))
        other.learn(torch.zeros(STREAMS, D_OUT, dtype=torch.float64))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_evaluation_carries_everything_on(backend: str) -> None:
    learner, whole = learner_with(0.0, backend, recurrent=0.5), learner_with(0.0, backend)
    for t in range(BLOCK):
        y, plain = learner.step(draw(t, STREAMS, D_IN)), whole.step(draw(t, STREAMS, D_IN))
        assert torch.allclose(y, plain) == (t == 0)
    evaluator, other = learner.evaluator(), whole.evaluator()
    learner.learning = False
    learner.reset(torch.ones(STREAMS, dtype=torch.bool))
    for t in range(3 * BLOCK):
        expected = other.step(draw(t, STREAMS, D_IN))
        for each in (evaluator, learner):
            torch.testing.assert_close(each.step(draw(t, STREAMS, D_IN)), expected, rtol=1e-12, atol=1e-12)


def test_a_share_is_left_out_and_the_expectation_stays() -> None:
    dropout = Dropout(0.3, streams=200, width=300, like=torch.zeros(1, dtype=torch.float64))
    assert torch.equal(dropout.mask, torch.ones(200, 300, dtype=torch.float64))
    dropout.draw(torch.Generator().manual_seed(0))
    left_out = float((dropout.mask == 0).double().mean())
    assert left_out == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 60_000) ** 0.5)
    assert dropout.mask.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert float(dropout.mask.mean()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loaded_learner_goes_on_with_the_same_mask(backend: str) -> None:
    """Saved within a block, and loaded into a learner that has drawn others."""
    learner, other = (learner_with(0.4, backend, recurrent=0.3, seed=seed) for seed in (0, 7))
    for t in range(2 * BLOCK + 2):
        learner.step(draw(t, STREAMS, D_IN))
        learner.learn(draw(t + 99, STREAMS, D_OUT))
    other.load_state_dict(learner.state_dict())
    for t in range(2 * BLOCK + 2, 5 * BLOCK):
        assert torch.equal(learner.step(draw(t, STREAMS, D_IN)), other.step(draw(t, STREAMS, D_IN)))
        for each in (learner, other):
            each.learn(draw(t + 99, STREAMS, D_OUT))
    assert torch.equal(learner.flat, other.flat)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("credit", [RULE, TBPTT(k_trunc=BLOCK)], ids=["sab", "tbptt"])
def test_the_next_step_sees_what_is_carried(backend: str, credit: CreditRule) -> None:
    """The same units from a sequence's first step to its last, others in the next, each stream for itself; c is whole."""
    learner = learner_with(0.0, backend, credit, recurrent=0.5)
    carried, seen = learner.window.carried, []
    assert carried is not None
    for t in range(60):
        begins = torch.tensor([t % 20 == 13, t % 20 == 6, False])
        learner.reset(begins)
        learner.step(draw(t, STREAMS, D_IN))
        position = learner.window.history + t % BLOCK
        rings = learner.window.rings
        h, after = rings["readout"][position][:, :6], rings["xh"][position + 1][:, D_IN:]
        assert torch.equal(after, h * carried)
        assert torch.equal(rings["carried"][position + 1], carried)
        seen.append(carried.clone())
        learner.learn(torch.zeros(STREAMS, D_OUT, dtype=torch.float64))
    masks = torch.stack(seen)
    assert set(masks.unique().tolist()) == {0.0, 2.0}
    for stream, first in enumerate((13, 6, None)):
        edges = [0, *(() if first is None else range(first, 60, 20)), 60]
        parts = [masks[a:b, stream] for a, b in pairwise(edges)]
        assert all(torch.equal(part, part[:1].expand_as(part)) for part in parts)
        assert len({tuple(part[0].tolist()) for part in parts}) == len(parts)


def test_a_share_of_the_units_is_left_out_of_the_sequences_that_begin() -> None:
    dropout = RecurrentDropout(0.2, streams=200, hidden=300, like=torch.zeros(1, dtype=torch.float64))
    dropout.draw(torch.Generator().manual_seed(0))
    begins = torch.arange(200) < 100
    dropout.begin(begins)
    carried = dropout.arrays["carried"]
    assert torch.equal(carried[100:], torch.ones(100, 300, dtype=torch.float64))
    left_out = float((carried[:100] == 0).double().mean())
    assert left_out == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / 30_000) ** 0.5)
    assert carried[:100].unique().tolist() == [0.0, pytest.approx(1 / 0.8)]


def test_recurrent_dropout_needs_a_memory_that_it_leaves_alone() -> None:
    with pytest.raises(ConfigError, match=r"recurrent_dropout = 0\.1: needs a cell that remembers .*; cell is rnn"):
        learner_with(0.0, recurrent=0.1, cell="rnn")


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=rf"dropout = {share}: must be in \[0, 1\)"):
        learner_with(share)
    with pytest.raises(ConfigError, match=rf"recurrent_dropout = {share}: must be in \[0, 1\)"):
        learner_with(0.0, recurrent=share)


def test_an_endless_task_is_refused() -> None:
    options = LearnerOptions(recurrent_dropout=0.1)
    with pytest.raises(ConfigError, match=r"recurrent_dropout = 0\.1: is drawn for each sequence, and charlm has none"):
        build_learner(RunConfig(task=CharLM(), learner=options, run=RunOptions(streams=2, device="cpu")))


@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout"])
def test_an_option_of_runs(name: str) -> None:
    """It reaches the learner; credit rules that have none refuse it."""
    share: dict[str, Any] = {name: 0.25}
    config = RunConfig(task=Copying(T=3), learner=LearnerOptions(**share), run=RunOptions(streams=2, device="cpu"))
    window = build_learner(config).window
    assert (window.mask is not None, window.carried is not None) == (name == "dropout", name == "recurrent_dropout")
    for credit in ("full-attention", "screened-attention"):
        retention = "all" if credit == "full-attention" else "relevancy"
        options = LearnerOptions(**share, credit=credit, retention=retention, explore=0.0)
        with pytest.raises(ConfigError, match=rf"{name} = 0.25: credit {credit} does without; leave it out"):
            build_learner(RunConfig(task=Copying(T=3), learner=options, run=RunOptions(streams=2, device="cpu")))
