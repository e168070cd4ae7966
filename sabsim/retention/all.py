"""Every state, as in the paper: for sequences of known length only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ._base import Retention, States


@dataclass(frozen=True, kw_only=True)
class All(Retention):
    """Keeps every microstate of a sequence; ``slots`` must hold the longest one, and an overflow is an error.

    The learner's ``check`` raises when a microstate had to be refused; runs of endless streams refuse this policy.
    """

    name: ClassVar[str] = "all"

    def score(self, states: States) -> Tensor:
        return -states.birth.double().unsqueeze(1).expand_as(states.loss)
