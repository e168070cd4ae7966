"""The online actor-critic: acts step by step, learns from a window of steps at its end, keeps nothing else of the past.

What remembers, recalls and assigns credit is the learner; here is what turns rewards into its learning signal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sabsim.errors import ConfigError
from sabsim.replay import ReplayEvents
from sabsim.views import ReadEvents

from .action_credit import ActionCredit
from .actor_critic import Array, Returns, returns, signals
from .arena import Arena
from .normalise import Normaliser, RewardScale

_RMS_FOLLOW = 0.01
"""Share of a new window in the running mean square of the advantages, once there were enough."""
_RMS_LEAST = 1e-3


class Outputs(Protocol):
    """``d_out``: numbers that a learner puts out, logits and value first."""

    @property
    def d_out(self) -> int: ...


class Learner(Protocol):
    """What an agent asks of a learner: the calls of ``sabsim.StreamingLearner``, which rivals offer too."""

    streams: int
    device: torch.device

    @property
    def network(self) -> Outputs: ...
    @property
    def read(self) -> ReadEvents | None: ...
    @property
    def hidden(self) -> Tensor: ...
    def reset(self, done: Tensor) -> None: ...
    def step(self, x: Tensor) -> Tensor: ...
    def peek(self, x: Tensor) -> Tensor: ...
    def learn_block(self, dL_dy: Tensor, loss: Tensor | None = None) -> ReplayEvents | None: ...
    def check(self) -> None: ...
    def evaluator(self, *, streams: int | None = None, seed: int = 0) -> Learner: ...
    def state_dict(self) -> dict[str, Tensor | int]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class ActorCritic:
    """How rewards become a learning signal.

    Args:
        gamma: discount per step, in [0, 1].
        decay: lambda of the returns, in [0, 1]: 0 for one-step TD errors, 1 for returns to the window's end.
        entropy: weight of the policy's entropy.
        value: weight of the value's squared error.
        scale_advantage: whether advantages are divided by the greatest that their running root mean square has been. (By
            today's, they would grow to what is usual once all is learned, and the policy would be led by noise.)
        scale_reward: whether rewards are divided by the running standard deviation of their discounted sums.
        normalise: whether observations are brought to mean 0 and standard deviation 1.

    Raises ConfigError: for a value out of range.
    """

    gamma: float = 0.99
    decay: float = 0.95
    entropy: float = 0.01
    value: float = 0.5
    scale_advantage: bool = True
    scale_reward: bool = False
    normalise: bool = True

    def __post_init__(self) -> None:
        for name in ("gamma", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be between 0 and 1")
        for name in ("entropy", "value"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be 0 or more")


class Played(NamedTuple):
    """One window of an agent, every field ``(steps, streams)`` but the last two.

    ``begins``: the observation of the step began an episode; ``action``; ``reward`` as the environment gave it;
    ``terminated``, ``truncated``: the episode ended with that action; ``value``: of the state before the action;
    ``td_error``: reward + gamma (value of the next state) - value; ``entropy`` of the policy, in nats. ``infos``: of the
    step's end, ``[step][stream]``; ``events``: what was replayed.
    """

    begins: NDArray[np.bool_]
    action: NDArray[np.int64]
    reward: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    value: Array
    td_error: Array
    entropy: Array
    infos: list[list[dict[str, Any]]]
    events: ReplayEvents | None


class Agent:
    """Plays ``arena`` with ``learner``, whose outputs are the policy's logits and then the value.

    The environments and all that turns rewards into a signal are on the CPU, the learner on its device: at every step
    observations go there and outputs come back.

    Args: ``window``: steps between two updates, the learner's block. ``seed``: of the actions drawn. ``action_credit``: of
    the same learner, whose last output is then its baseline. ``learning``: whether the scale of observations follows what
    is seen. ``greedy``: whether it takes the likeliest action and draws none.
    """

    def __init__(
        self,
        arena: Arena,
        learner: Learner,
        how: ActorCritic,
        *,
        window: int,
        seed: int,
        action_credit: ActionCredit | None = None,
        learning: bool = True,
        greedy: bool = False,
    ) -> None:
        self.arena, self.learner, self.how, self.steps = arena, learner, how, window
        self.action_credit = action_credit
        self._random, self._learning, self._greedy = np.random.default_rng(seed), learning, greedy
        self._see = Normaliser(arena.size) if how.normalise else None
        self._scale = RewardScale(arena.streams, how.gamma) if how.scale_reward else None
        self._square, self._largest, self._windows = 0.0, 0.0, 0
        shape = (window, arena.streams)
        self._seen = np.zeros((*shape, arena.size), dtype=np.float32)
        self._output = np.zeros((*shape, arena.actions + 1), dtype=np.float32)
        # Beyond logits and value there is action credit's baseline, which learns from what is sent alone.
        self._unused = np.zeros((*shape, learner.network.d_out - arena.actions - 1), dtype=np.float32)

    def evaluator(self, arena: Arena, *, seed: int, greedy: bool = False) -> Agent:
        """An agent for ``arena``, an arena of its own, with what was learned so far, a fresh memory, and the scale of
        observations as it is now. It never learns; this agent is not touched.
        """
        learner = self.learner.evaluator(streams=arena.streams, seed=seed)
        other = Agent(arena, learner, self.how, window=self.steps, seed=seed, learning=False, greedy=greedy)
        if self._see is not None and other._see is not None:
            other._see.restore(self._see.state())
        if self._scale is not None and other._scale is not None:
            other._scale.follow(self._scale.state())
        return other

    def window(self, observe: Callable[[int], None] | None = None) -> Played:
        """``window`` steps of each environment, and an update.

        ``observe`` is called at each step, with its number in the window, between the learner's step and the arena's: what
        the learner has just read and what it saw then are still there.

        Raises NonFiniteError: for an observation or reward that is NaN or infinite (call ``learner.check`` for the rest).
        """
        arena, actions = self.arena, self.arena.actions
        shape = (self.steps, arena.streams)
        action = np.zeros(shape, dtype=np.int64)
        reward, learned = np.zeros((2, *shape))
        begins, terminated, truncated = np.zeros((3, *shape), dtype=bool)
        infos = []
        # The largest logit plus Gumbel noise is a sample of the policy.
        noise = np.zeros((*shape, actions)) if self._greedy else self._random.gumbel(size=(*shape, actions))
        for t in range(self.steps):
            begins[t], self._seen[t] = arena.begins, arena.x
            self._output[t] = self._step()
            action[t] = (self._output[t, :, :actions] + noise[t]).argmax(1)
            if self.action_credit is not None:
                self.action_credit.acted(action[t])
            if observe is not None:
                observe(t)
            arena.step(action[t].tolist())
            reward[t], terminated[t], truncated[t] = arena.reward, arena.terminated, arena.truncated
            learned[t] = self._worth(arena.reward)
            if self.action_credit is not None:
                self.action_credit.paid(learned[t])
            infos.append(arena.infos.copy())
        if self._see is not None and self._learning:
            self._see.meet(self._seen.reshape(-1, arena.size))
        found = returns(
            self._output[..., actions].astype(np.float64),
            learned,
            (terminated | truncated).astype(np.float64),
            self._value(arena.x),
            gamma=self.how.gamma,
            decay=self.how.decay,
        )
        events = self._learn(action, found)
        value = self._output[..., actions].astype(np.float64)
        entropy = _entropy(self._output[..., :actions].astype(np.float64))
        return Played(begins, action, reward, terminated, truncated, value, found.td_error, entropy, infos, events)

    def _step(self) -> NDArray[np.float32]:
        if self.arena.begins.any():
            if self.action_credit is not None:
                self.action_credit.ended(self.arena.begins)
            self.learner.reset(self._send(self.arena.begins))
        return self.learner.step(self._input(self.arena.x)).cpu().numpy()[:, : self.arena.actions + 1]

    def _input(self, x: NDArray[np.float32]) -> Tensor:
        return self._send(x if self._see is None else self._see(x))

    def _send(self, array: NDArray[Any]) -> Tensor:
        """The array where the learner computes; on a CPU without a copy."""
        return torch.from_numpy(array).to(self.learner.device)

    def _value(self, x: NDArray[np.float32]) -> Array:
        """The values (streams,) of states whose observation is ``x``, were they the next ones."""
        return self.learner.peek(self._input(x)).cpu().numpy()[:, self.arena.actions].astype(np.float64)

    def _worth(self, reward: Array) -> Array:
        """Rewards as they are learned from: scaled, and where the episode was cut off, with what would have followed."""
        arena = self.arena
        worth = reward if self._scale is None else self._scale(reward, arena.terminated | arena.truncated)
        if arena.truncated.any():
            worth = worth + self.how.gamma * np.where(arena.truncated, self._value(arena.final), 0.0)
        return worth

    def _learn(self, action: NDArray[np.int64], found: Returns) -> ReplayEvents | None:
        advantage = found.advantage
        if self.how.scale_advantage:
            self._windows += 1
            follow = max(1 / self._windows, _RMS_FOLLOW)
            self._square += (float(np.mean(advantage * advantage)) - self._square) * follow
            self._largest = max(self._largest, self._square)
            advantage = advantage / max(self._largest**0.5, _RMS_LEAST)
        signal = signals(
            self._output,
            action,
            found._replace(advantage=advantage),
            value_weight=self.how.value,
            entropy_weight=self.how.entropy,
        )
        if self._unused.size:
            signal = np.concatenate([signal, self._unused], 2)
        loss = np.abs(found.td_error).astype(np.float32)
        return self.learner.learn_block(self._send(signal), self._send(loss))

    def state(self) -> dict[str, Any]:
        """What is not the learner's or the arena's, as JSON can hold it."""
        return {
            "random": self._random.bit_generator.state,
            "see": None if self._see is None else self._see.state(),
            "scale": None if self._scale is None else self._scale.state(),
            "square": self._square,
            "largest": self._largest,
            "windows": self._windows,
            "action_credit": None if self.action_credit is None else self.action_credit.state(),
        }

    def follow(self, state: dict[str, Any]) -> None:
        """Takes over the scales of another agent of that ``state``, and nothing that belongs to its streams."""
        self._square, self._largest, self._windows = state["square"], state["largest"], state["windows"]
        if self._see is not None and state["see"] is not None:
            self._see.restore(state["see"])
        if self._scale is not None and state["scale"] is not None:
            self._scale.follow(state["scale"])

    def restore(self, state: dict[str, Any]) -> None:
        """The opposite of ``state``."""
        self._random.bit_generator.state = state["random"]
        self._square, self._largest, self._windows = state["square"], state["largest"], state["windows"]
        if self._see is not None:
            self._see.restore(state["see"])
        if self._scale is not None:
            self._scale.restore(state["scale"])
        if self.action_credit is not None:
            self.action_credit.restore(state["action_credit"])


def _entropy(logits: Array) -> Array:
    """Entropy, in nats, of the policies with these ``logits`` (..., actions)."""
    shifted = logits - logits.max(-1, keepdims=True)
    total = np.exp(shifted).sum(-1)
    return np.log(total) - (np.exp(shifted) * shifted).sum(-1) / total
