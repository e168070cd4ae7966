"""The states at which most happened: what is kept does not depend on what attention has learned so far."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import ConfigError
from ._base import Retention, States


@dataclass(frozen=True, kw_only=True)
class Novelty(Retention):
    """Keeps the microstates of greatest |h_hat_t - h_hat_{t-1}| + ``input_effect`` |h_hat_t - h_hat_t(usual input)|.

    The first term is how far the state moved, the second how far the input moved it: how different the state is from what
    the same step would have led to on the usual (mean) input. With the first alone, a stretch in which recall makes the
    state jump pushes out what was shown before it (docs/decisions.md). The newest ``protect`` are safe.

    Raises ConfigError: if ``protect`` < 0, or ``input_effect`` is negative or not finite.
    """

    name: ClassVar[str] = "novelty"
    protect: int = 2
    input_effect: float = 1.0

    def __post_init__(self) -> None:
        if self.protect < 0:
            raise ConfigError(f"protect = {self.protect}: must be 0 or more")
        if not 0 <= self.input_effect < inf:
            raise ConfigError(f"input_effect = {self.input_effect}: must be 0 (off) or more")
        super().__post_init__()

    @property
    def protected(self) -> int:
        return min(self.protect, self.slots - 1)

    @property
    def compares_input(self) -> bool:
        return self.input_effect > 0

    def score(self, states: States) -> Tensor:
        moved = torch.linalg.vector_norm(states.h_hat - states.previous, dim=2).double()
        if states.usual is None:
            return moved
        return moved + self.input_effect * torch.linalg.vector_norm(states.h_hat - states.usual, dim=2).double()
