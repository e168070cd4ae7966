"""Which credits are replayed, and which blocks let an update happen, beyond the largest of each stream."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sabsim import SAB, SGD, Network, StreamingLearner
from sabsim.retention import Recent

STREAMS, D_IN, D_OUT = 3, 3, 2


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learner_of(*, lr: float = 0.0, streams: int = STREAMS, **credit: Any) -> StreamingLearner:
    return StreamingLearner(
        Network(d_in=D_IN, d_out=D_OUT, hidden=4), credit=SAB(**({"k_top": 3, "k_trunc": 4} | credit)),
        retention=Recent(slots=5), optimizer=SGD(lr=lr), streams=streams, dtype=torch.float64,
    )  # fmt: skip


def test_the_usual_credit_is_that_of_the_last_thousand_updates() -> None:
    replay = learner_of(replays=2, replay_threshold=0.5)._replay
    assert replay is not None
    replay.usual.copy_(torch.tensor([1.0, 50_000.0]))
    replay.admit(torch.full((STREAMS, 2), 2.0, dtype=torch.float64))
    assert float(replay.usual[0]) == pytest.approx(1 + (4 - 1) / 1000, rel=1e-12)


def test_a_share_of_all_replays_is_that_of_the_greatest_credits() -> None:
    whole, part = (learner_of(replays=3, replay_share=share, negligible=0.0, explore=0.0) for share in (1.0, 0.4))
    fewer = 0
    for t in range(40):
        found = []
        for learner in (whole, part):
            learner.step(2 * draw(t, STREAMS, D_IN))
            found.append(learner.learn(draw(t + 500, STREAMS, D_OUT)))
        if found[0] is not None and found[1] is not None:
            credits = [events.credit[events.valid].sort(descending=True).values for events in found if events]
            assert torch.equal(credits[1], credits[0][:4])  # 0.4 of 3 streams with 3 each
            fewer += len(credits[0]) > 4
    assert fewer > 5


@pytest.mark.parametrize(("share", "most"), [(0.07, 7), (0.075, 8), (1.0, 100), (0.001, 1)])
def test_a_share_is_not_more_for_the_digits_of_a_float(share: float, most: int) -> None:
    replay = learner_of(streams=100, k_top=1, replays=1, replay_share=share)._replay
    assert replay is not None
    assert replay.most == most


def test_a_trigger_without_replay_waits_for_more_loss_than_usual() -> None:
    learner = learner_of(lr=0.01, update_every=2, replays=0, trigger="replay")
    usual, lost, updates, waited = 0.0, 0.0, 0, 0
    for t in range(100):
        learner.step(draw(t, STREAMS, D_IN))
        loss = draw(t + 50, STREAMS).square() * (10.0 if t // 4 % 5 == 1 else 0.01)
        learner.learn(draw(t + 500, STREAMS, D_OUT), loss)
        lost += float(loss.sum())
        if t % 2:
            updates += lost > usual
            waited += lost <= usual
            usual += 0.01 * (lost - usual)
            lost = 0.0
            assert int(learner.updates) == updates
    assert min(updates, waited) > 5
