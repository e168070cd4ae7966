"""An agent that begins as what another run has learned: what is taken over, what is not, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sabsim.agents import (
    AgentConfig,
    AgentLearnerOptions,
    AgentOptimizerOptions,
    AgentRunOptions,
    SignalOptions,
    build_agent,
    train_agent,
)
from sabsim.agents.train import begin_as

from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs import RunFolder, load_checkpoint, read_rows

SMALL = AgentConfig(
    env="sabsim/LinearTrack-v0",
    env_args={"length": 4, "session": "equal", "laps_per_epoch": 4},
    learner=AgentLearnerOptions(hidden=8, slots=6, k_top=3, replay_threshold=0.5),
    signal=SignalOptions(scale_reward=True),
    run=AgentRunOptions(streams=4, steps=600, eval_every=10_000, eval_episodes=1, record_streams=1, record_every=1),
)


@pytest.fixture(autouse=True)
def quick_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    from sabsim.agents import loop

    monkeypatch.setattr(loop, "FINAL_EPISODES", 1)


def after(folder: Path, **options: Any) -> AgentConfig:
    """A run on other sessions that begins as the one in ``folder``."""
    run = replace(SMALL.run, begin_from=str(folder), streams=1, steps=50)
    return replace(SMALL, env_args=dict(SMALL.env_args) | {"session": "4x"}, run=run, **options)


def test_it_begins_with_what_was_learned_and_a_fresh_memory(tmp_path: Path) -> None:
    train_agent(SMALL, out=tmp_path / "before")
    saved = load_checkpoint(RunFolder(tmp_path / "before"))
    learned, fresh = saved.states["learner"], build_agent(after(tmp_path / "before"))
    assert not torch.equal(fresh.agent.learner.state_dict()["flat"], learned["flat"])
    begin_as(fresh)
    state = {name: torch.as_tensor(value) for name, value in fresh.agent.learner.state_dict().items()}
    same = {name for name in state if torch.equal(state[name], torch.as_tensor(learned[name]))}
    assert {"flat", "learner.usual_credit", "usual.mean"} | {n for n in state if n.startswith("optimizer.")} <= same
    assert int(state["optimizer.updates"]) > 0
    assert int((state["macrostate.stamp"] >= 0).sum()) == 0
    mine, theirs = fresh.agent.state(), saved.numbers["agent"]
    for name in ("see", "largest", "square", "windows"):
        assert mine[name] == theirs[name], name
    assert mine["scale"]["running"] == theirs["scale"]["running"]
    assert mine["random"] != theirs["random"]


def test_it_goes_on_after_a_kill(tmp_path: Path, killed_at: Any) -> None:
    """Killed before the first checkpoint or after it: what the run began with is not lost, nor taken twice."""
    from sabsim.agents import loop

    train_agent(SMALL, out=tmp_path / "before")
    config = after(tmp_path / "before")
    config = replace(config, run=replace(config.run, checkpoint_every=20))
    whole = train_agent(config, out=tmp_path / "whole")
    for windows in (1, 7):
        with killed_at(loop.AgentLoop, "_advance", windows):
            train_agent(config, out=tmp_path / "killed", resume=True)
    resumed = train_agent(config, out=tmp_path / "killed", resume=True)
    assert resumed["evaluation"] == whole["evaluation"]
    one, other = (load_checkpoint(RunFolder(tmp_path / name)).states["learner"] for name in ("whole", "killed"))
    assert all(torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])) for name in one)


@pytest.mark.parametrize("window", [1, 5])
def test_an_event_tells_when_it_was_replayed(window: int, tmp_path: Path) -> None:
    learner = replace(SMALL.learner, window=window, k_trunc=5)
    train_agent(replace(SMALL, learner=learner), out=tmp_path)
    found = read_rows(tmp_path / "run.sqlite", "SELECT step, update_step FROM events WHERE kind = 'replay'")
    assert len(found) > 10
    assert all(step <= update < step + 5 and (update + 1) % window == 0 for step, update in found)
    assert any(step < update for step, update in found)
    assert not read_rows(tmp_path / "run.sqlite", "SELECT 1 FROM events WHERE kind = 'reminding' AND update_step NOT NULL")


def test_what_cannot_be_begun_from_is_refused(tmp_path: Path) -> None:
    train_agent(SMALL, out=tmp_path / "before")
    with pytest.raises(RunFolderError, match="nowhere"):
        train_agent(after(tmp_path / "nowhere"), out=tmp_path / "run")
    larger = replace(SMALL.learner, hidden=9)
    with pytest.raises(ConfigError, match=r"begin_from = .*before.*of another kind or size \(state of another learner"):
        train_agent(after(tmp_path / "before", learner=larger), out=tmp_path / "run")
    (tmp_path / "before" / "checkpoint.safetensors").unlink()
    with pytest.raises(RunFolderError, match="no checkpoint yet, from which to begin"):
        train_agent(after(tmp_path / "before"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("option", "here", "there"), [("normalise", False, True), ("scale_reward", False, True)])
def test_another_scale_is_refused(option: str, here: bool, there: bool, tmp_path: Path) -> None:
    """Parameters that learned from scaled observations or rewards mean nothing for raw ones."""
    train_agent(SMALL, out=tmp_path / "before")
    signal = replace(SMALL.signal, **{option: here})
    with pytest.raises(ConfigError, match=f"{option} = {here}: it is {there} in begin_from = .*before"):
        train_agent(after(tmp_path / "before", signal=signal), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_agent_with_traces_takes_over_its_optimiser(tmp_path: Path) -> None:
    learner = replace(SMALL.learner, window=1, k_trunc=1)
    signal = replace(SMALL.signal, traces=True)
    traced = replace(SMALL, learner=learner, signal=signal, run=replace(SMALL.run, streams=1, steps=200))
    train_agent(replace(traced, optimizer=AgentOptimizerOptions(optimizer="adam")), out=tmp_path / "before")
    theirs = load_checkpoint(RunFolder(tmp_path / "before")).numbers["agent"]
    for optimizer in ("adam", "sgd"):
        options = {"learner": learner, "signal": signal, "optimizer": AgentOptimizerOptions(optimizer=optimizer)}
        parts = build_agent(after(tmp_path / "before", **options))
        begin_as(parts)
        mine = parts.agent.state()
        assert (mine["moments"] == theirs["moments"]) == (optimizer == "adam")
        assert not any(mine["trace"])


def test_another_optimiser_begins_anew(tmp_path: Path) -> None:
    train_agent(SMALL, out=tmp_path / "before")
    config = after(tmp_path / "before", optimizer=AgentOptimizerOptions(optimizer="sgd"))
    parts = build_agent(config)
    begin_as(parts)
    assert torch.equal(
        parts.agent.learner.state_dict()["flat"], load_checkpoint(RunFolder(tmp_path / "before")).states["learner"]["flat"]
    )
