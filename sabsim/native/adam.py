"""Adam as one C call over the flat vectors."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from ..optim import LEAST_USUAL, OUTLIER, USUAL_DECAY, Adam, OptimState, Schedule
from .bindings import Calls, Struct

_SCHEDULES = get_args(Schedule)  # in the order of the enum in optimizer.c
_NUMBERS = ("lr", "beta_1", "beta_2", "eps", "clip", "spike", "lr_floor", "weight_decay")


class NativeAdam:
    """``update`` as that of the ``Adam`` it is made from, on the same state."""

    def __init__(self, calls: Calls, adam: Adam) -> None:
        self._calls, self._struct = calls, Struct("Adam", calls.like.dtype)
        self._struct.set(**{name: getattr(adam, name) for name in _NUMBERS})
        self._struct.set(usual_decay=USUAL_DECAY, outlier=OUTLIER, least_usual=LEAST_USUAL, average_decay=adam.average)
        self._struct.set(schedule=_SCHEDULES.index(adam.schedule), decay_updates=adam.decay_updates, restarts=adam.restarts)
        self._struct.set(warmup_updates=adam.warmup_updates)
        self._struct.set(size=calls.like.numel(), amsgrad=adam.amsgrad)
        self._finite = (torch.tensor(False), torch.tensor(True))

    def update(
        self,
        flat: Tensor,
        grad: Tensor,
        state: OptimState,
        proceed: Tensor | None,
        decaying: Tensor | None,
        counts: Tensor | None,
    ) -> Tensor:
        """See ``Optimizer.update``; binds the tensors it is given first."""
        if not self._struct.tensors:
            self._struct.bind(flat=flat, grad=grad, **state)
            if counts is not None:
                self._struct.bind(counts=counts)
            if decaying is not None:
                first = int(decaying.storage_offset())
                self._struct.set(decay_first=first, decay_last=first + decaying.numel())
        finite = self._calls.adam(self._struct.address, -1 if proceed is None else int(proceed))
        if proceed is None or proceed:
            self._calls.changed()
        return self._finite[finite]
