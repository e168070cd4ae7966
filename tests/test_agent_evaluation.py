"""Evaluation of agents: each episode once, nothing of it touches training, and what it says of a task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sabsim.agents import (
    AgentConfig,
    AgentLearnerOptions,
    AgentRunOptions,
    SignalOptions,
    build_agent,
    evaluate,
    evaluation,
    loop,
    train_agent,
)
from sabsim.agents.evaluation import Episode, Evaluation, advice
from sabsim.agents.success import succeeded

from sabsim.errors import ConfigError
from sabsim.runs import RunFolder, load_checkpoint

SMALL = AgentConfig(
    env="sabsim/MemoryChain-v0",
    env_args={"memory_length": 7},
    learner=AgentLearnerOptions(hidden=8, slots=8, k_top=3),
    run=AgentRunOptions(streams=4, steps=1200, eval_every=400, eval_episodes=8, record_streams=0),
)


@pytest.fixture(autouse=True)
def quick_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at here does not need 200 episodes."""
    monkeypatch.setattr(loop, "FINAL_EPISODES", 8)


def variant(run: dict[str, Any] | None = None, **other: Any) -> AgentConfig:
    """``SMALL`` with some options changed."""
    return replace(SMALL, run=replace(SMALL.run, **(run or {})), **other)


def test_evaluation_touches_nothing(tmp_path: Path) -> None:
    """A run that evaluates after every window has the parameters of one that never does."""
    states = []
    for every in (20, 10**9):
        torch.manual_seed(every)
        train_agent(variant(run={"eval_every": every, "steps": 400}), out=tmp_path / str(every))
        checkpoint = load_checkpoint(RunFolder(tmp_path / str(every)))
        states.append((checkpoint.states["learner"], checkpoint.numbers))
    for name, value in states[0][0].items():
        again = states[1][0][name]
        assert torch.equal(value, again) if isinstance(value, torch.Tensor) else value == again, name
    for part in ("agent", "arena", "tally", "episodes"):
        assert states[0][1][part] == states[1][1][part]


def test_evaluation_has_a_seed_for_each_episode() -> None:
    parts = build_agent(SMALL)
    played = [
        evaluate(parts.agent, parts.config, parts.make, episodes=episodes, seed=5_000_000_000) for episodes in (3, 90)
    ]
    assert [episode.seed - 5_000_000_000 for episode in played[1].episodes] == list(range(90))
    assert all(episode.length == 7 for episode in played[1].episodes)
    again = evaluate(parts.agent, parts.config, parts.make, episodes=90, seed=5_000_000_000)
    assert again == played[1]
    assert {e.seed for e in played[0].worst(2)} <= {5_000_000_000, 5_000_000_001, 5_000_000_002}


def test_short_episodes_are_not_counted_more_often() -> None:
    """Each seed once, although the streams with short episodes would be first."""
    config = variant(env="CartPole-v1", env_args={})
    parts = build_agent(config)
    found = evaluate(parts.agent, config, parts.make, episodes=100, seed=7)
    assert sorted(e.seed for e in found.episodes) == list(range(7, 107))
    assert found.success is None
    assert found.measure == found.returns.mean()
    assert found.worst(1)[0].total == found.returns.min()


def episodes(*played: tuple[float, int]) -> Evaluation:
    return Evaluation([Episode(seed, total, length, None) for seed, (total, length) in enumerate(played)])


@pytest.mark.parametrize(
    ("played", "gamma", "worth"),
    [
        (episodes((20, 20), (30, 30)), 0.99, 25.0),  # an episode's end is nearer than what gamma lets be seen
        (episodes((-500, 500)), 0.99, -100.0),
        (episodes((-500, 500)), 1.0, -500.0),
        (episodes((68, 5000)), 0.99, 1.36),  # many rewards, but few within reach
        (episodes((1, 100), (-1, 100)), 0.0, 0.0),
    ],
)
def test_what_lies_ahead(played: Evaluation, gamma: float, worth: float) -> None:
    assert played.worth(gamma) == pytest.approx(worth)
    words = advice(played, SignalOptions(gamma=gamma))
    assert (words is not None) == (abs(worth) > 10)
    assert words is None or f"is worth {worth:.0f} on average" in words
    assert advice(played, SignalOptions(gamma=gamma, scale_reward=True)) is None


@pytest.mark.parametrize(
    ("env", "scale", "told"), [("CartPole-v1", False, 1), ("CartPole-v1", True, 0), (SMALL.env, False, 0)]
)
def test_large_rewards_are_told_before_training(env: str, scale: bool, told: int, tmp_path: Path, notes: Any) -> None:
    args = SMALL.env_args if env == SMALL.env else {}
    config = variant(env=env, env_args=args, signal=SignalOptions(scale_reward=scale))
    train_agent(config, out=tmp_path, display=notes)
    assert sum("--scale-reward mends that" in text for text in notes.said) == told


@pytest.mark.parametrize(("credit", "gamma", "told"), [("recall", 0.9, 1), ("recall", 0.5, 0), ("none", 0.9, 0)])
def test_action_credit_that_will_send_nothing_is_told(
    credit: str, gamma: float, told: int, tmp_path: Path, notes: Any
) -> None:
    """Episodes have 7 steps; the lags begin at 10 and at 2."""
    learner = replace(SMALL.learner, action_credit=credit)
    train_agent(variant(learner=learner, signal=SignalOptions(gamma=gamma)), out=tmp_path, display=notes)
    assert sum("longer than 7: it will send nothing" in text for text in notes.said) == told


def test_a_trial_at_the_cut_is_not_the_episode() -> None:
    """DelayedMatch judges decisions and never ends by itself; a chain ends with its only one."""
    told = {"terminated": False, "reward": 1.0, "pays": False}
    assert succeeded({"correct": 1}, **told) is None
    assert succeeded({"correct": 1}, **told | {"terminated": True}) is True
    assert succeeded({"success": False, "correct": 1}, **told) is False
    config = variant(env="sabsim/DelayedMatch-v0", env_args={"max_episode_steps": 40})
    parts = build_agent(config)
    found = evaluate(parts.agent, config, parts.make, episodes=32, seed=7)
    assert found.judged == 0
    assert found.measure == found.returns.mean()


def test_training_and_evaluation_seeds_are_apart() -> None:
    config = variant(run={"seed": 3, "streams": 32})
    training = range(config.training_seed, config.training_seed + 32)
    other = variant(run={"seed": 4, "streams": 32})
    assert not set(training) & set(range(other.training_seed, other.training_seed + 32))
    assert config.evaluation_seed > max(training)
    assert config.seed_at(10**15) + 32 <= 10**9
    with pytest.raises(ConfigError, match="seed = 31250000: must be at most 31249999 with streams = 32"):
        variant(run={"seed": 31_250_000, "streams": 32})


def test_an_episode_without_an_end_cannot_be_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "LONGEST", 50)
    config = variant(env_args={"memory_length": 200})
    parts = build_agent(config)
    with pytest.raises(ConfigError, match=r"no episode has ended in 50 steps.*max_episode_steps"):
        evaluate(parts.agent, config, parts.make, episodes=2, seed=0)


def test_stop_at(tmp_path: Path) -> None:
    summary = train_agent(variant(run={"stop_at": 0.0}), out=tmp_path)
    assert summary["stopped_early"]
    assert summary["steps"] == 0
    assert not train_agent(variant(run={"stop_at": 1.01, "steps": 20}), out=tmp_path / "b")["stopped_early"]


def test_a_lucky_evaluation_does_not_stop_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The goal must be reached in as many episodes as the final evaluation has."""
    monkeypatch.setattr(loop, "FINAL_EPISODES", 9)

    def lucky(*_: Any, episodes: int, seed: int) -> Evaluation:
        solved = episodes == SMALL.run.eval_episodes
        return Evaluation([Episode(seed, float(solved), 7, solved)])

    monkeypatch.setattr(loop, "evaluate", lucky)
    summary = train_agent(variant(run={"stop_at": 1.0, "steps": 40}), out=tmp_path)
    assert not summary["stopped_early"]
    assert summary["steps"] == 40
