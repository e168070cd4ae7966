"""Relevancy screening (Kerg et al. 2020, arXiv 2006.09471, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import ConfigError
from ._base import Retention, States


@dataclass(frozen=True, kw_only=True)
class Relevancy(Retention):
    """A short-term buffer of the newest ``buffer`` microstates (nu) and a relevant set of the other slots (rho).

    A microstate accrues the recall weight it receives while in the buffer; on leaving it enters the relevant set if it
    beats the least relevant one there. ``buffer`` = 0 means half the slots.

    Raises ConfigError: if ``buffer`` is negative or leaves no slot for the relevant set.
    """

    name: ClassVar[str] = "relevancy"
    buffer: int = 0

    def __post_init__(self) -> None:
        if self.buffer < 0:
            raise ConfigError(f"buffer = {self.buffer}: must be 0 (half the slots) or more")
        super().__post_init__()

    @property
    def protected(self) -> int:
        return self.buffer or self.slots // 2

    @property
    def accrues(self) -> bool:
        return True

    def score(self, states: States) -> Tensor:
        return torch.zeros_like(states.loss, dtype=torch.float64)
