"""Killed and resumed, an agent's run must end like one that never was: same rows, parameters, environments, summary."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from sabsim.agents import (
    ActorCritic,
    Agent,
    AgentConfig,
    AgentLearnerOptions,
    AgentOptimizerOptions,
    AgentRunOptions,
    SignalOptions,
    build_agent,
    load_agent,
    loop,
    train_agent,
)
from sabsim.agents.arena import Arena
from sabsim.agents.environments import maker

from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs import RunFolder, checkpoint, load_checkpoint, read_rows

KilledAt = Callable[[Any, str, int], AbstractContextManager[None]]
SameRun = Callable[..., None]
SMALL = AgentConfig(
    env="sabsim/TMaze-v0",
    learner=AgentLearnerOptions(hidden=8, slots=8, k_top=3),
    run=AgentRunOptions(
        streams=3,
        steps=600,
        eval_every=200,
        eval_episodes=4,
        checkpoint_every=110,
        record_streams=2,
        record_every=2,
        record_hidden=True,
    ),
)


@pytest.fixture(autouse=True)
def quick_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared here does not need 200 episodes."""
    monkeypatch.setattr(loop, "FINAL_EPISODES", 4)


@pytest.mark.parametrize(
    ("env", "args", "learner", "signal"),
    [
        ("sabsim/TMaze-v0", {}, {}, {}),
        ("sabsim/LinearTrack-v0", {"length": 3, "laps_per_epoch": 5}, {"window": 4}, {"scale_reward": True}),
        ("sabsim/MemoryChain-v0", {"memory_length": 9}, {"retention": "reservoir", "cell": "gru"}, {"normalise": False}),
        ("MiniGrid-DoorKey-5x5-v0", {"max_steps": 30}, {"explore": 5.0}, {}),
        ("MiniGrid-DoorKey-5x5-v0", {"max_steps": 30}, {"encoder": "cnn", "features": 5}, {}),
        ("sabsim/Exam-v0", {"delay": 12}, {"action_credit": "recall"}, {"gamma": 0.8}),
        ("sabsim/Exam-v0", {"delay": 9}, {"action_credit": "random", "window": 3, "k_trunc": 5}, {"gamma": 0.8}),
        ("sabsim/MemoryChain-v0", {"memory_length": 7}, {"credit": "rtu"}, {}),
    ],
)
def test_several_kills_change_nothing(
    env: str,
    args: dict[str, Any],
    learner: dict[str, Any],
    signal: dict[str, Any],
    tmp_path: Path,
    killed_at: KilledAt,
    same_run: SameRun,
) -> None:
    config = replace(
        SMALL,
        env=env,
        env_args=args,
        learner=replace(SMALL.learner, **learner),
        signal=replace(SMALL.signal, **signal),
    )
    train_agent(config, out=tmp_path / "whole")
    for windows in (3, 19, 12):
        with killed_at(loop.AgentLoop, "_advance", windows):
            train_agent(config, out=tmp_path / "killed", resume=True)
    train_agent(None, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed", empty=() if config.learner.credit == "sab" else {"events"})


@pytest.mark.parametrize("optimizer", ["obgd", "adam"])
def test_an_agent_with_traces_goes_on(optimizer: str, tmp_path: Path, killed_at: KilledAt, same_run: SameRun) -> None:
    config = replace(
        SMALL,
        learner=replace(SMALL.learner, window=1, k_trunc=4),
        signal=SignalOptions(traces=True),
        optimizer=AgentOptimizerOptions(optimizer=optimizer),
        run=replace(SMALL.run, streams=1, steps=300, eval_every=100, record_streams=1),
    )
    train_agent(config, out=tmp_path / "whole")
    with killed_at(loop.AgentLoop, "_advance", 170):
        train_agent(config, out=tmp_path / "killed")
    train_agent(None, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [
        (checkpoint, "write_bytes", 1),  # before the first checkpoint
        (checkpoint, "write_json", 1),  # between the first checkpoint and its sidecar
        (checkpoint, "write_bytes", 3),  # rows committed, checkpoint not yet
        (loop.AgentLoop, "_finish", 1),  # trained, but no summary
        (loop, "write_json", 1),  # final rows, but no summary
    ],
)
def test_a_kill_between_any_two_files_changes_nothing(
    owner: Any, name: str, calls: int, tmp_path: Path, killed_at: KilledAt, same_run: SameRun
) -> None:
    train_agent(SMALL, out=tmp_path / "whole")
    with killed_at(owner, name, calls):
        train_agent(SMALL, out=tmp_path / "killed")
    train_agent(SMALL, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_kill_9_at_a_random_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_twice: Callable[[str, Path, float], None], same_run: SameRun
) -> None:
    monkeypatch.setattr(loop, "FINAL_EPISODES", 200)  # as in the other process, should it come to its end
    config = replace(SMALL, run=replace(SMALL.run, steps=6000, eval_every=2000))
    train_agent(config, out=tmp_path / "whole")
    options = "--hidden 8 --slots 8 --k-top 3 --streams 3 --steps 6000 --eval-every 2000 --eval-episodes 4"
    options += " --checkpoint-every 110 --record-streams 2 --record-every 2 --record-hidden"
    killed_twice(f"agent sabsim/TMaze-v0 {options}", tmp_path / "killed", 3)
    train_agent(None, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_interrupt_saves_a_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "sabsim", "agent", "sabsim/MemoryChain-v0", "--hidden", "8", "--steps", "100000000"]
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # the evaluation before the first window
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("sabsim: stopped at ")
    assert errors.count("\n") == 1
    assert load_checkpoint(RunFolder(out)).numbers["env_steps"] > 0


def test_more_steps_go_on_like_one_run(tmp_path: Path, notes: Any, same_run: SameRun) -> None:
    short = replace(SMALL, run=replace(SMALL.run, steps=300))
    summary = train_agent(short, out=tmp_path / "run")
    assert train_agent(short, out=tmp_path / "run", resume=True, display=notes) == summary
    assert "is finished at 300 steps; a larger --steps goes on" in notes.said[0]
    train_agent(SMALL, out=tmp_path / "run", resume=True)
    whole = train_agent(SMALL, out=tmp_path / "whole")
    assert whole["run"]["steps"] == 600
    same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("lost", ["run.sqlite", "checkpoint.safetensors"])
def test_a_refused_resume_leaves_the_folder_as_it_was(lost: str, tmp_path: Path) -> None:
    short, longer = (replace(SMALL, run=replace(SMALL.run, steps=steps)) for steps in (60, 120))
    train_agent(short, out=tmp_path)
    (tmp_path / lost).unlink()
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".json"}
    with pytest.raises(RunFolderError):
        train_agent(longer, out=tmp_path, resume=True)
    assert "summary.json" in kept
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept


def test_resume_refuses_other_options(tmp_path: Path) -> None:
    train_agent(SMALL, out=tmp_path)
    with pytest.raises(ConfigError, match=r"hidden = 16: the run in .* has 8"):
        train_agent(replace(SMALL, learner=replace(SMALL.learner, hidden=16)), out=tmp_path, resume=True)
    with pytest.raises(ConfigError, match=r"lambda = 0\.5: the run in .* has 0\.95"):
        train_agent(replace(SMALL, signal=replace(SMALL.signal, decay=0.5)), out=tmp_path, resume=True)
    with pytest.raises(RunFolderError, match=r"holds a run of env 'sabsim/TMaze-v0', not 'sabsim/Exam-v0'"):
        train_agent(replace(SMALL, env="sabsim/Exam-v0"), out=tmp_path, resume=True)
    with pytest.raises(ConfigError, match=r"steps = 10: .* has 600 steps"):
        train_agent(replace(SMALL, run=replace(SMALL.run, steps=10)), out=tmp_path, resume=True)
    with pytest.raises(ConfigError, match="holds a run; give another --out, or --resume"):
        train_agent(SMALL, out=tmp_path)


def test_an_environment_that_cannot_be_saved_goes_on_with_new_episodes(
    tmp_path: Path, killed_at: KilledAt, notes: Any
) -> None:
    config = replace(SMALL, env="CartPole-v1")
    with killed_at(loop.AgentLoop, "_advance", 30):
        train_agent(config, out=tmp_path, display=notes)
    assert [text for text in notes.said if "cannot be saved" in text] == [
        "CartPoleEnv cannot be saved: it has no get_state; resumed, this run would go on with new episodes"
    ]
    assert train_agent(config, out=tmp_path, resume=True)["steps"] == 600
    query = "SELECT episode, first_step, last_step, length FROM episodes WHERE stream = 0 ORDER BY id"
    rows = read_rows(tmp_path / "run.sqlite", query)
    assert all(last - first + 1 == length for _, first, last, length in rows)
    # The one that was under way at the kill is left out, and no step is in two.
    assert [episode for episode, *_ in rows] == sorted({episode for episode, *_ in rows})
    assert all(after[1] > before[2] for before, after in pairwise(rows))


def test_the_arena_and_the_agent_save_everything() -> None:
    """From a saved moment on, two agents that were apart do the same: actions, noise, scales, environments."""

    def fresh(seed: int) -> Agent:
        arena = Arena(maker("MiniGrid-MemoryS7-v0", {}), streams=2, seed=seed)
        config = replace(SMALL, env="MiniGrid-MemoryS7-v0", run=replace(SMALL.run, streams=2, record_streams=0))
        learner = build_agent(config).agent.learner
        return Agent(arena, learner, ActorCritic(scale_reward=True), window=5, seed=seed)

    one, other = fresh(0), fresh(1)
    for _ in range(13):
        one.window()
    for _ in range(4):
        other.window()
    other.learner.load_state_dict(one.learner.state_dict())
    other.restore(one.state())
    other.arena.restore(one.arena.state())
    for _ in range(40):
        mine, theirs = one.window(), other.window()
        for name in ("begins", "action", "reward", "terminated", "truncated", "value", "td_error", "entropy"):
            assert (getattr(mine, name) == getattr(theirs, name)).all(), name
    assert one.state() == other.state()
    assert one.state()["see"]["count"] == 53 * 10


def test_an_agent_is_loaded_as_it_was(tmp_path: Path) -> None:
    train_agent(SMALL, out=tmp_path)
    parts, stored = load_agent(RunFolder(tmp_path))
    assert torch.equal(parts.agent.learner.flat, stored.states["learner"]["flat"])  # type: ignore[attr-defined, arg-type]
    assert parts.agent.state() == stored.numbers["agent"]
    (tmp_path / "checkpoint.safetensors").unlink()
    with pytest.raises(RunFolderError, match="no checkpoint yet; 'sabsim agent"):
        load_agent(RunFolder(tmp_path))
