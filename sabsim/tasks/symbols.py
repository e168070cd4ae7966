"""Streams of symbols: one-hot input, a class to name at every step, cross entropy."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from sabsim.tasks.classes import ClassStream
from sabsim.tasks.stream import StreamOptions, TaskStep

DIGITS = 8
"""kinds of digits"""
BLANK = DIGITS
"""the symbol of no meaning, as input and as output"""
MARKER = DIGITS + 1
"""the symbol that asks for the output; input only"""
KINDS = DIGITS + 2
"""kinds of input symbols"""
CLASSES = DIGITS + 1
"""kinds of output symbols"""
RECALLED = 10
"""digits to be remembered in a sequence"""


def recall_baselines(length: int) -> dict[str, float]:
    """What to compare with when ten digits are to be recalled in a sequence of `length` steps.

    "chance accuracy" guesses one of the digits; "one digit remembered accuracy" gets one of the ten right
    and guesses the others (the plateau before learning takes off); "memoryless loss" is the loss of the
    best solution without memory: blank until the marker, then all digits equally likely.
    """
    return {
        "chance accuracy": 1 / DIGITS,
        "one digit remembered accuracy": (1 + (RECALLED - 1) / DIGITS) / RECALLED,
        "memoryless loss": RECALLED * math.log(DIGITS) / length,
    }


class SymbolStream(ClassStream):
    """Sequences over digits, blank and marker, laid out by a fixed plan.

    Each sequence draws `width` symbols. The plan names, for each step, which of them is the input and which
    is the target: 0..width-1 a drawn symbol, `width` the blank, `width + 1` the marker. Every step bears
    the same share of the loss, 1/length; the last ten steps are scored by accuracy.

    Arguments:
        options: how the task is streamed
        inputs, targets: the plan, `(length,)` int64 each
        width: symbols drawn for a sequence
    """

    def __init__(self, options: StreamOptions, *, inputs: Tensor, targets: Tensor, width: int) -> None:
        length = len(inputs)
        super().__init__(
            options,
            weight=torch.full((length,), 1 / length, dtype=torch.float64),
            scored=torch.arange(length) >= length - RECALLED,
            classes=CLASSES,
        )
        # Rows of the content: the even round, the odd round, then blank and marker. One byte a symbol.
        self._width = width
        self._symbols = self._buffer(2 * width + 2, dtype=torch.uint8).fill_(BLANK)
        self._symbols[-1] = MARKER
        plan = torch.stack([inputs, targets])
        even, odd = torch.where(plan < width, plan, plan + width), plan + width
        self._plan = self._by_phase(2 * width, even, odd)

        self._rows = self._buffer(2, dtype=torch.int64)
        self._bytes = self._buffer(2, dtype=torch.uint8)
        self._pair = self._buffer(2, dtype=torch.int64)
        self._one_hot_in = torch.eye(KINDS, dtype=self.dtype, device=self.device)
        self._x = torch.zeros(self.streams, KINDS, dtype=self.dtype, device=self.device)
        scored, first, last = self._flags
        self._step = TaskStep(self._x, self._pair[1], self._weight, scored, first, last)

    @abstractmethod
    def _draw_symbols(self, half: int, symbols: Tensor) -> None:
        """Fill `symbols`, `(width, streams)` uint8, with a sequence for each stream."""

    def _draw(self, half: int) -> None:
        self._draw_symbols(half, self._symbols[half * self._width : (half + 1) * self._width])

    def _look_up(self, phase: Tensor) -> None:
        torch.index_select(self._plan, 1, phase, out=self._rows)
        torch.gather(self._symbols, 0, self._rows, out=self._bytes)
        self._pair.copy_(self._bytes)
        torch.index_select(self._one_hot_in, 0, self._pair[0], out=self._x)

    def _look_up_all(self, phases: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._plan[:, phases]
        inputs, targets = self._symbols.gather(0, rows.flatten(0, 1)).view(rows.shape).long()
        return self._one_hot_in[inputs], targets

    def _content(self) -> dict[str, Tensor]:
        return {"symbols": self._symbols}
