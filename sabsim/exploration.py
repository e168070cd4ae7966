"""Exploration: Gumbel noise on the choice of what is recalled, in half of the sequences.

Half: were it all, recall without noise would meet states it has never learned from.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Exploration:
    """Noise of ``scale`` for the choices of a block of ``block`` steps, for ``streams`` streams of ``slots`` slots.

    ``arrays``: ``noise`` (block, B, S); ``exploring`` and ``coin`` (B, 1), 1 where this sequence and the next explores.
    """

    def __init__(self, *, block: int, streams: int, slots: int, scale: float, like: Tensor) -> None:
        self.scale = scale
        self.arrays = {
            "noise": like.new_zeros(block, streams, slots),
            "exploring": like.new_ones(streams, 1),
            "coin": like.new_ones(streams, 1),
        }

    def draw(self, generator: torch.Generator) -> None:
        """Before a block: noise for all its choices, and whether the sequences that begin in it explore."""
        noise = self.arrays["noise"].exponential_(generator=generator)
        noise.clamp_min_(1e-30).log_().mul_(-self.scale)
        self.arrays["coin"].bernoulli_(0.5, generator=generator)

    def begin(self, done: Tensor) -> None:
        """The streams in ``done`` (B,) begin a sequence."""
        exploring = self.arrays["exploring"]
        exploring.copy_(torch.where(done.unsqueeze(1), self.arrays["coin"], exploring))

    def noise(self, step: int) -> Tensor:
        """What is added to the scores at a step of the block, ``(B, S)``."""
        return self.arrays["noise"][step] * self.arrays["exploring"]
