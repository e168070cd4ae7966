"""The usual input, and the states it would have led to: a yardstick for how much an input did.

Retention by novelty asks how far an input moved the state. A state can also move by itself, because recall changes its
mind, and a stretch of such moves would push what was shown out of the memory. So a step is compared with the same step
on the usual input, everything else being equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .network import Parameters
from .window import Window

MEMORY = 1000.0
"""Steps over which the mean input is taken, once as many have been seen."""


class UsualInput:
    """The running mean of the inputs of all streams, ``mean`` (d_in,), after ``steps`` () steps."""

    def __init__(self, parameters: Parameters, *, streams: int, block: int) -> None:
        self.parameters, self.rows = parameters, streams * block
        like, d, n = parameters.flat, parameters.network.d_in, parameters.network.hidden
        self.arrays = {"mean": like.new_zeros(d), "steps": torch.zeros((), dtype=torch.int64, device=like.device)}
        self._place = parameters.cell.places(parameters.cell.tape(1, self.rows, like))[0]
        self._h_hat = like.new_zeros(self.rows, n)
        self._c_next = like.new_zeros(self.rows, n if parameters.cell.has_c else 0)

    def follow(self, window: Window) -> None:
        """Lets the mean follow the inputs of the finished block."""
        steps = self.arrays["steps"].add_(window.block)
        rate = (window.block / steps.to(self.parameters.flat.dtype)).clamp(min=window.block / MEMORY, max=1.0)
        x = window.rings["xh"][window.history : window.history + window.block, :, : window.d_in]
        self.arrays["mean"].lerp_(x.mean((0, 1)), rate)

    def states(self, window: Window) -> Tensor:
        """h_hat of every step of the finished block, had the usual input come instead, ``(block, B, n)``."""
        block = slice(window.history, window.history + window.block)
        xh = window.rings["xh"][block].clone()
        xh[..., : window.d_in] = self.arrays["mean"]
        p, c = self.parameters, window.rings["c"][block].flatten(0, 1)
        p.cell.step(p.value["cell"], xh.flatten(0, 1), c, self._place, self._h_hat, self._c_next)
        return self._h_hat.view(window.block, -1, window.n)
