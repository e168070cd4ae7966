"""Eligibility traces and bounded steps: the agent against textbook actor-critic(lambda), the bound, its saving."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.agents.agent import ActorCritic
from sabsim.agents.arena import Arena
from sabsim.agents.rtu import RTULearner
from sabsim.agents.rtu_parameters import RTU
from sabsim.agents.traces import TraceAgent
from sabsim.envs.memory_chain import MemoryChain
from torch import Tensor

from sabsim import SAB, SGD, Adam, ConfigError, Memoryless, Network, Novelty, ObGD, Optimizer, Recent, StreamingLearner
from sabsim.native import library_or_none

GAMMA, DECAY, STATES = 0.9, 0.7, 5
HOW = ActorCritic(gamma=GAMMA, decay=DECAY, entropy=0.0, scale_advantage=False, normalise=False)
compiled = pytest.mark.skipif(library_or_none(torch.float32) is None, reason="no C compiler here")


class Walk(gym.Env[int, int]):
    """A random walk on a line: action 1 mostly goes right; beyond either end it is over, beyond the right one it pays 1.

    `limit`: steps after which the episode is cut off.
    """

    observation_space, action_space = Discrete(STATES), Discrete(2)

    def __init__(self, limit: int = 8) -> None:
        self.limit, self.place, self.clock = limit, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.clock = STATES // 2, 0
        return self.place, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.place += 1 if (self.np_random.random() < 0.8) == bool(action) else -1
        self.clock += 1
        over = not 0 <= self.place < STATES
        seen = min(max(self.place, 0), STATES - 1)
        return seen, float(self.place == STATES) - 0.1, over, self.clock == self.limit, {}


class Linear:
    """y = W x: what the textbook assumes, behind the calls of a learner; keeps what it was asked for."""

    read, streams, device = None, 1, torch.device("cpu")

    def __init__(self, d_in: int, d_out: int) -> None:
        self.shape, self.network = (d_out, d_in), SimpleNamespace(d_out=d_out)
        self.flat = 0.3 * torch.randn(d_out * d_in, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        self.grad = torch.zeros_like(self.flat)
        self.optimizer: Optimizer = SGD(lr=0.0)
        self.stepped: list[Tensor] = []
        self.resets: list[int] = []

    def reset(self, done: Tensor) -> None:
        self.resets.append(len(self.stepped))

    def step(self, x: Tensor) -> Tensor:
        self.stepped.append(x.double().clone())
        return self.peek(x)

    def peek(self, x: Tensor) -> Tensor:
        return x.double() @ self.flat.view(self.shape).T

    def learn_block(self, dL_dy: Tensor, loss: Tensor | None = None) -> None:
        self.grad.copy_((dL_dy[0].double().T @ self.stepped[-1]).flatten())


def played(rule: ObGD | Optimizer, how: ActorCritic, steps: int) -> tuple[Linear, TraceAgent, list[Any]]:
    """A linear agent on the walk after some steps, and for each of them (x, action, reward, x after, terminated, over)."""
    arena = Arena(Walk, streams=1, seed=0, sees_action=False, sees_reward=False)
    learner = Linear(arena.size, arena.actions + 1)
    agent = TraceAgent(arena, learner, how, rule=rule, seed=2)  # type: ignore[arg-type]
    history = []
    for _ in range(steps):
        x = arena.x[0].astype(np.float64)
        result = agent.window()
        over = bool(arena.begins[0])
        after = (arena.final if over else arena.x)[0].astype(np.float64)
        action, reward, terminated = (part[0, 0].item() for part in (result.action, result.reward, result.terminated))
        history.append((x, action, reward, after, terminated, over))
    return learner, agent, history


def textbook(W: np.ndarray, history: list[Any], step: Callable[[float, np.ndarray], float], entropy: float) -> np.ndarray:
    """Actor-critic with accumulating traces on linear features (Sutton & Barto 2018, section 13.5), both in one trace."""
    trace = np.zeros_like(W)
    for x, action, reward, after, terminated, over in history:
        logits, value = (W @ x)[:-1], (W @ x)[-1]
        policy = np.exp(logits) / np.exp(logits).sum()
        delta = reward + (0.0 if terminated else GAMMA * (W @ after)[-1]) - value
        bent = -policy * (np.log(policy) - (policy * np.log(policy)).sum())
        gradient = np.vstack([np.outer(np.eye(2)[action] - policy + entropy * np.sign(delta) * bent, x), x])
        trace = GAMMA * DECAY * trace + gradient
        W = W + step(delta, trace) * delta * trace
        if over:
            trace = np.zeros_like(W)
    return W


@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize("lr", [0.05, 1e9])
@pytest.mark.parametrize("kind", ["sgd", "obgd"])
def test_it_is_the_textbook_on_linear_features(kind: str, lr: float, entropy: float) -> None:
    """Values and policy after 300 steps with endings of both kinds; with a great lr only the bound counts."""
    if kind == "sgd" and lr > 1:
        pytest.skip("without a bound it diverges")
    rule = SGD(lr=lr, clip=0.0) if kind == "sgd" else ObGD(lr=lr, kappa=3.0)
    how = ActorCritic(gamma=GAMMA, decay=DECAY, entropy=entropy, scale_advantage=False, normalise=False)
    start = Linear(STATES, 3).flat.view(3, STATES).numpy().copy()
    learner, _, history = played(rule, how, 300)
    cut_off = sum(over and not terminated for *_, terminated, over in history)
    assert 2 < cut_off < sum(over for *_, over in history) - 2

    def size(delta: float, trace: np.ndarray) -> float:
        return lr if kind == "sgd" else min(lr, 1 / (3.0 * max(abs(delta), 1) * np.abs(trace).sum()))

    expected = textbook(start, history, size, entropy)
    assert np.abs(expected - start).max() > 0.1
    # Outputs pass through the agent in single precision.
    np.testing.assert_allclose(learner.flat.view(3, STATES).numpy(), expected, rtol=2e-4, atol=2e-5)


def test_constant_values_move_to_the_lambda_return() -> None:
    """Backward and forward view: with parameters that do not move, an episode's changes sum to those of lambda-returns."""
    learner, agent, history = played(SGD(lr=0.0, clip=0.0), HOW, 0)
    start = learner.flat.view(3, STATES)[-1].numpy().copy()
    changes, total, episodes = np.zeros(STATES), np.zeros(STATES), 0
    history = []
    while episodes < 5:
        x, before = agent.arena.x[0].astype(np.float64), agent.arena
        place = before.environments[0].unwrapped.clock  # type: ignore[attr-defined]
        result = agent.window()
        over = bool(agent.arena.begins[0])
        after = (agent.arena.final if over else agent.arena.x)[0].astype(np.float64)
        history.append((x, float(result.reward[0, 0]), after, bool(result.terminated[0, 0])))
        delta = float(result.td_error[0, 0])
        # The trace is cut after the update at an episode's end: rebuild what it was from the states since the beginning.
        trace = sum((GAMMA * DECAY) ** (place - k) * history[k - place - 1][0] for k in range(place + 1))
        changes += delta * trace
        if not over:
            np.testing.assert_allclose(agent.trace.view(3, STATES)[-1].numpy(), trace, rtol=1e-6, atol=1e-7)
            continue
        assert not agent.trace.any()
        ahead = 0.0 if history[-1][3] else start @ history[-1][2]
        for k in range(len(history) - 1, -1, -1):
            x, reward, after, terminated = history[k]
            value = 0.0 if terminated else start @ after
            mixed = ahead if k == len(history) - 1 else (1 - DECAY) * value + DECAY * ahead
            ahead = reward + GAMMA * mixed
            total += (ahead - start @ x) * x
        history, episodes = [], episodes + 1
    np.testing.assert_allclose(changes, total, rtol=1e-4, atol=1e-5)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-3, 1.0, 1e3]), lr=st.sampled_from([0.1, 1.0, 1e6]))
def test_a_bounded_step_never_overshoots_a_linear_value(seed: int, scale: float, lr: float) -> None:
    """For features in [-1, 1], whatever the trace: the TD error after the update has not changed its sign, nor grown."""
    rng = np.random.default_rng(seed)
    rule, gamma = ObGD(lr=lr, kappa=2.0), 0.99
    flat, trace = (torch.from_numpy(rng.normal(size=6)) for _ in range(2))
    here, after = (torch.from_numpy(rng.uniform(-1, 1, 6)) for _ in range(2))
    reward = scale * rng.normal()
    trace = gamma * 0.8 * trace * scale + here

    def error() -> float:
        return float(reward + gamma * flat @ after - flat @ here)

    before = error()
    aligned = float(trace @ (here - gamma * after)) > 0
    assert rule.update(flat, trace, before)
    now = error()
    assert now * before >= 0 or abs(now) < 1e-12
    assert abs(now) <= abs(before) * (1 + 1e-12) or not aligned
    assert abs(now - before) <= abs(before) * (1 + 1e-12)


def recalling(backend: str, credit: Any = None) -> StreamingLearner:
    return StreamingLearner(
        Network(d_in=6, d_out=3, hidden=9),
        credit=SAB(k_top=2, k_trunc=4, replays=1, update_every=1) if credit is None else credit,
        retention=Novelty(slots=6), optimizer=SGD(lr=0.0), seed=1, backend=backend,  # type: ignore[arg-type]
    )  # fmt: skip


def agent_of(learner: Any, rule: ObGD | Optimizer | None = None, **how: Any) -> TraceAgent:
    arena = Arena(lambda: MemoryChain(memory_length=4), streams=1, seed=0)
    settings = {"scale_advantage": False, "scale_reward": True, "decay": 0.8} | how
    return TraceAgent(arena, learner, ActorCritic(**settings), rule=ObGD(kappa=3.0) if rule is None else rule, seed=1)


@compiled
@pytest.mark.parametrize("rule", [ObGD(), Adam(lr=1e-3, spike=0.0, warmup_updates=0)], ids=["obgd", "adam"])
def test_both_backends_see_the_parameters_that_the_agent_writes(rule: ObGD | Optimizer) -> None:
    native, plain = (agent_of(recalling(backend), rule) for backend in ("native", "torch"))
    start = native.learner.flat.clone()
    for _ in range(60):
        found, expected = native.window(), plain.window()
        np.testing.assert_allclose(found.value, expected.value, rtol=2e-3, atol=2e-4)
        assert np.array_equal(found.action, expected.action)
    torch.testing.assert_close(native.learner.flat, plain.learner.flat, rtol=2e-3, atol=2e-4)
    assert (native.learner.flat - start).abs().max() > 1e-3


RIVALS: dict[str, Callable[[], Any]] = {
    "sab": lambda: recalling("auto"),
    "memoryless": lambda: recalling("auto", Memoryless(k_trunc=1)),
    "rtu": lambda: RTULearner(RTU(d_in=6, d_out=3, units=6, hidden=5), optimizer=SGD(lr=0.0), block=1),
}


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("rule", [ObGD(), Adam(lr=1e-3)], ids=["obgd", "adam"])
def test_it_goes_on_where_it_was_saved(name: str, rule: ObGD | Optimizer) -> None:
    first, second = (agent_of(RIVALS[name](), rule) for _ in range(2))
    for _ in range(22):
        first.window()
    second.learner.load_state_dict(first.learner.state_dict())
    second.restore(first.state())
    second.arena.restore(first.arena.state())
    for _ in range(20):
        assert np.array_equal(first.window().value, second.window().value)
    assert torch.equal(first.learner.flat, second.learner.flat)
    assert torch.equal(first.trace, second.trace)
    first.learner.check()


def test_one_step_is_the_rule_along_the_trace() -> None:
    """With any learner: what an update adds to the parameters, from the gradient before it and after it."""
    agent = agent_of(recalling("auto"), normalise=False)
    for _ in range(30):
        trace, before = agent.trace.clone(), agent.learner.flat.clone()
        delta = float(agent.window().td_error[0, 0])
        trace = agent.how.gamma * 0.8 * trace - agent.learner.grad
        size = min(1.0, 1 / (3 * max(abs(delta), 1) * float(trace.abs().sum())))
        torch.testing.assert_close(agent.learner.flat, before + size * delta * trace, rtol=1e-5, atol=1e-7)
        assert torch.equal(agent.trace, torch.zeros_like(trace)) == bool(agent.arena.begins[0])


def test_what_it_cannot_do_is_named() -> None:
    learner = StreamingLearner(
        Network(d_in=6, d_out=3, hidden=4), credit=Memoryless(k_trunc=1), retention=Recent(slots=1), optimizer=SGD(lr=0.1)
    )
    with pytest.raises(ConfigError, match=r"lr = 0\.1 of the learner's optimiser"):
        agent_of(learner)
    with pytest.raises(ConfigError, match="scale_advantage = True"):
        agent_of(recalling("auto"), scale_advantage=True)
    with pytest.raises(ConfigError, match="streams = 2"):
        TraceAgent(Arena(MemoryChain, streams=2, seed=0), recalling("auto"), HOW, rule=ObGD(), seed=0)
