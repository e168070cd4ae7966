"""The watch for NaN and infinity: which tensor, at which step, in which stream - found without leaving the device."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import NonFiniteError
from .window import Window

WATCHED = ("input x", "learning signal dL/dy", "hidden state h")
"""Tensors looked at in every step of a block, in the order of blame; the gradient comes last."""


class Watch:
    """Remembers in ``fault``, a 0-d int64 tensor, the first place where something was not finite.

    -1: nothing yet. From 0 up: (step, watched tensor, stream) as one number. Below -1: -2 less the global step after the
    block, a gradient whose sum over streams was not finite although every watched tensor was.
    """

    def __init__(self, streams: int, device: torch.device) -> None:
        self.streams = streams
        self.fault = torch.full((), -1, dtype=torch.int64, device=device)

    def look(self, window: Window, finite_gradient: Tensor) -> None:
        """Looks at the finished block."""
        r, block = window.rings, slice(window.history, window.history + window.block)
        sums = (r["xh"][block, :, : window.d_in].sum(2), r["signal"][block].sum(2), r["h_hat"][block].sum(2))
        good = torch.isfinite(torch.stack(sums, dim=1)).flatten()
        begun = window.origin + window.history
        place = begun * (len(WATCHED) * self.streams) + (~good).to(torch.uint8).argmax()
        place = torch.where(good.all(), torch.where(finite_gradient, -1, -2 - window.block - begun), place)
        self.fault.copy_(torch.where(self.fault == -1, place, self.fault))

    def check(self) -> None:
        """Raises NonFiniteError if anything met so far was not finite. Waits for the device."""
        place = int(self.fault)
        if place >= 0:
            step, rest = divmod(place, len(WATCHED) * self.streams)
            tensor, stream = divmod(rest, self.streams)
            raise NonFiniteError(f"{WATCHED[tensor]} is not finite at step {step}, stream {stream}")
        if place < -1:
            raise NonFiniteError(f"gradient is not finite in the update after step {-3 - place}, summed over streams")
