"""Fading: sequences explore as long as exploring costs nothing, and hardly any more once recall has learned what it can.

As long as recall is of no use, those who draw what they recall by chance lose no more than the others, and half of the
sequences may explore. When recall has learned to find what is needed they lose much more, and were it still half of them,
nearly all of the gradient would come from recalls that an evaluation never makes: what was learned is unlearned slowly.

The same comparison tells the optimiser by how much an update is a learning signal: as long as recall has found nothing the
step size must fall slowly, or what is found late is learned too slowly. It must fall all the same, since too large a
step may be what keeps recall from finding anything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .window import Window

HALF = 0.5
"""Share of the sequences that explore at most."""
LEAST = 0.02
"""Of that share this part always explores, so that the comparison goes on."""
COUNT = 4.0
"""An update counts as so many signals times what was found: once recall has found something, the step size soon falls."""
LEAST_FOUND = 0.1
"""As so much it counts even where nothing was found."""
DECAY = 0.9995
"""Decay per block of the sums that are compared: they are those of the last 2,000 blocks or so."""


class Fading:
    """The share of the sequences that begin now which explore: 1/2 max(0.02, 1 - found).

    ``found``: 0-d float64, what recall has found, 1 - loss of those who do not explore / loss of those who do, at least 0;
    0 as long as either kind has not been met. ``counts``: 0-d float64, 4 max(0.1, found), as how many signals an update
    counts for the optimiser's schedule. Both change with each finished block. Losses are running means over steps, of their
    absolute values (an agent's are TD errors). ``arrays``: ``sums`` (4,) float64, the losses and steps of those who do not
    explore, then of those who do; ``before`` (B, 1), above 0 for streams that explored when the block began.
    """

    def __init__(self, *, block: int, streams: int, like: Tensor) -> None:
        self.arrays = {
            "sums": torch.zeros(4, dtype=torch.float64, device=like.device),
            "before": like.new_ones(streams, 1),
        }
        self.found = torch.zeros((), dtype=torch.float64, device=like.device)
        self.counts = torch.full_like(self.found, COUNT * LEAST_FOUND)
        self._to_end = torch.arange(block - 1, -1, -1, device=like.device).unsqueeze(1)

    def follow(self, window: Window, exploring: Tensor) -> None:
        """Takes in the finished block; ``exploring`` (B, 1): above 0 for streams that explore at its end."""
        sums, before = self.arrays["sums"], self.arrays["before"]
        block = slice(window.history, window.end)
        loss, local = window.rings["loss"][block].abs(), window.rings["local"][block]
        # A step belongs to the sequence of the block's end if its number in the sequence says so, else to the one before.
        these = torch.where(local + self._to_end == local[-1], exploring.squeeze(1), before.squeeze(1))
        lost, steps = (loss * these).sum(), these.sum()
        sums.mul_(DECAY).add_(torch.stack([loss.sum() - lost, these.numel() - steps, lost, steps]))
        before.copy_(exploring)
        self.refresh()

    def refresh(self) -> None:
        """Makes ``found`` and ``counts`` those of the sums, after another hand has changed these."""
        lost, steps, exploring_lost, exploring_steps = self.arrays["sums"].unbind()
        ratio = (lost * exploring_steps) / (exploring_lost * steps)
        self.found.copy_(1 - torch.nan_to_num(ratio, nan=1.0, posinf=1.0).clamp(max=1.0))
        torch.clamp(self.found, min=LEAST_FOUND, out=self.counts).mul_(COUNT)

    @property
    def share(self) -> Tensor:
        """The share now, 0-d."""
        return (1 - self.found).clamp(min=LEAST) * HALF
