"""The adding problem: remember two marked numbers, then give their sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sabsim.tasks.base import Task
from sabsim.tasks.rounds import SequenceStream
from sabsim.tasks.stream import Score, StreamOptions, TaskStep, require_int


@dataclass(frozen=True)
class Adding(Task):
    """Adding, of Hochreiter & Schmidhuber 1997 as in section 4 of the SAB paper (arXiv 1711.02326).

    A sequence has T steps. Each shows a number drawn uniformly from [0, 1) and a mark, 0 or 1. Two steps
    are marked, one drawn uniformly from the first half (steps 0 .. T//2 - 1) and one from the second. The
    target of the last step is the sum of the two marked numbers; the squared error there is the loss, and
    the metric (mse). The other steps bear no loss; their target is 0.

    Arguments:
        T: steps of a sequence; at least 4, so that either half has two

    Raises:
        ConfigError: T < 4
    """

    T: int = 200

    name: ClassVar[str] = "adding"
    metric: ClassVar[str] = "mse"
    d_in: ClassVar[int] = 2
    d_out: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require_int("T", self.T, least=4)

    @property
    def length(self) -> int:
        """Steps of one sequence: T."""
        return self.T

    def baselines(self) -> dict[str, float]:
        """Scores to compare with.

        "always one mse" answers 1, the mean of the sum, whatever the input (variance of the sum: 2/12);
        "one number remembered mse" answers one of the numbers plus 1/2.
        """
        return {"always one mse": 1 / 6, "one number remembered mse": 1 / 12}

    def _open(self, options: StreamOptions) -> AddingStream:
        return AddingStream(self, options)


class AddingStream(SequenceStream):
    """Endless sequences of the adding problem.

    Two rounds of numbers are kept, `2 * T * streams` of them.
    """

    def __init__(self, task: Adding, options: StreamOptions) -> None:
        step = torch.arange(task.T)
        at_end = step == task.T - 1
        super().__init__(options, weight=at_end.to(torch.float64), scored=at_end)
        self._half = task.T // 2
        # Numbers and marks of the even round, of the odd round, and a row of zeros for idle streams.
        self._numbers = self._buffer(2 * task.T + 1)
        self._marks = torch.zeros_like(self._numbers)
        self._row_table = self._by_phase(2 * task.T, step, step + task.T)
        # Sums of the even and of the odd round, and zeros for the steps before the last.
        self._sums = self._buffer(3)
        even, odd = torch.where(at_end, 0, 2), torch.where(at_end, 1, 2)
        self._sum_table = self._by_phase(2, even, odd)
        # Marked steps of the even and of the odd round, and -1 for the steps before the last.
        self._places = self._buffer(3, 2, dtype=torch.int64).fill_(-1)

        self._row = self._buffer(1, dtype=torch.int64)
        self._columns = self._buffer(2)
        self._x = torch.zeros(self.streams, 2, dtype=self.dtype, device=self.device)
        self._target = self._buffer(1)
        scored, first, last = self._flags
        self._step = TaskStep(self._x, self._target[0], self._weight, scored, first, last)

        self._gradient = torch.zeros(self.streams, 1, dtype=self.dtype, device=self.device)
        self._score = Score(self._loss, self._gradient, self._metric, self._count)

    def score(self, y: Tensor, step: TaskStep) -> Score:
        """Squared error of `y`, `(streams, 1)`; its gradient is 2 (y - target) * weight / streams."""
        error = y.detach()[:, 0] - step.target
        torch.mul(error, step.weight, out=self._gradient[:, 0])
        torch.mul(error, self._gradient[:, 0], out=self._loss)
        self._gradient.mul_(2 / self.streams)
        self._count.copy_(step.scored)
        torch.mul(error.square_(), self._count, out=self._metric)
        return self._score

    def sources(self) -> Tensor:
        """The two marked steps, `(streams, 2)`; -1 but at the last step."""
        rows = self._sum_table[self._emitted].expand(1, 2, -1)
        return self._places.gather(0, rows)[0].t()

    def _draw(self, half: int) -> None:
        rows = slice(half * self._steps, (half + 1) * self._steps)
        numbers, marks, places = self._numbers[rows], self._marks[rows], self._places[half]
        numbers.uniform_(generator=self._generator)
        places[0].random_(0, self._half, generator=self._generator)
        places[1].random_(self._half, self._steps, generator=self._generator)
        marks.zero_().scatter_(0, places, 1.0)
        torch.sum(numbers.gather(0, places), 0, out=self._sums[half])

    def _look_up(self, phase: Tensor) -> None:
        torch.index_select(self._row_table, 0, phase, out=self._row[0])
        torch.gather(self._numbers, 0, self._row, out=self._columns[:1])
        torch.gather(self._marks, 0, self._row, out=self._columns[1:])
        self._x.copy_(self._columns.t())
        torch.index_select(self._sum_table, 0, phase, out=self._row[0])
        torch.gather(self._sums, 0, self._row, out=self._target)

    def _content(self) -> dict[str, Tensor]:
        return {"numbers": self._numbers, "marks": self._marks, "sums": self._sums, "places": self._places}
