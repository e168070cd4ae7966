"""Encoders of observations: small torch modules to be put before the learner's cell with ``sabsim.Encoder``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MINIGRID_VIEW = (11, 6, 4) * 49
"""How many kinds each number of a MiniGrid view has: object, colour and state of 7 x 7 cells."""


class SymbolEncoder(nn.Module):
    """x = relu(W o + b), where o joins a one-hot vector for each number of the observation.

    The numbers of a grid view name kinds of things; as magnitudes they would make a key a little more than a door. The
    product with W is a sum of as many of its rows as the observation has numbers.

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
        places = observation.flatten(1) + self.offsets
        return torch.relu_(nn.functional.embedding_bag(places, self.W, mode="sum") + self.b)
