"""Sequences of equal length, drawn in rounds: what tasks of finite sequences have in common.

Round n holds the n-th sequence of every stream and is drawn when the first stream may need it, once in
a period. Staggered streams overlap two rounds, so two are kept, the even and the odd one. Which
sequences a stream meets therefore does not depend on how the streams are staggered.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from sabsim.tasks.stream import StateDict, StreamOptions, TaskStep, TaskStream, derive_seed, joined

_OFFSETS = 1  # spawn key: what a derived seed is for


class SequenceStream(TaskStream):
    """Endless sequences of one task, of equally many steps each.

    `length` is the period: the steps of a sequence and those of the gap after it, in which a stream idles.

    Arguments:
        options: how the task is streamed
        weight: loss weight of each step of a sequence, `(steps,)`
        scored: whether each step of a sequence counts for the metric, `(steps,)` bool
    """

    def __init__(self, options: StreamOptions, *, weight: Tensor, scored: Tensor) -> None:
        super().__init__(options, length=len(weight) + options.gap)
        self._steps = len(weight)
        """of a sequence"""
        self._offsets = torch.from_numpy(_spread(self.length, options) * int(options.stagger))
        self._count_ends()
        # A stream's phase is its place in the tables below: idle (0..P-1, P the period), then the steps of an even
        # round (P..2P-1) and of an odd one (2P..3P-1), and from there back to P.
        self._phase = self.length - self._offsets.to(self.device)
        self._emitted = self._phase.clone()
        self._following = torch.arange(1, 3 * self.length + 1, device=self.device)
        self._following[-1] = self.length
        step = torch.arange(self._steps)
        flags = torch.stack([scored, step == 0, step == self._steps - 1])
        weight = weight.to(self.dtype)
        self._flag_table = self._by_phase(False, flags, flags)
        self._weight_table = self._by_phase(0.0, weight, weight)
        self._position_table = self._by_phase(-1, step, step)

    def next(self) -> TaskStep:
        """The next step of every stream."""
        if self.clock % self.length == 0:
            self._draw(self.clock // self.length % 2)
        torch.index_select(self._flag_table, 1, self._phase, out=self._flags)
        torch.index_select(self._weight_table, 0, self._phase, out=self._weight)
        self._look_up(self._phase)
        torch.index_select(self._following, 0, self._phase, out=self._emitted)
        self._phase, self._emitted = self._emitted, self._phase
        self.clock += 1
        ended = self._ended_at(self.clock)
        if ended:
            self.completed += ended
            self.sequences.add_(ended)
        return self._step

    def take(self, count: int) -> TaskStep:
        """The next `count` steps at once; every tensor has a leading axis of steps."""
        parts = []
        while count:
            into = self.clock % self.length
            if into == 0:
                self._draw(self.clock // self.length % 2)
            # Within a round nothing is drawn, so that all its steps can be looked up together.
            n = min(count, self.length - into)
            parts.append(self._take_within_round(n))
            count -= n
        return joined(parts)

    def _take_within_round(self, count: int) -> TaskStep:
        ahead = torch.arange(count, device=self.device).unsqueeze(1) + self._phase
        phases = torch.where(ahead < 3 * self.length, ahead, ahead - 2 * self.length)
        x, target = self._look_up_all(phases)
        scored, first, last = self._flag_table[:, phases]
        torch.index_select(self._following, 0, phases[-1], out=self._phase)
        self._emitted.copy_(phases[-1])
        ended = sum(self._ended_at(clock) for clock in range(self.clock + 1, self.clock + count + 1))
        self.clock += count
        self.completed += ended
        self.sequences.add_(ended)
        return TaskStep(x, target, self._weight_table[phases], scored, first, last)

    def begins_at(self, clock: int) -> bool:
        """Whether any stream begins a sequence at the step given at `clock`; known without asking the device."""
        return bool(self._begin[clock % self.length])

    def positions(self) -> Tensor:
        """Position of the last step in its sequence, `(streams,)` int64; -1 where a stream idles."""
        return self._position_table[self._emitted]

    def load_state_dict(self, state: StateDict) -> None:
        """Continue exactly where the stream that gave `state` stood.

        Raises:
            ConfigError: an entry is missing or does not fit this stream, which then stays as it was
        """
        super().load_state_dict(state)
        self._count_ends()

    @abstractmethod
    def _draw(self, half: int) -> None:
        """Draw a round of sequences into the even (0) or odd (1) half of the content."""

    @abstractmethod
    def _look_up(self, phase: Tensor) -> None:
        """Fill input and target of the streams at `phase`, `(streams,)`."""

    def _look_up_all(self, phases: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets of streams at `phases`, `(steps, streams)`, each with that leading axis."""
        found = []
        for phase in phases:
            self._look_up(phase)
            found.append((self._step.x.clone(), self._step.target.clone()))
        x, target = (torch.stack(parts) for parts in zip(*found, strict=True))
        return x, target

    @abstractmethod
    def _content(self) -> dict[str, Tensor]:
        """The buffers that hold the two rounds."""

    def _buffers(self) -> dict[str, Tensor]:
        return {"offsets": self._offsets, "phase": self._phase, "emitted": self._emitted, **self._content()}

    def _by_phase(self, idle: float, even: Tensor, odd: Tensor) -> Tensor:
        """A table over phases, `(..., 3 * length)`: what holds when idle, and at each step of an even and an odd round.

        Arguments:
            even, odd: `(..., steps)`; the gap is idle
        """
        gap = (*even.shape[:-1], self.length - self._steps)
        parts = [even.new_full((*even.shape[:-1], self.length), idle)]
        for shown in (even, odd):
            parts += [shown, shown.new_full(gap, idle)]
        return torch.cat(parts, dim=-1).to(self.device)

    def _count_ends(self) -> None:
        """How many streams begin and end a sequence at each remainder of the clock by the period."""
        ends = (self._offsets + self._steps) % self.length
        self._begin: list[int] = torch.bincount(self._offsets, minlength=self.length).tolist()
        self._end: list[int] = torch.bincount(ends, minlength=self.length).tolist()

    def _ended_at(self, clock: int) -> int:
        """Streams whose sequence ended with the step before `clock`; before one can have ended there are none."""
        return self._end[clock % self.length] if clock >= self._steps else 0


def _spread(length: int, options: StreamOptions) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Phases for the streams: a random start, then steps of the golden section of the period.

    So the phases of any number of streams lie evenly over the period, and take every remainder modulo a learner's
    block of updates about equally often; independent draws would leave out one remainder of five for every sixth seed
    of 8 streams.
    """
    start = np.random.default_rng(derive_seed(options.seed, _OFFSETS)).random()
    turns = start + np.arange(options.streams) * (5**0.5 - 1) / 2
    return np.floor(length * (turns % 1.0)).astype(np.int64)
