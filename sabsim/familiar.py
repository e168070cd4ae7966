"""The familiar range: where each unit's cell state c has been while learning. An evaluation does not leave it.

Over a stretch longer than any that was learned from, a unit that hardly forgets winds up further than it ever did, since no
learning signal has told it to stop. The state then moves where nothing was learned, and the answers with it. A bound that
is the same for all units would have to be part of the cell; this one is what the learner itself has met.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .network import Parameters
from .window import Window

FADING = 16.0
"""The range narrows by this over the number of steps so far, per step, unless states renew it: by what was met at step t it
is wider by a share (t / now)^16, so that the parameters of long ago do not matter. No length of a sequence enters."""
MOST = 0.5
"""Share of its width by which either end moves at most: to the middle."""
SLACK = 0.1
"""Share of its width by which a state may be outside: without, rare states of the sequences learned from would be cut."""


class FamiliarRange:
    """The range of c: ``low`` and ``high`` (n,), after ``steps`` () steps. While low > high nothing is known yet.

    ``strange`` (B, 1): above 0 for streams that have explored in the block under way; their states do not count, since an
    evaluation never explores. A cell without c has no range: nothing happens.
    """

    def __init__(self, parameters: Parameters, *, streams: int) -> None:
        like = parameters.flat
        width = parameters.network.hidden if parameters.cell.has_c else 0
        self.arrays = {
            "low": like.new_full((width,), torch.inf),
            "high": like.new_full((width,), -torch.inf),
            "steps": torch.zeros((), dtype=torch.int64, device=like.device),
        }
        self.strange = like.new_zeros(streams, 1)

    def follow(self, window: Window, exploring: Tensor | None) -> None:
        """Takes in the states from which the steps of the finished block went on.

        ``exploring`` (B, 1): above 0 for streams that begin the next block exploring; None: none ever does.
        """
        low, high = self.arrays["low"], self.arrays["high"]
        if not len(low):
            return
        steps = self.arrays["steps"].add_(window.block)
        rate = (FADING * window.block / steps.to(low.dtype)).clamp_max_(MOST)
        # Narrowing a range that is not known yet gives NaN, which fmin and fmax pass over.
        narrow_low, narrow_high = torch.lerp(low, high, rate), torch.lerp(high, low, rate)
        c = window.rings["c"][window.history : window.end]
        least, most = (torch.where(self.strange > 0, far, c).flatten(0, 1) for far in (torch.inf, -torch.inf))
        torch.fmin(least.amin(0), narrow_low, out=low)
        torch.fmax(most.amax(0), narrow_high, out=high)
        if exploring is not None:
            self.strange.copy_(exploring)

    def begin(self, exploring: Tensor, *, first: bool) -> None:
        """Streams have begun sequences, and ``exploring`` (B, 1) says who explores now.

        ``first``: before the first step of the block, so that what went before it does not count.
        """
        if first:
            self.strange.copy_(exploring)
        else:
            torch.maximum(self.strange, exploring, out=self.strange)

    def hold(self, c: Tensor) -> None:
        """Moves c (B, n) to the nearest state that is in the range, or outside by no more than the slack, in place."""
        low, high = self.arrays["low"], self.arrays["high"]
        known, slack = low <= high, SLACK * (high - low)
        c.clamp_(torch.where(known, low - slack, -torch.inf), torch.where(known, high + slack, torch.inf))
