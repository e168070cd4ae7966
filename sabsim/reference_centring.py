"""The usual state as the oracle knows it: the mean of all provisional states, and what is left of a vector without it."""

from __future__ import annotations

import torch
from torch import Tensor

_MEMORY = 1000
_SHORTEST = 1e-6
_PROJECTIONS = {"cosine": ("W_q", "W_k"), "dot": ("W_q", "W_k"), "mlp": ("W_1", "W_2")}


class UsualState:
    """Its direction is a constant from one block's end to the next.

    Args:
        salience: whose projections are to be kept from it.
        like: any tensor of the dtype wanted.
        hidden: n.
    """

    def __init__(self, salience: str, *, hidden: int, like: Tensor) -> None:
        self._names = [f"salience.{name}" for name in _PROJECTIONS[salience]]
        self._mean, self._steps = like.new_zeros(hidden), 0
        self._block: list[Tensor] = []
        self.direction = like.new_zeros(hidden)

    def meet(self, h_hat: Tensor) -> None:
        """A provisional state of some stream, `(n,)`."""
        self._block.append(h_hat.detach())

    def end_block(self, parameters: dict[str, Tensor], *, steps: int) -> None:
        """The mean follows the block of so many steps; the parameters become those of what differs from it."""
        self._steps += steps
        rate = min(1.0, max(steps / self._steps, steps / _MEMORY))
        self._mean = self._mean + rate * (torch.stack(self._block).mean(0) - self._mean)
        self._block = []
        self.direction = self._mean / max(float(self._mean.norm()), _SHORTEST)
        keep = torch.eye(len(self.direction), dtype=self.direction.dtype) - torch.outer(self.direction, self.direction)
        for name in self._names:
            parameters[name].copy_(parameters[name] @ keep)

    def without(self, v: Tensor) -> Tensor:
        """`v` less its part along the usual state, shape `(n,)` both."""
        return v - (v @ self.direction) * self.direction
