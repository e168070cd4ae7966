"""The native counterparts of what follows a stream without learning: the usual input, the familiar range, the watch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..familiar import FADING, MOST, FamiliarRange
from ..network import Parameters
from ..usual import MEMORY, UsualInput
from ..watch import WATCHED, Watch
from ..window import Window
from .bindings import Calls


class NativeUsual(UsualInput):
    """The usual input; the states it would have led to are found by ``score_block``."""

    def __init__(self, calls: Calls, parameters: Parameters, **sizes: int) -> None:
        super().__init__(parameters, **sizes)
        self._calls = calls
        d, n, rows = parameters.network.d_in, parameters.network.hidden, self.rows
        calls.learner.bind(usual_mean=self.arrays["mean"], usual_steps=self.arrays["steps"], usual_h=self._h_hat)
        calls.learner.bind(usual_c=self._c_next)
        calls.scratch(usual_xh=(rows, d + n), usual_gates=(rows, 4 * n), usual_tanh_c=(rows, n), usual_before=(rows, n))
        calls.scratch(usual_place=(rows,))

    def follow(self, window: Window) -> None:
        self._calls.follow(self._calls.at, MEMORY)


class NativeFamiliar(FamiliarRange):
    """The familiar range; only following it is native."""

    def __init__(self, calls: Calls, parameters: Parameters, *, streams: int) -> None:
        super().__init__(parameters, streams=streams)
        self._calls = calls
        calls.learner.bind(familiar_low=self.arrays["low"], familiar_high=self.arrays["high"], strange=self.strange)

    def follow(self, window: Window, exploring: Tensor | None) -> None:
        steps = int(self.arrays["steps"].add_(window.block))
        self._calls.familiar(self._calls.at, min(MOST, FADING * window.block / steps))
        if exploring is not None:
            self.strange.copy_(exploring)


class NativeWatch(Watch):
    """The watch for NaN and infinity."""

    def __init__(self, calls: Calls, streams: int, device: torch.device) -> None:
        super().__init__(streams, device)
        self._calls = calls

    def look(self, window: Window, finite_gradient: Tensor) -> None:
        place = self._calls.look(self._calls.at)
        if place < 0 and bool(finite_gradient):
            return
        if int(self.fault) == -1:
            begun = int(window.origin) + window.history
            first = begun * len(WATCHED) * self.streams
            self.fault.fill_(first + place if place >= 0 else -2 - window.block - begun)
