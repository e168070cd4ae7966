"""What an agent's seeds decide: the actions of an evaluator, and the episodes that a resumed run begins anew."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
from sabsim.agents import (
    AGENT_TABLES,
    AgentConfig,
    AgentLearnerOptions,
    AgentRunOptions,
    build_agent,
    load_agent,
    train_agent,
)
from sabsim.agents.loop import AgentLoop

from sabsim.runs import Display, RunDatabase, RunFolder

LEARNER = AgentLearnerOptions(hidden=4, slots=4, k_top=2)
FEW = AgentRunOptions(streams=2, steps=40, eval_every=1_000, eval_episodes=1, final_episodes=1, record_streams=0)


def test_an_evaluator_draws_its_actions_by_its_seed() -> None:
    parts = build_agent(AgentConfig(env="sabsim/MemoryChain-v0", learner=LEARNER, run=FEW))
    played = []
    for seed in (1, 1, 2):
        # The environments are the same ones each time.
        player = parts.agent.evaluator(parts.agent.arena.another(parts.make, streams=2, seed=5), seed=seed)
        played.append([player.window().action.tolist() for _ in range(9)])
    assert played[0] == played[1] != played[2]


def test_a_resumed_run_that_cannot_save_its_environments_begins_other_episodes(tmp_path: Path) -> None:
    """Otherwise it would meet the first episodes again after every resume."""
    config = AgentConfig(env="CartPole-v1", learner=LEARNER, run=FEW)
    train_agent(config, out=tmp_path)
    parts, stored = load_agent(RunFolder(tmp_path))
    arena = parts.agent.arena
    first = arena.x.copy()
    with closing(RunDatabase(tmp_path / "run.sqlite", AGENT_TABLES)) as database:
        loop = AgentLoop(parts=parts, folder=RunFolder(tmp_path), database=database, display=Display())
        met = [first]
        for windows in (stored.numbers["windows"], stored.numbers["windows"] + 1):
            loop.restore(stored.numbers | {"windows": windows})
            met.append(arena.x.copy())
    assert arena.begins.all()
    assert len(np.unique(np.concatenate(met), axis=0)) == 3 * FEW.streams
