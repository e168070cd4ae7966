"""What every retention policy is: a frozen description and a score for the states that a block offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError


class States(NamedTuple):
    """The states of a finished block, step-major: C steps, B streams, n units.

    ``h_hat`` and ``previous`` (the state before; zero at a sequence's start) have shape ``(C, B, n)``, ``loss`` ``(C, B)``
    is the prediction or TD error there, ``birth`` ``(C,)`` the global steps; ``generator`` is the learner's own. ``usual``
    ``(C, B, n)``: what h_hat would have been had the usual input come, for a policy that ``compares_input``.
    """

    h_hat: Tensor
    previous: Tensor
    loss: Tensor
    birth: Tensor
    generator: torch.Generator
    usual: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Retention(ABC):
    """Keeps the ``slots`` microstates of highest score in each stream.

    Raises ConfigError: if ``slots`` < 1 or not larger than the number of protected microstates.
    """

    name: ClassVar[str]
    slots: int = 32

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ConfigError(f"slots = {self.slots}: must be at least 1")
        if self.slots <= self.protected:
            raise ConfigError(
                f"slots = {self.slots}: {self.name} protects the newest {self.protected}, so at least {self.protected + 1}"
            )

    @property
    def protected(self) -> int:
        """How many of the newest microstates are safe whatever their score."""
        return 0

    @property
    def accrues(self) -> bool:
        """Whether a protected microstate's score grows by the recall weight it receives."""
        return False

    @property
    def compares_input(self) -> bool:
        """Whether ``score`` wants ``States.usual``, which costs a cell step."""
        return False

    @abstractmethod
    def score(self, states: States) -> Tensor:
        """Scores ``(C, B)`` in float64 of the states offered; the highest stay."""
