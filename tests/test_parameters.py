"""Parameters before anything is learned, and what becomes of them where nothing is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sabsim import SAB, SGD, TBPTT, Adam, Network, StreamingLearner
from sabsim.retention import Novelty, Recent

STREAMS, D_IN, D_OUT = 3, 3, 2
FOLLOWED = {"usual", "familiar", "fading"}
"""What a learner's state keeps of what it has met, by the first word of its names."""


def draw(seed: int) -> Tensor:
    return torch.randn(STREAMS, D_IN, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_initial_parameters() -> None:
    """As Network says: biases of forget gates spread over 0 .. forget_bias, those of input gates are their negatives."""
    n = 200
    learner = StreamingLearner(
        Network(d_in=7, d_out=2, hidden=n, forget_bias=3.0, input_scale=0.5),
        credit=TBPTT(k_trunc=3), retention=Recent(), optimizer=SGD(), dtype=torch.float64,
    )  # fmt: skip
    p = learner.parameters
    o, i, f, g = p["cell.b"].split(n)
    assert not o.any()
    assert not g.any()
    assert torch.equal(i, -f)
    for found, low, high in ((f, 0.0, 3.0), (p["cell.W_x"], -0.5, 0.5), (p["cell.W_h"], -(n**-0.5), n**-0.5)):
        assert low <= found.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < found.max() <= high


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_only_the_salience_decays(backend: Any) -> None:
    """By the share lr * weight_decay, in an update without a gradient."""
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=D_OUT, hidden=4), credit=SAB(k_top=2, k_trunc=3), retention=Recent(slots=4),
        optimizer=Adam(lr=0.1, weight_decay=0.5, schedule="constant", warmup_updates=0), streams=STREAMS,
        dtype=torch.float64, backend=backend,
    )  # fmt: skip
    before = {name: p.clone() for name, p in learner.parameters.items()}
    for t in range(3):
        learner.learn(torch.zeros_like(learner.step(draw(t))))
    for name, p in learner.parameters.items():
        share = 0.95 if name.startswith("salience.") else 1.0
        torch.testing.assert_close(p, share * before[name], rtol=1e-12, atol=0.0, msg=name)


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_who_does_not_learn_follows_nothing(backend: Any) -> None:
    """Neither the usual input, nor the familiar range of c, nor what exploring costs."""
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=D_OUT, hidden=4), credit=SAB(k_top=2, k_trunc=3), retention=Novelty(slots=4),
        optimizer=Adam(), streams=STREAMS, familiar=True, dtype=torch.float64, backend=backend,
    )  # fmt: skip

    def play(t: int) -> None:
        learner.reset(torch.tensor([t % 5 == 0, t % 7 == 3, False]))
        learner.learn(learner.step(draw(t)))

    def followed() -> dict[str, Tensor]:
        state = learner.state_dict()
        return {name: torch.as_tensor(state[name]).clone() for name in state if name.split(".")[0] in FOLLOWED}

    for t in range(31):
        play(t)
    learner.learning = False
    learner._advance_if_full()
    before = followed()
    assert {name.split(".")[0] for name in before} == FOLLOWED
    for t in range(31, 90):
        play(t)
        after = followed()
        assert [name for name in before if not torch.equal(before[name], after[name])] == [], t
