"""`--record-hidden`: the state of each recorded step, as the learner had it, for every credit rule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sabsim.agents import (
    CREDITS,
    AgentConfig,
    AgentLearnerOptions,
    AgentOptimizerOptions,
    AgentRunOptions,
    SignalOptions,
    load_agent,
    train_agent,
)

from sabsim.runs import LearnerOptions, RunConfig, RunFolder, RunOptions, build, loop, read_rows, train
from sabsim.tasks import Copying

STILL = AgentOptimizerOptions(lr=1e-12)
"""Parameters that stay as they are: those of the checkpoint are those of every step."""
AGENT = AgentConfig(
    env="sabsim/MemoryChain-v0",
    env_args={"memory_length": 4},
    optimizer=STILL,
    run=AgentRunOptions(
        streams=3, steps=300, eval_every=1_000, eval_episodes=1, record_streams=2, record_every=2, record_hidden=True
    ),
)
TASK = RunConfig(
    task=Copying(T=5),
    learner=LearnerOptions(hidden=8, slots=8, k_top=3),
    run=RunOptions(
        streams=3,
        budget=24,
        eval_every=24,
        eval_sequences=4,
        record_streams=2,
        record_every=2,
        record_hidden=True,
        device="cpu",
    ),
)


def hidden(run: Path) -> dict[tuple[int, int], np.ndarray[Any, Any]]:
    """The recorded states by stream and step; each belongs to the row of `steps` with the same `id`."""
    pairs = read_rows(run / "run.sqlite", "SELECT step, stream FROM steps ORDER BY id")
    rows = read_rows(run / "run.sqlite", "SELECT step, stream, h FROM hidden ORDER BY id")
    assert [row[:2] for row in rows] == pairs
    return {(stream, step): np.frombuffer(h, "<f4") for step, stream, h in rows}


@pytest.mark.parametrize("credit", list(CREDITS))
def test_the_value_of_a_step_follows_from_its_state(credit: str, tmp_path: Path) -> None:
    """What reads the state out is linear in all rules but rtu's, and in those that recall also reads the summary."""
    learner = AgentLearnerOptions(hidden=8, slots=8, k_top=3, credit=credit, longest=5 if credit == "bptt" else None)
    train_agent(replace(AGENT, learner=learner), out=tmp_path)
    states = hidden(tmp_path)
    parts, _ = load_agent(RunFolder(tmp_path))
    parameters = {name: value.double().numpy() for name, value in parts.agent.learner.parameters.items()}
    values = read_rows(tmp_path / "run.sqlite", "SELECT stream, step, value FROM steps")
    actions = parts.agent.arena.actions
    h = np.stack([states[stream, step] for stream, step, _ in values]).astype(np.float64)
    wanted = np.array([value for *_, value in values])
    if credit == "rtu":
        assert h.shape[1] == 4 * 8
        features = np.tanh(np.tanh(h) @ parameters["hidden.W"][:, :-1].T + parameters["hidden.W"][:, -1])
        found = features @ parameters["readout.W"][actions, :-1] + parameters["readout.W"][actions, -1]
    else:
        assert h.shape[1] == 8
        found = h @ parameters["readout.W_h"][actions] + parameters["readout.b"][actions]
        # A summary is zero until something is remembered: at the first steps of an episode.
        early = np.array([step % 4 == 0 for _, step, _ in values])
        if credit in ("sab", "no-replay"):
            wanted, found = wanted[early], found[early]
    assert len(wanted) > 10
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert np.abs(wanted).max() > 1e-4


def test_states_of_a_task_are_the_learners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a learner of the same configuration that is stepped by hand."""
    monkeypatch.setattr(loop, "FINAL_SEQUENCES", 4)
    train(TASK, out=tmp_path)
    states = hidden(tmp_path)
    parts = build(TASK)
    seen = 0
    for clock in range(max(step for _, step in states) + 1):
        step = parts.stream.next()
        if parts.stream.begins:
            parts.learner.reset(step.first)
        score = parts.stream.score(parts.learner.step(step.x), step)
        for stream in range(2):
            if (stream, clock) in states:
                assert torch.equal(parts.learner.hidden[stream], torch.from_numpy(states[stream, clock].copy()))
                seen += 1
        parts.learner.learn(score.dL_dy, score.loss)
    assert seen == len(states) > 50


def test_traces_and_no_recording(tmp_path: Path) -> None:
    run = replace(AGENT.run, streams=1, record_streams=1, steps=60)
    learner = AgentLearnerOptions(hidden=8, slots=8, k_top=3, window=1, k_trunc=5)
    train_agent(replace(AGENT, run=run, learner=learner, signal=SignalOptions(traces=True)), out=tmp_path / "traces")
    assert len(hidden(tmp_path / "traces")) > 20
    train_agent(replace(AGENT, run=replace(AGENT.run, record_hidden=False)), out=tmp_path / "without")
    tables = read_rows(tmp_path / "without" / "run.sqlite", "SELECT name FROM sqlite_master WHERE type = 'table'")
    assert ("hidden",) not in tables


def test_recording_changes_nothing_else(tmp_path: Path) -> None:
    for name, wanted in (("with", True), ("without", False)):
        train_agent(replace(AGENT, run=replace(AGENT.run, record_hidden=wanted)), out=tmp_path / name)
    for table in ("steps", "events", "episodes"):
        query = f"SELECT * FROM {table} ORDER BY id"
        assert read_rows(tmp_path / "with" / "run.sqlite", query) == read_rows(tmp_path / "without" / "run.sqlite", query)


def test_a_folder_that_does_not_name_the_option_goes_on(tmp_path: Path) -> None:
    """Folders of this format that were made before there was the option."""
    train_agent(replace(AGENT, run=replace(AGENT.run, record_hidden=False)), out=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["run"]["record_hidden"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert train_agent(None, out=tmp_path, resume=True)["steps"] == 300
    assert not load_agent(RunFolder(tmp_path))[0].config.run.record_hidden
