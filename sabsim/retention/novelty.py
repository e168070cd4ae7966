"""The states at which the state changed most: what is kept does not depend on what attention has learned so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import ConfigError
from ._base import Retention, States


@dataclass(frozen=True, kw_only=True)
class Novelty(Retention):
    """Keeps the microstates of greatest |h_hat_t - h_hat_{t-1}|, the newest ``protect`` being safe.

    Raises ConfigError: if ``protect`` < 0.
    """

    name: ClassVar[str] = "novelty"
    protect: int = 2

    def __post_init__(self) -> None:
        if self.protect < 0:
            raise ConfigError(f"protect = {self.protect}: must be 0 or more")
        super().__post_init__()

    @property
    def protected(self) -> int:
        return min(self.protect, self.slots - 1)

    def score(self, states: States) -> Tensor:
        return torch.linalg.vector_norm(states.h_hat - states.previous, dim=2).double()
