"""Centring in C."""

from __future__ import annotations

from torch import Tensor

from ..centring import Centring
from ..network import Parameters
from .bindings import Calls


class NativeCentring(Centring):
    """As ``Centring``, on the same arrays; only the window of a native learner can be followed."""

    def __init__(self, calls: Calls, parameters: Parameters) -> None:
        super().__init__(parameters)
        self._calls = calls

    def _follow_mean(self, h_hat: Tensor, rate: Tensor) -> None:
        mean, direction = self.arrays["mean"], self.arrays["direction"]
        self._calls.usual_state(self._calls.at, float(rate), mean.data_ptr(), direction.data_ptr())

    def _take_out(self, rows: Tensor) -> None:
        self._calls.take_out(*rows.shape, self.arrays["direction"].data_ptr(), rows.data_ptr())
        self._calls.changed()
