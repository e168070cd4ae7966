"""The benchmark of the whole loop still plays: every player, its updates, and the summary of its rates."""

import importlib
from pathlib import Path

import pytest
import torch

from sabsim.native import library_or_none

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.skipif(library_or_none(torch.float32) is None, reason="no C compiler here")
def test_every_player_plays_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    loop, agents = (importlib.import_module(name) for name in ("minigrid_loop", "minigrid_agents"))
    monkeypatch.setattr(loop, "WARM_UP", 1)
    players = loop.players(2, 0)
    naive = players["naive, eager torch"]
    before = [p.clone() for p in naive._parameters]
    rates = loop.play(players, 2, rounds=2, steps=40)
    assert set(loop.summarise(rates)) == set(players)
    assert all(rate > 0 for clocks in rates.values() for samples in clocks.values() for rate in samples)
    assert any(not torch.equal(p, q) for p, q in zip(before, naive._parameters, strict=True))
    streaming = [player for player in players.values() if isinstance(player, agents.StreamingAgent)]
    assert {player.learner.backend for player in streaming} == {"torch", "native"}
    for player in streaming:
        assert int(player.learner.updates) == 5
        assert player.learner.grads["encoder.W"].abs().max() > 0
        player.learner.check()


def test_an_episode_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An episode's end: the next observation begins another, and tells that no action came before it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    agents = importlib.import_module("minigrid_agents")
    environments = agents.Environments(1, 0)
    assert environments.ended.all()
    for _ in range(1000):
        environments.step([0])
        if environments.ended[0]:
            break
        assert environments.seen[0, -1] == 0
    assert environments.seen[0, -1] == agents.ACTIONS
    assert environments.scores == [0.0]
