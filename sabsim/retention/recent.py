"""The newest states: a ring buffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ._base import Retention, States


@dataclass(frozen=True, kw_only=True)
class Recent(Retention):
    """Keeps the newest ``slots`` microstates."""

    name: ClassVar[str] = "recent"

    def score(self, states: States) -> Tensor:
        return states.birth.double().unsqueeze(1).expand_as(states.loss)
