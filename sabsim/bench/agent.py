"""An online actor-critic as one writes it first - eager torch, autograd, batch 1 - and the same on the streaming learner.

There is no environment: observations and rewards are random numbers drawn beforehand, since what is timed is learning.
Both act by sampling from the policy and learn from the same arithmetic: advantage = reward - value.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..credit import SAB
from ..network import Network
from ..retention import Novelty
from .backends import make_learner

OBSERVATION, ACTIONS, WINDOW = 147, 7, 10
"""Numbers of a MiniGrid view (7 x 7 x 3), of its actions, and steps between two updates."""
VALUE_WEIGHT, ENTROPY_WEIGHT = 0.5, 0.01


class NaiveActorCritic:
    """``nn.LSTMCell`` and one linear head under autograd; every window a backward pass, a clip and a step of Adam."""

    def __init__(self, n: int, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        self._cell, self._head = nn.LSTMCell(OBSERVATION, n, device=device), nn.Linear(n, ACTIONS + 1, device=device)
        self._parameters = [*self._cell.parameters(), *self._head.parameters()]
        self._adam = torch.optim.Adam(self._parameters, lr=1e-3)
        self._observations, self._rewards = _experience(device)
        self._state = (torch.zeros(1, n, device=device), torch.zeros(1, n, device=device))

    def update(self) -> None:
        """A window of acting, and one update."""
        h, c = (part.detach() for part in self._state)
        losses = []
        for observation, reward in zip(self._observations, self._rewards, strict=True):
            h, c = self._cell(observation, (h, c))
            out = self._head(h)
            log_policy, value = torch.log_softmax(out[:, :ACTIONS], 1), out[:, ACTIONS]
            policy = log_policy.exp()
            action = torch.multinomial(policy.detach(), 1)
            advantage = (reward - value).detach()
            entropy = -(policy * log_policy).sum(1)
            surprise = log_policy.gather(1, action).squeeze(1)
            losses.append(-advantage * surprise + VALUE_WEIGHT * (reward - value) ** 2 - ENTROPY_WEIGHT * entropy)
        self._state = (h, c)
        self._adam.zero_grad()
        torch.cat(losses).mean().backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._adam.step()


class StreamingActorCritic:
    """The streaming learner with the loss's gradient written out."""

    def __init__(self, backend: str, n: int, device: torch.device, seed: int) -> None:
        self._learner = make_learner(
            backend,
            Network(d_in=OBSERVATION, d_out=ACTIONS + 1, hidden=n),
            credit=SAB(k_trunc=WINDOW),
            retention=Novelty(slots=32),
            seed=seed,
            device=device,
        )
        self._observations, self._rewards = _experience(device)
        self._signal = torch.zeros(1, ACTIONS + 1, device=device)

    def update(self) -> None:
        """A window of acting, and the update at its end."""
        for observation, reward in zip(self._observations, self._rewards, strict=True):
            out = self._learner.step(observation)
            torch.div(signal_of(out, reward), WINDOW, out=self._signal)
            self._learner.learn(self._signal)


def signal_of(out: Tensor, reward: Tensor, action: Tensor | None = None) -> Tensor:
    """Gradient of the actor-critic's loss with respect to ``out`` (1, actions + 1), logits and value; the same shape.

    ``reward`` (1,); ``action`` (1, 1), sampled from the policy if None.
    """
    log_policy = torch.log_softmax(out[:, :ACTIONS], 1)
    policy = log_policy.exp()
    chosen = torch.multinomial(policy, 1) if action is None else action
    error = (out[:, ACTIONS] - reward).unsqueeze(1)
    # Of -advantage log pi(a), advantage being -error: error (1[a] - pi).
    signal = (policy * -error).scatter_add(1, chosen, error)
    # Of the negative entropy: pi (log pi + entropy).
    entropy = -(policy * log_policy).sum(1, keepdim=True)
    signal = signal + ENTROPY_WEIGHT * policy * (log_policy + entropy)
    return torch.cat([signal, 2 * VALUE_WEIGHT * error], 1)


def _experience(device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """A window of observations (1, OBSERVATION) and rewards (1,), the same for both."""
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(WINDOW, 1, OBSERVATION, generator=generator).to(device)
    rewards = torch.randn(WINDOW, 1, generator=generator).to(device)
    return list(observations.unbind(0)), list(rewards.unbind(0))
