"""Dropout (Srivastava et al. 2014): while learning, a random part of what the readout reads, [h ; s], is left out.

What leads from state to state is not touched (Zaremba et al. 2014, arXiv 1409.2329), nor is what a microstate holds: a
replay runs the same steps again, and needs no record of what was left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import ConfigError


class Dropout:
    """Which of the readout's inputs count in a block, drawn anew for every block and stream.

    ``share``: of the inputs left out; those that stay are multiplied by 1 / (1 - share), so that their expectation stays.
    ``mask`` (B, w): 0 or that factor, with w the width of the readout's input.

    Raises ConfigError: a share outside [0, 1).
    """

    def __init__(self, share: float, *, streams: int, width: int, like: Tensor) -> None:
        if not 0 <= share < 1:
            raise ConfigError(f"dropout = {share}: must be in [0, 1)")
        self.share = share
        self.mask = like.new_ones(streams, width)

    def draw(self, generator: torch.Generator) -> None:
        """Before a block: what it leaves out."""
        self.mask.bernoulli_(1 - self.share, generator=generator).div_(1 - self.share)
