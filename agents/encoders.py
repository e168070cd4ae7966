"""Encoders of observations: small torch modules to be put before the learner's cell with ``sabsim.Encoder``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MINIGRID_VIEW = (11, 6, 4) * 49
"""How many kinds each number of a MiniGrid view has: object, colour and state of 7 x 7 cells."""


class SymbolEncoder(nn.Module):
    """x = relu(W o + b), where o joins a one-hot vector for each number of the observation.

    The numbers of a grid view name kinds of things; as magnitudes they would make a key a little more than a door.

    Args: ``kinds``: for each number of an observation, in its flat order, how many values it takes, from 0. ``width``:
    the size of x.
    """

    offsets: Tensor

    def __init__(self, kinds: Sequence[int], width: int) -> None:
        super().__init__()
        ends = torch.tensor(kinds).cumsum(0)
        self.register_buffer("offsets", ends - torch.tensor(kinds))
        bound = len(kinds) ** -0.5
        self.W = nn.Parameter(torch.empty(int(ends[-1]), width).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(width))

    def forward(self, observation: Tensor) -> Tensor:
        """Observations ``(rows, *shape)`` of an integer type -> x ``(rows, width)``."""
        # Written out as vectors of noughts and ones: their products with W, forward and back, take less time than the
        # gathering and sorting of an embedding bag.
        places = observation.flatten(1) + self.offsets
        one_hot = self.W.new_zeros(places.shape[0], self.W.shape[0]).scatter_(1, places, 1.0)
        return torch.addmm(self.b, one_hot, self.W).relu_()
