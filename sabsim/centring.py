"""Centring: recall compares what differs from the usual state.

Most of a state is the same at every step, and so most of what the salience's projections W_q and W_k are taught by one step
contradicts what they are taught by the next: steps that ought to recall different microstates pull the image of their
common part to different sides. The little by which they differ, which is what could tell them apart, is small beside that
noise, and Adam divides by all of it. So the common part is taken out (centring, as in Schraudolph 1998, "Centering neural
network gradient factors"); what it was seen to do, and where it did not help, is in docs/decisions.md.

With u the direction of the running mean of h_hat and P = I - u u^T, the salience scores P m and P h_hat in place of m and
h_hat. P is a constant within an update. As W P is as good as W, the parameters hold W P: nothing else needs to know of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import ConfigError
from .network import Parameters
from .usual import count_block
from .window import Window

SHORTEST = 1e-6
"""A mean no longer than this has no direction."""


class Centring:
    """Keeps a salience's projections, ``(n, n)`` each, orthogonal to the usual state.

    ``arrays``: ``mean`` (n,), the running mean of h_hat over all streams and as many steps as that of the usual input;
    ``direction`` (n,), u of the update before, at first 0, so that nothing is taken out; ``steps`` () int64, how many were
    met.

    Raises ConfigError: for a salience without projections.
    """

    def __init__(self, parameters: Parameters) -> None:
        salience, like = parameters.salience, parameters.flat
        if salience is None or not salience.projections:
            name = "none" if salience is None else salience.name
            raise ConfigError(f"centred = True: needs a salience with projections (cosine, dot, mlp); salience is {name}")
        n = parameters.network.hidden
        # They lie side by side in the flat vector, and so are one matrix here.
        first, count = parameters.value["salience"][salience.projections[0]].storage_offset(), len(salience.projections)
        self._rows, self._gradient = (
            flat[first : first + count * n * n].view(count * n, n) for flat in (parameters.flat, parameters.grad)
        )
        self.arrays = {
            "mean": like.new_zeros(n),
            "direction": like.new_zeros(n),
            "steps": torch.zeros((), dtype=torch.int64, device=like.device),
        }

    def confine(self) -> None:
        """Before the optimiser's step: the gradient with respect to W of a loss that sees W P."""
        self._take_out(self._gradient)

    def follow(self, window: Window) -> None:
        """After it: the mean follows the finished block's states, and the parameters become W P."""
        rate = count_block(self.arrays["steps"], window.block, self._rows.dtype)
        self._follow_mean(window.rings["h_hat"][window.history : window.end], rate)
        self._take_out(self._rows)

    def _follow_mean(self, h_hat: Tensor, rate: Tensor) -> None:
        """The mean follows ``h_hat`` (block, B, n) by a share ``rate``, and the direction is its own."""
        states, mean = h_hat.mean((0, 1)), self.arrays["mean"]
        # A state that is not finite ends the run, and must leave the parameters as they are.
        mean.lerp_(torch.where(torch.isfinite(states), states, mean), rate)
        torch.div(mean, torch.linalg.vector_norm(mean).clamp(min=SHORTEST), out=self.arrays["direction"])

    def _take_out(self, rows: Tensor) -> None:
        """Makes every one of the ``rows`` (., n) orthogonal to the direction."""
        direction = self.arrays["direction"]
        rows.addr_(rows @ direction, direction, alpha=-1)
