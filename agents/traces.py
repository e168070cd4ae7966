"""Actor-critic with eligibility traces: an update at every step, from that step's TD error. For one stream.

Stream AC(lambda) of Elsayed, Vasan & Mahmood 2024 (arXiv 2410.14606), with any learner that has a gradient at each step.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sabsim.errors import ConfigError
from sabsim.optim import ObGD, Optimizer
from sabsim.replay import ReplayEvents

from .actor_critic import Returns, signals
from .agent import ActorCritic, Agent, Learner
from .arena import Arena


class Gradient(Learner, Protocol):
    """A learner whose gradient can be read and whose parameters can be written."""

    @property
    def flat(self) -> Tensor: ...
    @property
    def grad(self) -> Tensor: ...
    @property
    def optimizer(self) -> Optimizer: ...


class TraceAgent(Agent):
    """Plays ``arena``, of one stream, with ``learner`` and moves its parameters w along an eligibility trace z, every step:

        delta = r + gamma v(s') - v(s)                                  (0 for v(s') where the episode terminated)
        z <- gamma lambda z + grad[log pi(a|s) + 2 value v(s) + sign(delta) entropy H(pi(s))]
        w <- w + step(delta, z)                                         then z <- 0 where the episode ended

    In the paper policy and value are two networks, each with a trace and a bound. Here they share all but the readout, so
    there is one trace and one bound over all parameters; ``ObGD(kappa=3)``, the policy's, is the more careful of the two.
    ``how.value`` weighs the value's gradient as in ``ActorCritic``: at 0.5 it counts once. The terms of the paper that are
    not here: sparse initial weights and layer normalisation.

    Args: ``learner``: must have one stream, blocks of one step, and an optimiser that changes nothing (``SGD(lr=0)``),
    since the gradient is read from it and its parameters are written here; ``how``: ``decay`` is lambda (0.8 in the
    paper), ``scale_advantage`` must be False, for delta is used as it is; ``rule``: ``ObGD``, or any optimiser, which then
    gets - delta z as its gradient; ``seed``: of the actions drawn.

    Raises ConfigError: for more than one stream, advantages that are to be scaled, or a learner that changes itself.
    """

    learner: Gradient

    def __init__(self, arena: Arena, learner: Gradient, how: ActorCritic, *, rule: ObGD | Optimizer, seed: int) -> None:
        if arena.streams != 1:
            raise ConfigError(f"streams = {arena.streams}: an agent with traces plays one, since a step has one TD error")
        if how.scale_advantage:
            raise ConfigError("scale_advantage = True: an agent with traces uses TD errors as they are; set it to False")
        if learner.optimizer.lr:
            raise ConfigError(f"lr = {learner.optimizer.lr} of the learner's optimiser: must be 0, the agent has the rule")
        super().__init__(arena, learner, how, window=1, seed=seed)
        self.rule = rule
        self.trace = torch.zeros_like(learner.flat)
        self._moments = rule.state(learner.flat) if isinstance(rule, Optimizer) else {}

    def _learn(self, action: NDArray[np.int64], found: Returns) -> ReplayEvents | None:
        delta = float(found.td_error[0, 0])
        signal = signals(
            self._output,
            action,
            # With an advantage of 1 and a target 1 above the value the loss's gradient is that of - log pi - 2 value v.
            Returns(np.ones_like(found.advantage), self._output[..., -1] + 1.0, found.td_error),
            value_weight=self.how.value,
            entropy_weight=self.how.entropy * float(np.sign(delta)),
        )
        loss = np.full((1, 1), abs(delta), dtype=np.float32)
        events = self.learner.learn_block(self._send(signal), self._send(loss))
        flat = self.learner.flat
        self.trace.mul_(self.how.gamma * self.how.decay).sub_(self.learner.grad)
        if isinstance(self.rule, ObGD):
            self.rule.update(flat, self.trace, delta)
        else:
            self.rule.update(flat, self.trace * -delta, self._moments)
        if self.arena.begins[0]:
            self.trace.zero_()
        return events

    def state(self) -> dict[str, Any]:
        """What is not the learner's or the arena's, the trace included, as JSON can hold it."""
        moments = {name: array.tolist() for name, array in self._moments.items()}
        return super().state() | {"trace": self.trace.tolist(), "moments": moments}

    def follow(self, state: dict[str, Any]) -> None:
        """Takes over the scales of another agent of that ``state``, and what both optimisers have; no trace."""
        super().follow(state)
        theirs = state.get("moments", {})
        self._take_moments({name: theirs[name] for name in self._moments if name in theirs})

    def restore(self, state: dict[str, Any]) -> None:
        """The opposite of ``state``."""
        super().restore(state)
        self.trace.copy_(torch.tensor(state["trace"], dtype=self.trace.dtype))
        self._take_moments({name: state["moments"][name] for name in self._moments})

    def _take_moments(self, moments: dict[str, Any]) -> None:
        for name, values in moments.items():
            self._moments[name].copy_(torch.tensor(values, dtype=self._moments[name].dtype))
