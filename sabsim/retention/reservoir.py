"""A uniform sample of everything seen since the sequence began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ._base import Retention, States


@dataclass(frozen=True, kw_only=True)
class Reservoir(Retention):
    """Keeps a uniform random sample: every state draws a random key and the highest keys stay.

    Equal in distribution to Vitter's reservoir sampling (1985), without a counter per stream.
    """

    name: ClassVar[str] = "reservoir"

    def score(self, states: States) -> Tensor:
        shape = states.loss.shape
        return torch.rand(shape, dtype=torch.float64, device=states.loss.device, generator=states.generator)
