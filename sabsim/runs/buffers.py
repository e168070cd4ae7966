"""Device buffers of the recorder: what a step shows is copied here, and leaves the device in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sabsim.replay import ReplayEvents
from sabsim.tasks import Score, TaskStep
from sabsim.views import ReadEvents

Array = NDArray[Any]

_REPLAY_FIELDS = ("step", "source_step", "lag", "weight", "credit", "loss", "replayed_steps", "valid")


@dataclass(frozen=True)
class Block:
    """A block of n steps of B streams on the host, of which the first R are recorded.

    `sums`: of loss, metric and count over all of them; `fault`: first step and stream whose loss is not finite, or None.
    `loss`, `metric`, `count` `(n, R)`; `first`, `last` `(n, R)` bool; `weight`, `source_step` `(n, R, K)`, or
    None where no reading was kept; `hidden` `(n, R, hidden)`, or None where no state was kept; `replays`: each field of
    `ReplayEvents` `(w, R, replays)` for w windows, or None where none closed; `closed`: step of the block with which each
    of these closed. `replayed`: segments replayed in all streams.
    """

    sums: tuple[float, float, float]
    fault: tuple[int, int] | None
    loss: Array
    metric: Array
    count: Array
    first: Array
    last: Array
    weight: Array | None
    source_step: Array | None
    hidden: Array | None
    replays: dict[str, Array] | None
    closed: list[int]
    replayed: int


class Buffers:
    """Room for `capacity` steps; adding copies on the device and never waits for it.

    Arguments:
        capacity: steps held at most
        streams: B, all of which are scored
        recorded: R <= B, the first of which are also recorded in detail
        hidden: units of the hidden states that are kept as well; None: they are not
    """

    def __init__(
        self,
        *,
        capacity: int,
        streams: int,
        recorded: int,
        device: torch.device,
        dtype: torch.dtype,
        hidden: int | None = None,
    ) -> None:
        self.capacity, self.recorded, self.device = capacity, recorded, device
        self._steps = 0
        self._windows = 0
        self._closed: list[int] = []
        self._read_steps = 0
        self._hidden_steps = 0
        self._scores = torch.zeros(3, capacity, streams, dtype=dtype, device=device)
        self._flags = torch.zeros(2, capacity, recorded, dtype=torch.bool, device=device)
        # Rows are cut out once: cutting one out at every step would cost more than the copy.
        self._score_rows = [part.unbind(0) for part in self._scores]
        self._flag_rows = [part.unbind(0) for part in self._flags]
        self._read: tuple[Tensor, Tensor] | None = None
        self._hidden: Tensor | None = None
        if hidden is not None:
            self._hidden = torch.zeros(capacity, recorded, hidden, dtype=dtype, device=device)
        self._replays: dict[str, Tensor] | None = None
        self._replayed = torch.zeros((), dtype=torch.int64, device=device)

    def add_step(self, step: TaskStep, score: Score) -> None:
        """Keep loss, metric and sequence marks of one step."""
        at = self._steps
        loss, metric, count = self._score_rows
        loss[at].copy_(score.loss)
        metric[at].copy_(score.metric_sum)
        count[at].copy_(score.count)
        if self.recorded:
            first, last = self._flag_rows
            first[at].copy_(step.first[: self.recorded])
            last[at].copy_(step.last[: self.recorded])
        self._steps += 1

    def add_read(self, read: ReadEvents) -> None:
        """Keep what the step that `add_step` took last has read."""
        weight, source = self._read_buffers(read)
        weight[self._steps - 1] = read.weight[: self.recorded]
        source[self._steps - 1] = read.source_step[: self.recorded]
        self._read_steps += 1

    def _read_buffers(self, read: ReadEvents) -> tuple[Tensor, Tensor]:
        if self._read is None:
            shape = (self.capacity, self.recorded, read.weight.shape[-1])
            self._read = (read.weight.new_zeros(shape), read.source_step.new_zeros(shape))
        return self._read

    def add_block(self, steps: TaskStep, score: Score, read: ReadEvents | None, hidden: Tensor | None) -> None:
        """Keep several steps at once, as `add_step`, `add_read` and `add_hidden` would one by one."""
        n, r = len(score.loss), self.recorded
        at = slice(self._steps, self._steps + n)
        for kept, part in zip(self._scores, (score.loss, score.metric_sum, score.count), strict=True):
            kept[at].copy_(part)
        if r:
            for flags, flag in zip(self._flags, (steps.first, steps.last), strict=True):
                flags[at].copy_(flag[:, :r])
        if read is not None:
            for buffer, part in zip(self._read_buffers(read), (read.weight, read.source_step), strict=True):
                buffer[at].copy_(part[:, :r])
            self._read_steps += n
        if hidden is not None and self._hidden is not None:
            self._hidden[at].copy_(hidden[:, :r])
            self._hidden_steps += n
        self._steps += n

    @property
    def keeps_hidden(self) -> bool:
        """Whether hidden states are kept."""
        return self._hidden is not None

    def add_hidden(self, h: Tensor) -> None:
        """Keep the hidden states `(B, hidden)` of the step that `add_step` took last."""
        if self._hidden is not None:
            self._hidden[self._steps - 1].copy_(h[: self.recorded])
            self._hidden_steps += 1

    def add_replays(self, events: ReplayEvents) -> None:
        """Keep the replays of a window that has just closed."""
        if self._replays is None:
            self._replays = {
                name: getattr(events, name).new_zeros((self.capacity, self.recorded, events.valid.shape[1]))
                for name in _REPLAY_FIELDS
            }
        if self.recorded:
            for name, buffer in self._replays.items():
                buffer[self._windows] = getattr(events, name)[: self.recorded]
        self._replayed.add_(events.valid.sum())
        self._closed.append(self._steps - 1)
        self._windows += 1

    def drain(self) -> Block:
        """Everything kept since the last drain, on the host; the buffers are empty afterwards."""
        n, w = self._steps, self._windows
        # All streams are summed where they are; only what is recorded leaves the device.
        of_loss, of_metric, of_count = self._scores[:, :n].double().sum((1, 2)).tolist()
        loss, metric, count = _host(self._scores[:, :n, : self.recorded])
        first, last = _host(self._flags[:, :n])
        # Readings and states are kept for all steps of a block or for none.
        read = self._read if self._read is not None and self._read_steps == n > 0 else None
        hidden = self._hidden if self._hidden is not None and self._hidden_steps == n > 0 else None
        block = Block(
            sums=(of_loss, of_metric, of_count),
            fault=None if isfinite(of_loss) else _first_fault(self._scores[0, :n]),
            loss=loss,
            metric=metric,
            count=count,
            first=first,
            last=last,
            weight=None if read is None else _host(read[0][:n]),
            source_step=None if read is None else _host(read[1][:n]),
            hidden=None if hidden is None else _host(hidden[:n]),
            replays={name: _host(b[:w]) for name, b in self._replays.items()} if w and self._replays else None,
            closed=self._closed,
            replayed=int(self._replayed),
        )
        self._closed = []
        self._steps = self._windows = self._read_steps = self._hidden_steps = 0
        self._replayed.zero_()
        return block


def _first_fault(loss: Tensor) -> tuple[int, int] | None:
    """The first step and stream of `loss`, `(n, B)`, that is not finite."""
    places = (~torch.isfinite(loss)).nonzero()
    return (int(places[0, 0]), int(places[0, 1])) if len(places) else None


def _host(tensor: Tensor) -> Array:
    """A copy as a numpy array, floats in double precision so that sums do not depend on the number format."""
    array: Array = tensor.cpu().numpy()
    return array.astype(np.float64) if tensor.is_floating_point() else array.copy()
