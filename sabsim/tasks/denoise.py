"""The denoise task: find ten digits among blanks, remember them, then repeat them in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sabsim.tasks.base import Task
from sabsim.tasks.stream import StreamOptions, require_int
from sabsim.tasks.symbols import BLANK, CLASSES, DIGITS, KINDS, RECALLED, SymbolStream, recall_baselines


@dataclass(frozen=True)
class Denoise(Task):
    """Denoise, of Jing et al. 2019 (GORU, arXiv 1706.02761) as used by Kerg et al. 2020 (arXiv 2006.09471).

    A sequence has T + 20 steps, like copying's. d digit, . blank, ! marker::

        step     0 .. T-1                       T .. T+8    T+9    T+10 .. T+19
        input    . d0 . . d1 . d2 .. d9 .       . .. .      !      . .. .
        target   . .. .                         . .. .      .      d0 .. d9

    The ten digits, drawn uniformly from 8, stand at ten different steps drawn uniformly from the first T,
    and are wanted in the order they came. The noise between them is the blank. Input is a one-hot code of
    10 kinds (8 digits, blank, marker), output are logits of 9 classes (8 digits, blank). The loss is the
    cross entropy at every step, each with weight 1/(T + 20); the metric is the accuracy on the last 10
    steps.

    Marker, blank noise and length are those of the code released with GORU and of that of Kerg et al. Both
    scatter the digits over the first T + 9 steps, here it is the first T. GORU's has 9 kinds of digits and
    draws the places with replacement, so that digits may overwrite each other; Kerg et al. have 8 kinds that
    never coincide, as here.

    Arguments:
        T: steps among which the digits are scattered; at least 10

    Raises:
        ConfigError: T < 10
    """

    T: int = 100

    name: ClassVar[str] = "denoise"
    metric: ClassVar[str] = "accuracy"
    d_in: ClassVar[int] = KINDS
    d_out: ClassVar[int] = CLASSES

    def __post_init__(self) -> None:
        require_int("T", self.T, least=RECALLED)

    @property
    def length(self) -> int:
        """Steps of one sequence: T + 20."""
        return self.T + 2 * RECALLED

    def baselines(self) -> dict[str, float]:
        """Scores to compare with, explained in `recall_baselines`."""
        return recall_baselines(self.length)

    def _open(self, options: StreamOptions) -> DenoiseStream:
        return DenoiseStream(self, options)


class DenoiseStream(SymbolStream):
    """Endless sequences of the denoise task."""

    def __init__(self, task: Denoise, options: StreamOptions) -> None:
        width = task.T + RECALLED  # the first T inputs, then the digits on their own
        blank, marker = width, width + 1
        answer = task.T + RECALLED
        inputs = torch.full((task.length,), blank)
        inputs[: task.T] = torch.arange(task.T)
        inputs[answer - 1] = marker
        targets = torch.full((task.length,), blank)
        targets[answer:] = torch.arange(task.T, width)
        super().__init__(options, inputs=inputs, targets=targets, width=width)
        self._scattered = task.T
        # Places of the digits in the even round, in the odd round, and a row of -1.
        self._places = self._buffer(2 * RECALLED + 1, dtype=torch.int64).fill_(-1)
        even = torch.full((task.length,), 2 * RECALLED)
        odd = even.clone()
        even[answer:] = torch.arange(RECALLED)
        odd[answer:] = torch.arange(RECALLED, 2 * RECALLED)
        self._place_table = self._by_phase(2 * RECALLED, even, odd)

    def sources(self) -> Tensor:
        """Step at which the digit wanted now was shown, `(streams, 1)`; -1 before the answer."""
        return self._places.gather(0, self._place_table[self._emitted].unsqueeze(0)).t()

    def _draw_symbols(self, half: int, symbols: Tensor) -> None:
        inputs, digits = symbols[: self._scattered], symbols[self._scattered :]
        digits.random_(0, DIGITS, generator=self._generator)
        # The ten largest of T random numbers lie at ten different places, all choices equally likely.
        noise = torch.rand(self.streams, self._scattered, generator=self._generator, device=self.device)
        places = noise.topk(RECALLED).indices.sort().values.t()
        inputs.fill_(BLANK).scatter_(0, places, digits)
        self._places[half * RECALLED : (half + 1) * RECALLED] = places

    def _content(self) -> dict[str, Tensor]:
        return {**super()._content(), "places": self._places}
