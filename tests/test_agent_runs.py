"""Runs of agents: what is recorded, that NaN stops, that options are checked, that every rule runs."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from sabsim.agents import (
    AGENT_TABLES,
    CREDITS,
    AgentConfig,
    AgentLearnerOptions,
    AgentOptimizerOptions,
    AgentRunOptions,
    loop,
    read_agent_config,
    read_env_args,
    train_agent,
)
from sabsim.agents.loop import AgentLoop
from sabsim.agents.recorder import AgentRecorder

from sabsim.errors import NonFiniteError, RunFolderError
from sabsim.runs import RunConfig, RunFolder, load_checkpoint, read_rows, train
from sabsim.runs.folder import read_json
from sabsim.tasks import Copying

SMALL = AgentConfig(
    env="sabsim/MemoryChain-v0",
    env_args={"memory_length": 7},
    learner=AgentLearnerOptions(hidden=8, slots=8, k_top=3),
    run=AgentRunOptions(
        streams=4,
        steps=1200,
        eval_every=400,
        eval_episodes=8,
        checkpoint_every=300,
        record_streams=2,
        record_every=2,
    ),
)


def variant(learner: dict[str, Any] | None = None, run: dict[str, Any] | None = None, **other: Any) -> AgentConfig:
    """``SMALL`` with some options changed."""
    return replace(SMALL, learner=replace(SMALL.learner, **(learner or {})), run=replace(SMALL.run, **(run or {})), **other)


class Breaks(gym.Env[Any, Any]):
    """Shows NaN, or pays it, at a step of its life; ``last`` cuts episodes off, so that a tenth step shows no new one."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(2)

    def __init__(self, *, at: int, what: str) -> None:
        self.at, self.what, self.clock, self.told = at, what, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.told = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        self.told += 1
        bad = np.nan if self.clock == self.at else 0.0
        seen = np.full(2, 0.0 if self.what == "reward" else bad, np.float32)
        over, cut = self.told == 10, self.what == "last"
        return seen, bad if self.what == "reward" else 1.0, over and not cut, over and cut, {}


@pytest.fixture(autouse=True)
def quick_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared here does not need 200 episodes."""
    monkeypatch.setattr(loop, "FINAL_EPISODES", 8)


@pytest.fixture
def breaking() -> Iterator[str]:
    """An environment that breaks, registered while a test runs."""
    gym.register(id="test/Breaks-v0", entry_point=Breaks)
    yield "test/Breaks-v0"
    gym.registry.pop("test/Breaks-v0")


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Of the run's database."""
    return read_rows(path / "run.sqlite", query)


# What is recorded


def test_episodes_and_steps_fit_each_other(tmp_path: Path) -> None:
    train_agent(SMALL, out=tmp_path)
    columns = "stream, episode, first_step, last_step, length"
    episodes = rows(tmp_path, f"SELECT {columns} FROM episodes ORDER BY stream, episode")
    # 300 steps of each stream are 42 whole episodes of 7 steps; two streams are recorded.
    assert len(episodes) == 2 * 42
    assert episodes == [(s, e, 7 * e, 7 * e + 6, 7) for s in range(2) for e in range(42)]
    query = (
        "SELECT count(*), sum(reward), min(position), max(position), max(causal_step), return FROM steps "
        "JOIN episodes USING (stream, episode) GROUP BY stream, episode"
    )
    for count, reward, first, last, causal, total in rows(tmp_path, query):
        assert (count, first, last, causal, reward) == (7, 0, 6, 0, total)
    assert {episode % 2 for (episode,) in rows(tmp_path, "SELECT DISTINCT episode FROM steps")} == {0}
    # The phase is that of what is seen at the step, the causal step that of the reward for its action.
    phases = rows(tmp_path, "SELECT DISTINCT position, phase, causal_step FROM steps ORDER BY position")
    assert phases[0] == (0, "context", None)
    assert phases[6] == (6, "question", 0)
    assert {phase for _, phase, _ in phases[1:6]} == {"wait"}


def test_events_tell_reward_and_td_error_of_their_step(tmp_path: Path) -> None:
    train_agent(variant(run={"record_every": 1}), out=tmp_path)
    query = (
        "SELECT e.kind, e.reward = s.reward, e.td_error = s.td_error, e.episode = s.episode, "
        "e.lag = e.step - e.source_step, e.source_step >= e.step - s.position, e.credit "
        "FROM events e JOIN steps s USING (step, stream)"
    )
    found = rows(tmp_path, query)
    assert len(found) == len(rows(tmp_path, "SELECT id FROM events"))
    assert {kind for kind, *_ in found} == {"replay", "reminding"}
    for kind, reward, td_error, episode, lag, same_episode, credit in found:
        assert reward == td_error == episode == lag == same_episode == 1
        assert (credit is None) == (kind == "reminding")


def test_metrics_and_summary(tmp_path: Path) -> None:
    summary = train_agent(SMALL, out=tmp_path)
    splits = [split for (split,) in rows(tmp_path, "SELECT split FROM metrics ORDER BY id")]
    assert splits == ["evaluation", *["train", "evaluation"] * 3, "final"]
    trained = rows(tmp_path, "SELECT episodes, length, judged, updates FROM metrics WHERE split = 'train'")
    assert sum(episodes for episodes, *_ in trained) == summary["episodes"] == 4 * 42
    assert all(length == 7 and judged == episodes for episodes, length, judged, _ in trained)
    assert [updates for *_, updates in trained] == [20, 40, 60]
    assert summary == read_json(tmp_path / "summary.json")
    assert summary["evaluation"]["episodes"] == summary["evaluation"]["judged"] == 8
    low, high = (summary["evaluation"]["success"][end] for end in ("low", "high"))
    assert 0 <= low <= summary["evaluation"]["success"]["estimate"] <= high <= 1
    assert summary["steps"] == 1200
    assert summary["macrostate_bytes"] > 0 < summary["parameters"]


def test_the_place_is_where_the_step_was_seen(tmp_path: Path) -> None:
    config = variant(run={"record_every": 1}, env="sabsim/TMaze-v0", env_args={})
    train_agent(config, out=tmp_path)
    starts = rows(tmp_path, "SELECT DISTINCT place FROM steps WHERE position = 0")
    env = gym.make("sabsim/TMaze-v0")
    assert starts == [(env.reset(seed=0)[1]["position"],)]
    track = variant(run={"record_every": 1, "steps": 400}, env="sabsim/LinearTrack-v0", env_args={"length": 3})
    train_agent(track, out=tmp_path / "track")
    ((epochs, places),) = rows(tmp_path / "track", "SELECT count(epoch), count(DISTINCT place) FROM steps")
    assert epochs > 0
    assert places == 3


def test_nothing_recorded_is_allowed(tmp_path: Path) -> None:
    train_agent(variant(run={"record_streams": 0}), out=tmp_path)
    for table in ("events", "steps", "episodes"):
        assert rows(tmp_path, f"SELECT * FROM {table}") == []


def test_recording_changes_nothing(tmp_path: Path) -> None:
    """The learner is only looked at."""
    flats = []
    for streams, every in ((0, 1), (4, 1)):
        path = tmp_path / str(streams)
        train_agent(variant(run={"record_streams": streams, "record_every": every}), out=path)
        flats.append(load_checkpoint(RunFolder(path)).states["learner"]["flat"])
    assert torch.equal(*flats)


def test_single_steps_are_looked_at_only_where_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    look = AgentRecorder._look
    monkeypatch.setattr(AgentRecorder, "_look", lambda self, step: (looked.append(step), look(self, step)))
    train_agent(variant(run={"record_streams": 1, "record_every": 10}), out=tmp_path)
    assert len(looked) == 5 * 7  # episodes 0, 10, 20, 30 and 40


@pytest.mark.parametrize("every", [1, 5])
def test_episodes_shorter_than_a_window_are_recorded_whole(every: int, tmp_path: Path) -> None:
    """A window of 11 steps begins up to four episodes of 3."""
    learner, run = {"window": 11, "k_trunc": 11}, {"record_every": every, "steps": 4 * 330}
    train_agent(variant(learner, run, env_args={"memory_length": 3}), out=tmp_path)
    query = "SELECT episode, group_concat(position) FROM steps WHERE stream = 0 GROUP BY episode ORDER BY episode"
    assert rows(tmp_path, query) == [(episode, "0,1,2") for episode in range(0, 110, every)]


# What goes wrong


@pytest.mark.parametrize(("what", "at"), [("observation", 163), ("reward", 163), ("last", 170)])
def test_nan_stops_the_run_and_leaves_it_whole(what: str, at: int, breaking: str, tmp_path: Path) -> None:
    config = variant(
        env=breaking, env_args={"at": at, "what": what}, run={"record_every": 1, "eval_every": 10**6, "record_streams": 1}
    )
    named, begun = what.replace("last", "observation"), (at - 1) // 5 * 5
    message = rf"{named} is not finite in stream 0, in steps {begun} to {begun + 4}; lower --lr.* at 600"
    with pytest.raises(NonFiniteError, match=message):
        train_agent(config, out=tmp_path)
    assert load_checkpoint(RunFolder(tmp_path)).numbers["env_steps"] == 600
    ((count, last),) = rows(tmp_path, "SELECT count(*), max(step) FROM steps")
    assert (count, last) == (begun, begun - 1)
    learner = load_checkpoint(RunFolder(tmp_path)).states["learner"]
    assert all(not v.isnan().any() for v in learner.values() if isinstance(v, torch.Tensor))


def test_nan_in_the_learner_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = AgentLoop._advance

    def poison(self: AgentLoop) -> None:
        if self.step == 50:
            self._agent.learner.parameters["cell.W_x"].fill_(float("nan"))  # type: ignore[attr-defined]
        advance(self)

    monkeypatch.setattr(AgentLoop, "_advance", poison)
    with pytest.raises(NonFiniteError, match=r"is not finite at step 5\d, stream \d; lower --lr"):
        train_agent(SMALL, out=tmp_path)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    train_agent(variant(run={"steps": 20}), out=tmp_path / "agent")
    small = RunConfig(task=Copying(T=5))
    small = replace(
        small,
        learner=replace(small.learner, hidden=8, slots=8),
        run=replace(small.run, budget=4, eval_sequences=4, eval_every=4, streams=4, device="cpu"),
    )
    train(small, out=tmp_path / "task")
    with pytest.raises(RunFolderError, match=r"holds a run of kind 'agent', not 'task'; it belongs to 'sabsim agent'"):
        train(small, out=tmp_path / "agent", resume=True)
    with pytest.raises(RunFolderError, match=r"holds a run of kind 'task', not 'agent'; it belongs to 'sabsim run'"):
        train_agent(SMALL, out=tmp_path / "task", resume=True)


@pytest.mark.parametrize(
    ("schedule", "restarts", "updates"), [("linear", 0, 60), ("cosine", 2, 20), ("inverse", 0, 3000), ("rsqrt", 1, 3000)]
)
def test_how_the_learning_rate_falls_is_filled_in(schedule: str, restarts: int, updates: int) -> None:
    """60 updates of 5 steps; an endless schedule does not know of the budget."""
    wanted = {"lr_schedule": schedule, "restarts": restarts}
    config = replace(variant(run={"steps": 60 * 5 * SMALL.run.streams}), optimizer=AgentOptimizerOptions(**wanted))
    assert config.learner.window == 5
    assert config.resolved().optimizer.decay_updates == updates


def test_a_config_comes_back_from_its_file(tmp_path: Path) -> None:
    config = variant(learner={"credit": "tbptt"}, run={"steps": 20})
    train_agent(config, out=tmp_path)
    stored = read_agent_config(RunFolder(tmp_path))
    assert stored == replace(config.resolved(), run=replace(config.run, backend=stored.run.backend))
    data = read_json(tmp_path / "config.json")
    data["signal"]["gamma"] = 3.0
    with pytest.raises(RunFolderError, match=r"gamma = 3\.0: must be between 0 and 1"):
        AgentConfig.from_json(data, "config.json")
    del data["env"]
    with pytest.raises(RunFolderError, match="the environments or their arguments are missing"):
        AgentConfig.from_json(data, "config.json")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), {}),
        (('{"a": 1, "b": [2]}',), {"a": 1, "b": [2]}),
        (("a=1", "b=two", "c=true", "d=0.5"), {"a": 1, "b": "two", "c": True, "d": 0.5}),
    ],
)
def test_environment_arguments(words: tuple[str, ...], expected: dict[str, Any]) -> None:
    assert read_env_args(words) == expected


@pytest.mark.parametrize("credit", list(CREDITS))
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_every_rule_runs(credit: str, optimizer: str, tmp_path: Path) -> None:
    config = variant(learner={"credit": credit, "longest": 10}, run={"steps": 100})
    config = replace(config, optimizer=replace(config.optimizer, optimizer=optimizer, lr_schedule="inverse"))
    summary = train_agent(config, out=tmp_path)
    assert summary["steps"] == 100
    replays = rows(tmp_path, "SELECT count(*) FROM events WHERE kind = 'replay'")[0][0]
    assert (replays > 0) == (credit == "sab")


@pytest.mark.parametrize("env", ["MiniGrid-DoorKey-5x5-v0", "sabsim/KeyToDoor-v0", "FrozenLake-v1", "Blackjack-v1"])
def test_any_observation(env: str, tmp_path: Path) -> None:
    """Dict with a mission, Dict, Discrete, Tuple."""
    args = {} if env != "sabsim/KeyToDoor-v0" else {"key_steps": 5, "apple_steps": 5, "door_steps": 5}
    if env == "MiniGrid-DoorKey-5x5-v0":
        args = {"max_steps": 20}
    config = variant(env=env, env_args=args, run={"steps": 200, "eval_every": 200, "eval_episodes": 2})
    summary = train_agent(config, out=tmp_path)
    assert summary["steps"] == 200


def test_the_tables_are_documented() -> None:
    text = (Path(__file__).parents[1] / "docs" / "agents.md").read_text()
    for table, columns in AGENT_TABLES.items():
        if table != "events":  # described in docs/run-folder.md
            assert all(f"`{column}`" in text for column in columns), table


def test_the_queries_of_the_documents_work(tmp_path: Path) -> None:
    train_agent(variant(run={"record_every": 1}), out=tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "agents.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL)
    assert queries
    with sqlite3.connect(tmp_path / "run.sqlite") as connection:
        for query in queries:
            assert connection.execute(query).fetchall(), query
    connection.close()


@pytest.mark.parametrize("name", ["config", "train", "watching"])
def test_the_examples_of_docstrings(name: str) -> None:
    module = importlib.import_module(f"sabsim.agents.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_the_summary_is_plain(tmp_path: Path) -> None:
    summary = train_agent(variant(run={"steps": 20}), out=tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "agents.md").read_text()
    assert json.loads(json.dumps(summary)) == summary
    assert all(f"`{key}`" in text for key in summary)
