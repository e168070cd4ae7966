"""The contract of an agent's state: what an episode's end resets, and what a value looks beyond."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from sabsim.agents import ActorCritic, Agent, AgentConfig, AgentLearnerOptions, AgentRunOptions, Arena, Sizes
from sabsim.agents.credits import build_learner
from sabsim.agents.normalise import RewardScale
from torch import Tensor

from sabsim import StreamingLearner

GAMMA, BIG = 0.5, 1e3


class Counts(gym.Env[NDArray[np.float32], Any]):
    """Shows the steps since the episode began, pays them, and ends after ``length``, terminated or cut off."""

    action_space = Discrete(2)
    observation_space = Box(0, 100, (1,), np.float32)

    def __init__(self, length: int, *, cut: bool = False) -> None:
        self.length, self.cut, self.clock = length, cut, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.clock = 0
        return np.array([0], np.float32), {"position": 0}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.clock += 1
        over = self.clock == self.length
        seen = np.array([self.clock], np.float32)
        return seen, float(self.clock), over and not self.cut, over and self.cut, {"position": self.clock}


def arena_of(*environments: gym.Env[Any, Any]) -> Arena:
    """Of these environments, one a stream; only the observation is seen."""
    waiting = iter(environments)
    return Arena(lambda: next(waiting), streams=len(environments), seed=0, sees_action=False, sees_reward=False)


def learner_for(arena: Arena, credit: str = "sab", window: int = 3) -> StreamingLearner:
    """A small learner of its own; in torch, whose state is plain to see."""
    config = AgentConfig(
        env="sabsim/MemoryChain-v0",
        learner=AgentLearnerOptions(credit=credit, hidden=6, slots=8, k_top=3, window=window, input_scale=0.5),
        run=AgentRunOptions(streams=arena.streams, record_streams=0, backend="torch"),
    )
    learner = build_learner(config, Sizes(arena.size, arena.actions + 1))
    assert isinstance(learner, StreamingLearner)
    return learner


# Resets


def test_an_episodes_end_resets_exactly_that_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = arena_of(Counts(4), Counts(7), Counts(5))
    learner = learner_for(arena)
    told: list[list[bool]] = []
    reset = learner.reset
    monkeypatch.setattr(learner, "reset", lambda done: (told.append(done.tolist()), reset(done)))
    agent = Agent(arena, learner, ActorCritic(), window=3, seed=0)
    for _ in range(4):
        agent.window()
    expected = [[t % length == 0 for length in (4, 7, 5)] for t in range(12)]
    assert told == [now for now in expected if any(now)]


def test_an_episodes_end_leaves_the_memory_of_the_others() -> None:
    arena = arena_of(Counts(3), Counts(100))
    learner = learner_for(arena)
    agent = Agent(arena, learner, ActorCritic(), window=3, seed=0)
    for _ in range(4):
        agent.window()
        learner.reset(torch.from_numpy(arena.begins))  # the first stream's episode is over with each window
    learner.step(torch.zeros(2, 1))
    read = learner.read
    assert read is not None
    assert (read.weight[0] == 0).all()
    assert (read.weight[1] > 0).any()


def outputs_after_a_poisoned_episode(poison: float, *, skip_reset: bool, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the learner puts out in stream 0's second episode, after the first was given ``poison`` to see."""
    arena = arena_of(Counts(6), Counts(100))
    learner = learner_for(arena)
    if skip_reset:
        monkeypatch.setattr(learner, "reset", lambda done: None)
    # No update may carry anything over: the parameters are shared.
    learner.learning = False
    agent = Agent(arena, learner, ActorCritic(normalise=False), window=3, seed=0)
    outputs = []
    step = learner.step

    def watched(x: Tensor) -> Tensor:
        seen = x.clone()
        if len(outputs) == 2:
            seen[0] = poison
        outputs.append(step(seen).clone())
        return outputs[-1]

    monkeypatch.setattr(learner, "step", watched)
    for _ in range(4):
        agent.window()
    return torch.stack(outputs)[6:, 0]


@pytest.mark.parametrize("skip_reset", [False, True])
def test_nothing_of_an_episode_reaches_the_next(skip_reset: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large number seen in one episode is in its hidden state and its microstates; the next episode must not tell.

    With the reset skipped it does: the test would notice a leak.
    """
    second = [
        outputs_after_a_poisoned_episode(poison, skip_reset=skip_reset, monkeypatch=monkeypatch) for poison in (0.0, BIG)
    ]
    assert torch.equal(*second) != skip_reset


def values_around_a_plant(room: str | None) -> list[NDArray[Any]]:
    """Values of both streams before and after stream 0's episode ends; a large number is planted in its state before."""
    arena = arena_of(Counts(6), Counts(100))
    learner = learner_for(arena)
    learner.learning = False
    agent = Agent(arena, learner, ActorCritic(normalise=False), window=3, seed=0)
    agent.window()
    learner.reset(torch.tensor([False, False]))  # the finished window is offered to the macrostate
    if room == "hidden state":
        learner.window.rings["xh"][:, 0, 1:] = BIG
        learner.window.rings["c"][:, 0] = BIG
    elif room == "macrostate":
        learner.macrostate.arrays["m"].view(2, -1, learner.network.hidden)[0] = BIG
    values = [agent.window().value]
    assert arena.begins.tolist() == [True, False]
    return [*values, agent.window().value]


@pytest.mark.parametrize("room", ["hidden state", "macrostate"])
def test_a_planted_value_does_not_outlive_the_episode(room: str) -> None:
    """It is felt while the episode lasts, and never in the other stream."""
    planted, clean = values_around_a_plant(room), values_around_a_plant(None)
    assert (planted[0][:, 0] != clean[0][:, 0]).any()
    assert (planted[0][:, 1] == clean[0][:, 1]).all()
    assert (planted[1] == clean[1]).all()


# Values


class Fixed:
    """A learner whose value of a state is the number that is shown; it keeps the signals it was given."""

    streams = 1
    read = None
    device = torch.device("cpu")
    network = SimpleNamespace(d_out=3)

    def __init__(self) -> None:
        self.loss: list[Tensor] = []

    def reset(self, done: Tensor) -> None:
        """Nothing to forget."""

    def step(self, x: Tensor) -> Tensor:
        return torch.cat([torch.zeros(len(x), 2), x[:, :1]], 1)

    peek = step

    def learn_block(self, dL_dy: Tensor, loss: Tensor | None = None) -> None:
        assert loss is not None
        self.loss.append(loss)


@pytest.mark.parametrize("cut", [False, True])
def test_the_value_looks_through_truncation_but_not_through_termination(cut: bool) -> None:
    """TD error: r + gamma V(next) - V, where the next state of a cut-off episode is its last observation.

    Written out: states 0, 1, 2 of an episode of 3 steps, V(s) = s, r = 1, 2, 3, and V(last) = 3 if it was cut off.
    """
    arena = arena_of(Counts(3, cut=cut))
    how = ActorCritic(gamma=GAMMA, normalise=False, scale_advantage=False, entropy=0.0)
    learner: Any = Fixed()
    played = Agent(arena, learner, how, window=4, seed=0).window()
    expected = [1 + GAMMA * 1 - 0, 2 + GAMMA * 2 - 1, 3 + (GAMMA * 3 if cut else 0) - 2, 1 + GAMMA * 1 - 0]
    assert np.allclose(played.td_error[:, 0], expected)
    assert np.allclose(learner.loss[0][:, 0], np.abs(expected))
    assert played.truncated[:, 0].tolist() == [False, False, cut, False]
    assert played.terminated[:, 0].tolist() == [False, False, not cut, False]
    assert played.begins[:, 0].tolist() == [True, False, False, True]
    # The reward is told as the environment gave it.
    assert played.reward[:, 0].tolist() == [1, 2, 3, 1]


def agent_of_fixed(*environments: gym.Env[Any, Any]) -> Agent:
    """Its value of a state is the number that is shown, and its policy even."""
    learner: Any = Fixed()
    return Agent(arena_of(*environments), learner, ActorCritic(gamma=GAMMA, normalise=False), window=4, seed=0)


def test_only_the_stream_that_was_cut_off_looks_beyond_its_end() -> None:
    """The other, whose episodes have 2 steps, is in the midst of one then."""
    played = agent_of_fixed(Counts(3, cut=True), Counts(2)).window()
    assert np.allclose(played.td_error[:, 0], [1 + GAMMA, 2 + 2 * GAMMA - 1, 3 + 3 * GAMMA - 2, 1 + GAMMA])
    assert np.allclose(played.td_error[:, 1], [1 + GAMMA, 2 - 1, 1 + GAMMA, 2 - 1])


def test_advantages_are_measured_by_the_largest_mean_square_so_far() -> None:
    agent, square, largest = agent_of_fixed(Counts(8)), [], []
    for _ in range(6):
        agent.window()
        square.append(agent.state()["square"])
        largest.append(agent.state()["largest"])
    assert min(np.diff(square)) < 0
    assert largest == np.maximum.accumulate(square).tolist()


def test_the_entropy_of_two_even_actions_is_log_2() -> None:
    assert np.allclose(agent_of_fixed(Counts(8)).window().entropy, np.log(2))


def test_the_scale_of_rewards_forgets_the_sum_of_an_episode_that_is_over() -> None:
    scale = RewardScale(1, GAMMA)
    scaled = [scale(np.ones(1), np.array([over]))[0] for over in (False, True, False)]
    assert scaled[2] == pytest.approx(1 / np.std([1, 1 + GAMMA, 1]))


# Evaluation


def test_an_evaluator_follows_no_scale_and_draws_no_action() -> None:
    arena = arena_of(Counts(6), Counts(9))
    agent = Agent(arena, learner_for(arena), ActorCritic(scale_reward=True), window=3, seed=0)
    for _ in range(5):
        agent.window()
    before, flat = agent.state(), agent.learner.state_dict()
    other = arena_of(Counts(4), Counts(4), Counts(4))
    player = agent.evaluator(other, seed=1, greedy=True)
    for _ in range(9):
        played = player.window()
        # Three streams that see the same, and no noise between them.
        assert (played.action == played.action[:, :1]).all()
    assert player.state()["see"] == before["see"]
    assert agent.state() == before
    for name, value in agent.learner.state_dict().items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(flat[name])), name


def test_what_is_told_belongs_to_what_is_seen() -> None:
    """Where an episode begins, ``infos`` is the end of the last and ``here`` the beginning of the next."""
    arena = arena_of(Counts(2), Counts(5))
    told = []
    for _ in range(3):
        arena.step([0, 0])
        told.append([(arena.infos[s]["position"], arena.here[s]["position"]) for s in range(2)])
    assert told == [[(1, 1), (1, 1)], [(2, 0), (2, 2)], [(1, 1), (3, 3)]]
