"""Two online actor-critics for benchmarks/minigrid_loop.py: on the streaming learner, and naively in eager torch.

Both play the same environments with the same encoder, sample from the policy, and make one update every ``WINDOW`` steps
from the same loss (advantages by GAE within the window, the value of the next observation at its end).
"""

from __future__ import annotations

import gymnasium
import minigrid  # noqa: F401 - registers its environments
import numpy as np
import torch
from numpy.typing import NDArray
from sabsim.agents.actor_critic import returns, signals
from sabsim.agents.encoders import MINIGRID_VIEW, SymbolEncoder
from torch import Tensor, nn

from sabsim import SAB, Adam, Encoder, Network, Novelty, StreamingLearner

TASK, ACTIONS, WINDOW, HIDDEN, WIDTH = "MiniGrid-DoorKey-5x5-v0", 7, 10, 128, 64
GAMMA, DECAY, VALUE_WEIGHT, ENTROPY_WEIGHT, LEARNING_RATE = 0.99, 0.95, 0.5, 0.01, 1e-3
KINDS = (*MINIGRID_VIEW, ACTIONS + 1)
"""Of the numbers of an observation: the view, and the action before it (``ACTIONS`` at an episode's beginning)."""


class Environments:
    """``streams`` environments in this process, each begun anew when its episode ends.

    ``seen`` (streams, 148) uint8: what is observed now; ``ended`` (streams,) bool: whether that begins an episode.
    """

    def __init__(self, streams: int, seed: int) -> None:
        self._all = [gymnasium.make(TASK, disable_env_checker=True) for _ in range(streams)]
        self.seen = np.zeros((streams, len(KINDS)), dtype=np.uint8)
        self.ended = np.ones(streams, dtype=bool)
        self.reward = np.zeros(streams, dtype=np.float32)
        self.scores: list[float] = []
        for stream, environment in enumerate(self._all):
            observation, _ = environment.reset(seed=seed + stream)
            self._show(stream, observation["image"], ACTIONS)

    def step(self, actions: list[int]) -> None:
        """One step of each; the last reward of an episode is kept in ``scores``."""
        for stream, (environment, action) in enumerate(zip(self._all, actions, strict=True)):
            observation, reward, terminated, truncated, _ = environment.step(action)
            self.reward[stream] = reward
            self.ended[stream] = over = terminated or truncated
            if over:
                self.scores.append(float(reward))
                observation, _ = environment.reset()
                action = ACTIONS
            self._show(stream, observation["image"], action)

    def _show(self, stream: int, image: NDArray[np.uint8], action: int) -> None:
        self.seen[stream, :-1] = image.ravel()
        self.seen[stream, -1] = action


class RandomPlay:
    """The environments alone, with random actions."""

    def __init__(self, streams: int, seed: int) -> None:
        self._all = [gymnasium.make(TASK, disable_env_checker=True) for _ in range(streams)]
        self._random = np.random.default_rng(seed)
        for stream, environment in enumerate(self._all):
            environment.reset(seed=seed + stream)

    def window(self) -> None:
        """``WINDOW`` steps of each."""
        for actions in self._random.integers(0, ACTIONS, (WINDOW, len(self._all))).tolist():
            for environment, action in zip(self._all, actions, strict=True):
                _, _, terminated, truncated, _ = environment.step(action)
                if terminated or truncated:
                    environment.reset()


class StreamingAgent:
    """The streaming learner: acts step by step, gives the window's signals at its end."""

    def __init__(self, backend: str, streams: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.learner = StreamingLearner(
            Network(d_in=WIDTH, d_out=ACTIONS + 1, hidden=HIDDEN),
            credit=SAB(k_trunc=WINDOW),
            retention=Novelty(slots=32),
            optimizer=Adam(lr=LEARNING_RATE),
            encoder=Encoder(module=SymbolEncoder(KINDS, WIDTH), shape=(len(KINDS),)),
            streams=streams,
            seed=seed,
            backend=backend,
        )
        self.environments = Environments(streams, seed)
        self._seen, self._ended = (torch.from_numpy(part) for part in (self.environments.seen, self.environments.ended))
        self._random = np.random.default_rng(seed)
        shape = (WINDOW, streams)
        self._output = np.zeros((*shape, ACTIONS + 1), dtype=np.float32)
        self._action = np.zeros(shape, dtype=np.int64)
        self._reward, self._over = np.zeros((2, *shape), dtype=np.float32)

    def window(self) -> None:
        """``WINDOW`` steps of each environment, and an update."""
        learner, environments = self.learner, self.environments
        # The largest logit plus Gumbel noise is a sample of the policy.
        noise = self._random.gumbel(size=(*self._action.shape, ACTIONS))
        for t in range(WINDOW):
            if environments.ended.any():
                learner.reset(self._ended)
            output = learner.step(self._seen).numpy()
            self._output[t] = output
            self._action[t] = actions = (output[:, :ACTIONS] + noise[t]).argmax(1)
            environments.step(actions.tolist())
            self._reward[t] = environments.reward
            self._over[t] = environments.ended
        last = learner.peek(self._seen).numpy()[:, ACTIONS]
        found = returns(self._output[..., ACTIONS], self._reward, self._over, last, gamma=GAMMA, decay=DECAY)
        signal = signals(self._output, self._action, found, value_weight=VALUE_WEIGHT, entropy_weight=ENTROPY_WEIGHT)
        learner.learn_block(torch.from_numpy(signal))


class NaiveAgent:
    """``nn.LSTMCell`` under autograd: every window a backward pass, a clip and a step of Adam. It remembers nothing."""

    def __init__(self, streams: int, seed: int) -> None:
        torch.manual_seed(seed)
        self._encoder, self._cell = SymbolEncoder(KINDS, WIDTH), nn.LSTMCell(WIDTH, HIDDEN)
        self._head = nn.Linear(HIDDEN, ACTIONS + 1)
        self._parameters = [p for part in (self._encoder, self._cell, self._head) for p in part.parameters()]
        self._adam = torch.optim.Adam(self._parameters, lr=LEARNING_RATE)
        self.environments = Environments(streams, seed)
        self._state = (torch.zeros(streams, HIDDEN), torch.zeros(streams, HIDDEN))

    def window(self) -> None:
        """``WINDOW`` steps of each environment, and an update."""
        state = tuple(part.detach() for part in self._state)
        outputs, actions, rewards, over = [], [], [], []
        for _ in range(WINDOW):
            output, state = self._step(state)
            action = torch.distributions.Categorical(logits=output[:, :ACTIONS].detach()).sample()
            self.environments.step(action.tolist())
            outputs.append(output)
            actions.append(action)
            rewards.append(torch.from_numpy(self.environments.reward.copy()))
            over.append(torch.from_numpy(self.environments.ended.copy()).float())
        self._state = state
        with torch.no_grad():
            ahead = self._step(state)[0][:, ACTIONS]
        loss = self._loss(torch.stack(outputs), torch.stack(actions), rewards, over, ahead)
        self._adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._adam.step()

    def _step(self, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        keep = 1 - torch.from_numpy(self.environments.ended).float().unsqueeze(1)
        h, c = self._cell(self._encoder(torch.from_numpy(self.environments.seen)), (state[0] * keep, state[1] * keep))
        return self._head(h), (h, c)

    def _loss(self, output: Tensor, action: Tensor, rewards: list[Tensor], over: list[Tensor], ahead: Tensor) -> Tensor:
        value, log_policy = output[..., ACTIONS], torch.log_softmax(output[..., :ACTIONS], 2)
        advantages, advantage = [], torch.zeros_like(ahead)
        for t in range(WINDOW - 1, -1, -1):
            alive = GAMMA * (1 - over[t])
            advantage = rewards[t] + alive * ahead - value[t].detach() + alive * DECAY * advantage
            advantages.append(advantage)
            ahead = value[t].detach()
        found = torch.stack(advantages[::-1])
        chosen = log_policy.gather(2, action.unsqueeze(2)).squeeze(2)
        entropy = -(log_policy.exp() * log_policy).sum(2)
        error = value - (found + value.detach())
        return (-found * chosen + VALUE_WEIGHT * error**2 - ENTROPY_WEIGHT * entropy).mean()
