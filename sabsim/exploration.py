"""Exploration: recall at a temperature, with Gumbel noise on the choice of what is recalled, in half of the sequences
or, where exploration fades, in fewer and fewer.

Attention that has settled on some microstates gives the others no weight, and so no credit and no reason to be chosen. At a
high temperature every microstate is read now and then, with a weight that lets credit through.

Half: were it all, recall without noise would meet states it has never learned from.
"""

from __future__ import annotations

import torch
from torch import Tensor

MANY_SLOTS = 4_000
"""From this many slots on noise is made from uniform numbers: as random, other numbers, in a quarter of the time."""


class Exploration:
    """Who explores, of ``streams`` streams, and the noise for a block of ``block`` steps and ``slots`` slots.

    ``temperature`` divides the scores of those who explore. ``arrays``: ``noise`` (block, B, S), standard Gumbel;
    ``exploring`` and ``coin`` (B, 1), 1 where this sequence and the next explores; ``sharpness`` (B, 1), what scores are
    multiplied by: 1 / temperature where this sequence explores, else 1.
    """

    def __init__(self, *, block: int, streams: int, slots: int, temperature: float, like: Tensor) -> None:
        self.temperature = temperature
        self.arrays = {
            "noise": like.new_zeros(block, streams, slots),
            "exploring": like.new_ones(streams, 1),
            "coin": like.new_ones(streams, 1),
            "sharpness": like.new_full((streams, 1), 1 / temperature),
        }

    def draw(self, generator: torch.Generator, share: Tensor | float) -> None:
        """Before a block: noise for all its choices, and which sequences explore of those that begin in it: a ``share``."""
        noise = self.arrays["noise"]
        if noise.shape[2] < MANY_SLOTS:
            noise.exponential_(generator=generator).clamp_min_(1e-30)
        else:
            noise.uniform_(generator=generator).clamp_min_(1e-30).log_().neg_()
        noise.log_().neg_()
        self.toss(generator, share)

    def toss(self, generator: torch.Generator, share: Tensor | float) -> None:
        """Whether the sequences that begin in the next block explore."""
        coin = self.arrays["coin"]
        if isinstance(share, Tensor):
            share = share.expand_as(coin)
        coin.bernoulli_(share, generator=generator)

    def begin(self, done: Tensor) -> None:
        """The streams in ``done`` (B,) begin a sequence."""
        exploring = self.arrays["exploring"]
        exploring.copy_(torch.where(done.unsqueeze(1), self.arrays["coin"], exploring))
        self.arrays["sharpness"].copy_(torch.where(exploring > 0, 1 / self.temperature, 1.0))

    def noise(self, step: int) -> Tensor:
        """What is added to the scores, so divided, for the choice at a step of the block, ``(B, S)``."""
        return self.arrays["noise"][step] * self.arrays["exploring"]
