"""The recorder: from blocks of steps to rows of the run's tables.

Sequences of the first streams are followed one by one; single steps and remindings are written for one
sequence in `record_every` only, so that a table grows by a few bytes per sequence.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from sabsim.errors import NonFiniteError
from sabsim.replay import ReplayEvents
from sabsim.runs.buffers import Array, Block, Buffers
from sabsim.runs.database import Row, RunDatabase, hidden_blob
from sabsim.tasks import Score, TaskStep
from sabsim.views import ReadEvents

REMINDING_THRESHOLD = 0.05
"""Remindings of a smaller recall weight are not written."""


@dataclass
class Followed:
    """Where a recorded stream stands. `starts`: first steps of its last episodes, the current one last."""

    episode: int = -1
    starts: list[int] = field(default_factory=list)

    def begin(self, step: int, reach: int) -> None:
        """The next episode begins at `step`; starts that no later event can need are forgotten."""
        self.episode += 1
        self.starts.append(step)
        while len(self.starts) > 1 and self.starts[1] < step - reach:
            del self.starts[0]

    def episode_at(self, step: int) -> int:
        """The episode that `step` belongs to."""
        return self.episode - len(self.starts) + bisect_right(self.starts, step)


@dataclass
class Sequence(Followed):
    """A recorded stream of a task, whose episodes are sequences, with the sums over the current one."""

    open: bool = False
    loss: float = 0.0
    metric: float = 0.0
    count: float = 0.0

    def begin(self, step: int, reach: int) -> None:
        super().begin(step, reach)
        self.open = True
        self.loss = self.metric = self.count = 0.0


@dataclass
class Totals:
    """Sums over all streams since the last evaluation."""

    loss: float = 0.0
    metric: float = 0.0
    count: float = 0.0
    replays: int = 0


class Recorder:
    """Takes every step of the run and writes rows when told to `flush`.

    Arguments:
        buffers: where steps wait for the flush
        database: where rows go
        every: of a recorded stream, write the steps and remindings of one sequence in so many
        reach: steps that a replay event's step may lie back
    """

    def __init__(self, *, buffers: Buffers, database: RunDatabase, every: int, reach: int) -> None:
        self.buffers, self.database = buffers, database
        self._every, self._reach = every, reach
        self._sequences = [Sequence() for _ in range(buffers.recorded)]
        self._start = 0
        self.totals = Totals()

    @property
    def wants_reads(self) -> bool:
        """Whether what the next steps read may be written; the same from one flush to the next."""
        return any(
            (seq.open and seq.episode % self._every == 0) or (seq.episode + 1) % self._every == 0 for seq in self._sequences
        )

    @property
    def wants_hidden(self) -> bool:
        """Whether the hidden states of the next steps may be written; the same from one flush to the next."""
        return self.buffers.keeps_hidden and self.wants_reads

    def take(
        self,
        step: TaskStep,
        score: Score,
        read: ReadEvents | None,
        events: ReplayEvents | None,
        hidden: torch.Tensor | None = None,
    ) -> None:
        """Keep one step: its score, what it read and its state (if wanted), and what was replayed after it."""
        self.buffers.add_step(step, score)
        if hidden is not None:
            self.buffers.add_hidden(hidden)
        if read is not None:
            self.buffers.add_read(read)
        if events is not None:
            self.buffers.add_replays(events)

    def take_block(
        self,
        steps: TaskStep,
        score: Score,
        read: ReadEvents | None,
        events: ReplayEvents | None,
        hidden: torch.Tensor | None = None,
    ) -> None:
        """Keep the steps of a whole block, as `take` one by one; `events` are of the update at its end."""
        self.buffers.add_block(steps, score, read, hidden)
        if events is not None:
            self.buffers.add_replays(events)

    def flush(self) -> None:
        """Write the rows of the steps taken since the last flush.

        Raises:
            NonFiniteError: a loss is NaN or infinite; nothing of the block is written
            StorageError: the disk refuses
        """
        block = self.buffers.drain()
        if block.fault is not None:
            step, stream = block.fault
            raise NonFiniteError(f"loss is not finite at step {self._start + step}, stream {stream}")
        loss, metric, count = block.sums
        self.totals.loss += loss
        self.totals.metric += metric
        self.totals.count += count
        self.totals.replays += block.replayed
        for stream, sequence in enumerate(self._sequences):
            self._follow(block, stream, sequence)
        self._write_replays(block)
        self._start += len(block.loss)

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the rows to come, as JSON; only right after a flush."""
        return {
            "start": self._start,
            "totals": asdict(self.totals),
            "sequences": [asdict(sequence) for sequence in self._sequences],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the recorder that gave `state` stood."""
        self._start = state["start"]
        self.totals = Totals(**state["totals"])
        self._sequences = [Sequence(**sequence) for sequence in state["sequences"]]

    def _follow(self, block: Block, stream: int, sequence: Sequence) -> None:
        """Walk a stream's block from mark to mark: parts of sequences, each written and summed up."""
        n = len(block.loss)
        first, after = np.flatnonzero(block.first[:, stream]), 1 + np.flatnonzero(block.last[:, stream])
        marks = sorted({0, *first.tolist(), *after.tolist(), n})
        for begin, end in pairwise(marks):
            if block.first[begin, stream]:
                sequence.begin(self._start + begin, self._reach)
            if not sequence.open:
                continue
            part = slice(begin, end)
            sequence.loss += float(block.loss[part, stream].sum())
            sequence.metric += float(block.metric[part, stream].sum())
            sequence.count += float(block.count[part, stream].sum())
            if sequence.episode % self._every == 0:
                self._write_steps(block, part, stream, sequence)
                self._write_remindings(block, part, stream, sequence)
                self._write_hidden(block, part, stream)
            if block.last[end - 1, stream]:
                sequence.open = False
                self._write_episode(stream, sequence, self._start + end - 1)

    def _write_episode(self, stream: int, sequence: Sequence, last_step: int) -> None:
        metric = sequence.metric / sequence.count if sequence.count else None
        row = (stream, sequence.episode, sequence.starts[-1], last_step, sequence.loss, metric)
        self.database.insert("episodes", [row])

    def _write_steps(self, block: Block, part: slice, stream: int, sequence: Sequence) -> None:
        start = sequence.starts[-1]
        steps = range(self._start + part.start, self._start + part.stop)
        figures = (block.loss, block.metric, block.count)
        loss, metric, count = (figure[part, stream].tolist() for figure in figures)
        self.database.insert(
            "steps",
            [
                (step, stream, sequence.episode, step - start, e, int(k > 0), m / k if k else None)
                for step, e, m, k in zip(steps, loss, metric, count, strict=True)
            ],
        )

    def _write_hidden(self, block: Block, part: slice, stream: int) -> None:
        if block.hidden is None:
            return
        first = self._start + part.start
        states = enumerate(block.hidden[part, stream], first)
        self.database.insert("hidden", [(step, stream, hidden_blob(h)) for step, h in states])

    def _write_remindings(self, block: Block, part: slice, stream: int, sequence: Sequence) -> None:
        if block.weight is None or block.source_step is None:
            return
        weight, source = block.weight[part, stream], block.source_step[part, stream]
        at, k = np.nonzero((weight >= REMINDING_THRESHOLD) & (source >= 0))
        loss = block.loss[part, stream]
        rows: list[Row] = []
        for i, w, origin, e in zip(
            at.tolist(), weight[at, k].tolist(), source[at, k].tolist(), loss[at].tolist(), strict=True
        ):
            step = self._start + part.start + i
            place = (step, stream, sequence.episode, origin, step - origin)
            rows.append(("reminding", *place, w, None, e, None, None, None, None))
        self.database.insert("events", rows)

    def _write_replays(self, block: Block) -> None:
        if block.replays is None:
            return
        events: dict[str, Array] = block.replays
        chosen = np.nonzero(events["valid"] & (events["credit"] > 0))
        column = {name: array[chosen].tolist() for name, array in events.items()}
        rows: list[Row] = []
        for i, (window, stream) in enumerate(zip(chosen[0].tolist(), chosen[1].tolist(), strict=True)):
            step = column["step"][i]
            rows.append(
                (
                    "replay",
                    step,
                    stream,
                    self._sequences[stream].episode_at(step),
                    column["source_step"][i],
                    column["lag"][i],
                    column["weight"][i],
                    column["credit"][i],
                    column["loss"][i],
                    None,
                    None,
                    column["replayed_steps"][i],
                    self._start + block.closed[window],
                )
            )
        self.database.insert("events", rows)


def make_recorder(
    *,
    database: RunDatabase,
    streams: int,
    recorded: int,
    every: int,
    length: int,
    reach: int,
    device: torch.device,
    dtype: torch.dtype,
    hidden: int | None = None,
) -> Recorder:
    """A recorder whose buffers hold one sequence of `length` steps, or `LONGEST_BLOCK` of a longer one.

    `hidden`: units of the hidden states that are recorded too; None: they are not.
    """
    capacity = min(length, LONGEST_BLOCK)
    buffers = Buffers(capacity=capacity, streams=streams, recorded=recorded, device=device, dtype=dtype, hidden=hidden)
    # An event is given its sequence at the flush, up to `capacity` steps after it has happened.
    return Recorder(buffers=buffers, database=database, every=every, reach=reach + capacity)


LONGEST_BLOCK = 1024
"""Steps between two flushes at most."""
