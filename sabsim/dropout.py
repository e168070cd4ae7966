"""Dropout: while learning, a random part of what is computed is left out, and what remains must do without it.

Of what the readout reads (Srivastava et al. 2014), what leads from state to state is not touched (Zaremba et al. 2014,
arXiv 1409.2329). Of the state that the next step sees (Gal & Ghahramani 2016, arXiv 1512.05287), the same units are left
out from a sequence's first step to its last, so that a replay, which runs some of those steps again, leaves out the same.
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
        self.share = _share("dropout", share)
        self.mask = like.new_ones(streams, width)

    def draw(self, generator: torch.Generator) -> None:
        """Before a block: what it leaves out."""
        _draw(self.mask, self.share, generator)


class RecurrentDropout:
    """Which units of h the next step sees, drawn anew for every sequence and stream. What else a cell carries on is whole.

    ``share``: of the units left out, as for ``Dropout``. ``arrays``: ``carried`` (B, n), 0 or 1 / (1 - share), what h is
    multiplied by on its way into the next step in the sequence that each stream is in; ``coming`` (B, n), the same of those
    that begin in the block under way.

    Raises ConfigError: a share outside [0, 1).
    """

    def __init__(self, share: float, *, streams: int, hidden: int, like: Tensor) -> None:
        self.share = _share("recurrent_dropout", share)
        self.arrays = {name: like.new_ones(streams, hidden) for name in ("carried", "coming")}

    def draw(self, generator: torch.Generator) -> None:
        """Before a block: what the sequences leave out that begin in it."""
        _draw(self.arrays["coming"], self.share, generator)

    def begin(self, done: Tensor) -> None:
        """The streams in ``done`` (B,) begin a sequence."""
        carried = self.arrays["carried"]
        carried.copy_(torch.where(done.unsqueeze(1), self.arrays["coming"], carried))


def _share(name: str, share: float) -> float:
    if not 0 <= share < 1:
        raise ConfigError(f"{name} = {share}: must be in [0, 1)")
    return share


def _draw(mask: Tensor, share: float, generator: torch.Generator) -> None:
    mask.bernoulli_(1 - share, generator=generator).div_(1 - share)
