"""A block's steps taken by one call: outputs, state and what is learned equal those of single steps, bit for bit."""

from typing import Any

import pytest
import torch
from torch import nn

from sabsim import SAB, Adam, ConfigError, Encoder, Memoryless, Network, Novelty, StreamingLearner
from sabsim.backend import BackendName
from sabsim.native import library_or_none

B, D, BLOCK = 3, 2, 4
compiled = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")
both = pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=compiled)])


def learner(backend: BackendName = "torch", **changes: Any) -> StreamingLearner:
    credit = changes.pop("credit", SAB(k_trunc=BLOCK, k_top=2, replays=2, explore=3.0))
    return StreamingLearner(
        Network(d_in=D, d_out=2, hidden=5),
        credit=credit,
        retention=Novelty(slots=6),
        optimizer=Adam(lr=0.05, warmup_updates=0),
        streams=B,
        seed=3,
        dtype=torch.float64,
        backend=backend,
        **changes,
    )


def differing(one: StreamingLearner, other: StreamingLearner) -> list[str]:
    mine, its = one.state_dict(), other.state_dict()
    return [name for name in mine if not torch.equal(torch.as_tensor(mine[name]), torch.as_tensor(its[name]))]


@pytest.mark.parametrize("familiar", [False, True])
@both
def test_a_block_at_once_equals_its_steps(backend: BackendName, familiar: bool) -> None:
    draws = torch.Generator().manual_seed(0)
    single, whole = learner(backend, familiar=familiar), learner(backend, familiar=familiar)
    for block in range(12):
        for one in (single, whole) if block % 3 == 0 else ():
            one.reset(torch.ones(B, dtype=torch.bool))  # the coin says anew who explores
        x = torch.randn(BLOCK, B, D, generator=draws, dtype=torch.float64)
        signal = torch.randn(BLOCK, B, 2, generator=draws, dtype=torch.float64)
        y = whole.step_block(x).clone()
        assert torch.equal(y, torch.stack([single.step(x_t).clone() for x_t in x]))
        assert whole.clock == single.clock
        for one in (single, whole):
            one.learn_block(signal)
        assert differing(single, whole) == []
    players = [one.evaluator(streams=B) for one in (single, whole)]
    x = torch.full((BLOCK, B, D), 9.0, dtype=torch.float64)  # so that c goes on to where it has not been
    for _ in range(8):
        assert torch.equal(players[1].step_block(x), torch.stack([players[0].step(x_t).clone() for x_t in x]))


def test_a_block_of_steps_without_a_past() -> None:
    single, whole = (learner(credit=Memoryless(k_trunc=BLOCK)) for _ in range(2))
    x = torch.randn(BLOCK, B, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(whole.step_block(x), torch.stack([single.step(x_t).clone() for x_t in x]))


@both
def test_a_block_of_observations(backend: BackendName) -> None:
    draws = torch.Generator().manual_seed(0)
    encoder = Encoder(module=nn.Linear(3, D, dtype=torch.float64), shape=(3,), dtype=torch.float64)
    single, whole = learner(backend, encoder=encoder), learner(backend, encoder=encoder)
    for _ in range(3):
        x = torch.randn(BLOCK, B, 3, generator=draws, dtype=torch.float64)
        assert torch.equal(whole.step_block(x), torch.stack([single.step(x_t).clone() for x_t in x]))
        for one in (single, whole):
            one.learn_block(torch.ones(BLOCK, B, 2, dtype=torch.float64))
    assert differing(single, whole) == []


@both
def test_a_block_that_cannot_be_taken_is_refused(backend: BackendName) -> None:
    one = learner(backend)
    with pytest.raises(ConfigError, match=r"x has 3 steps: must be a block's 4"):
        one.step_block(torch.zeros(BLOCK - 1, B, D, dtype=torch.float64))
    with pytest.raises(ConfigError, match=r"x has shape \(3, 1\): must be \(streams, d_in\) = \(3, 2\)"):
        one.step_block(torch.zeros(BLOCK, B, 1, dtype=torch.float64))
    one.step(torch.zeros(B, D, dtype=torch.float64))
    with pytest.raises(ConfigError, match=r"step_block came after 1 of a block's 4 steps"):
        one.step_block(torch.zeros(BLOCK, B, D, dtype=torch.float64))
