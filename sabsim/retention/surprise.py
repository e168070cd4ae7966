"""The states at which prediction failed most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ._base import Retention, States


@dataclass(frozen=True, kw_only=True)
class Surprise(Retention):
    """Keeps the microstates formed at the largest absolute prediction (or TD) error."""

    name: ClassVar[str] = "surprise"

    def score(self, states: States) -> Tensor:
        return states.loss.abs().double()
