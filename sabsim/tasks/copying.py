"""The copying task: remember ten digits for T steps, then repeat them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sabsim.tasks.base import Task
from sabsim.tasks.stream import StreamOptions, require_int
from sabsim.tasks.symbols import CLASSES, DIGITS, KINDS, RECALLED, SymbolStream, recall_baselines


@dataclass(frozen=True)
class Copying(Task):
    """Copying, of Arjovsky, Shah & Bengio 2016 (arXiv 1511.06464), as in the SAB paper (arXiv 1711.02326).

    A sequence has T + 20 steps. d digit, . blank, ! marker::

        step     0 .. 9       10 .. T+8    T+9    T+10 .. T+19
        input    d0 .. d9     . .. .       !      . .. .
        target   . .. .       . .. .       .      d0 .. d9

    The digits are drawn uniformly from 8. Input is a one-hot code of 10 kinds (8 digits, blank, marker),
    output are logits of 9 classes (8 digits, blank). The loss is the cross entropy at every step, each with
    weight 1/(T + 20); the metric is the accuracy on the last 10 steps.

    Arguments:
        T: steps between the last digit and the first output, the marker among them; at least 1

    Raises:
        ConfigError: T < 1
    """

    T: int = 100

    name: ClassVar[str] = "copying"
    metric: ClassVar[str] = "accuracy"
    d_in: ClassVar[int] = KINDS
    d_out: ClassVar[int] = CLASSES

    def __post_init__(self) -> None:
        require_int("T", self.T, least=1)

    @property
    def length(self) -> int:
        """Steps of one sequence: T + 20."""
        return self.T + 2 * RECALLED

    def baselines(self) -> dict[str, float]:
        """Scores to compare with, explained in `recall_baselines`."""
        return recall_baselines(self.length)

    def _open(self, options: StreamOptions) -> CopyingStream:
        return CopyingStream(self, options)


class CopyingStream(SymbolStream):
    """Endless sequences of the copying task."""

    def __init__(self, task: Copying, options: StreamOptions) -> None:
        blank, marker = RECALLED, RECALLED + 1
        answer = task.T + RECALLED
        digits = torch.arange(RECALLED)
        inputs = torch.full((task.length,), blank)
        inputs[:RECALLED] = digits
        inputs[answer - 1] = marker
        targets = torch.full((task.length,), blank)
        targets[answer:] = digits
        super().__init__(options, inputs=inputs, targets=targets, width=RECALLED)
        source = torch.full((task.length,), -1)
        source[answer:] = digits
        self._source_table = self._by_phase(-1, source, source)

    def sources(self) -> Tensor:
        """Step at which the digit wanted now was shown, `(streams, 1)`: i for output i, -1 before."""
        return self._source_table[self._emitted].unsqueeze(1)

    def _draw_symbols(self, half: int, symbols: Tensor) -> None:
        symbols.random_(0, DIGITS, generator=self._generator)
