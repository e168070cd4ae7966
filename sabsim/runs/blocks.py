"""A task's stream played to a learner a block at a time; on a CUDA device a block is one CUDA graph.

Where queueing an operation costs more than the operation, steps one by one leave the device idle. Here the inputs of many
steps are made at once, a block of steps is queued as one graph (as in `sabsim.graph`), and its outputs are scored together,
which serves a CPU as well. The results are those of single steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from sabsim.attentive import AttentiveLearner
from sabsim.graph import capture, first_line, warm_up
from sabsim.learner import StreamingLearner
from sabsim.replay import ReplayEvents
from sabsim.tasks import Score, TaskStep, TaskStream

Played = tuple[Score, ReplayEvents | None]
"""Of a block: its scores, `(block, streams)` each, and the replays of the update at its end. The next overwrites them."""

_log = logging.getLogger("sabsim")


class Blocks:
    """Plays whole blocks of `learner.credit.block` steps; the learner must be between two blocks.

    There are up to three graphs, each captured when it is first needed: of blocks in which no sequence begins, of those in
    which some do at the first step, and of others.
    `reason` says why blocks are queued step by step, in one line that is logged as well; None while nothing has failed.

    Arguments:
        learner: learns, or is an evaluator
        stream: scores the outputs; its steps are given to `play`
    """

    def __init__(self, learner: StreamingLearner | AttentiveLearner, stream: TaskStream) -> None:
        self.size = learner.credit.block
        self._learner, self._stream = learner, stream
        like = learner.flat
        self._y = like.new_zeros(self.size, learner.streams, learner.network.d_out)  # of steps taken one by one
        self._given: TaskStep | None = None
        self._graphs: dict[int, tuple[Callable[[], None], Played]] = {}
        self.reason = None if learner.device.type == "cuda" else f"the device is {learner.device.type}"

    def play(self, steps: TaskStep, *, begins: int) -> Played:
        """One block: `steps` with a leading axis of `size`; `begins`: what `begin_within` says of it."""
        begins = min(begins, 2)
        given = self._fill(steps)
        if self.reason is None and self._learner.block_is_full and begins not in self._graphs:
            self._capture(given, begins)
        # A graph begins with what a finished block leaves to do, and before the very first one there is none.
        if begins not in self._graphs or not self._learner.block_is_full:
            return self._call(given, begins)
        again, played = self._graphs[begins]
        again()
        self._learner.clock += self.size
        return played

    def _fill(self, steps: TaskStep) -> TaskStep:
        if self.reason is not None:
            return steps
        if self._given is None:
            self._given = TaskStep(*(part.clone() for part in _parts(steps)))
        for buffer, part in zip(_parts(self._given), _parts(steps), strict=True):
            buffer.copy_(part)
        return self._given

    @torch.no_grad()
    def _call(self, given: TaskStep, begins: int) -> Played:
        learner = self._learner
        if begins == 1:
            learner.reset(given.first[0])
        y = self._steps(given) if begins > 1 else learner.step_block(given.x)
        score = self._stream.score_all(y, given)
        return score, learner.learn_block(score.dL_dy, score.loss)

    def _steps(self, given: TaskStep) -> Tensor:
        for t in range(self.size):
            self._learner.reset(given.first[t])
            self._y[t].copy_(self._learner.step(given.x[t]))
        return self._y

    def _capture(self, given: TaskStep, begins: int) -> None:
        """Captures a block that follows another, and leaves the learner as it was, whatever happens."""
        learner, before = self._learner, self._learner.state_dict()
        assert isinstance(learner, StreamingLearner)  # `blocks_of` has none of others on a device that captures
        try:
            warm_up(lambda: self._call(given, begins), learner.device)
            self._graphs[begins] = capture(lambda: self._call(given, begins), learner.device, learner.generator)
        except RuntimeError as error:
            self.reason = f"it cannot be captured: {first_line(error)}"
            self._graphs.clear()
            _log.warning("no CUDA graph, steps are queued one by one: %s", self.reason)
        finally:
            learner.load_state_dict(before)


def blocks_of(
    learner: StreamingLearner | AttentiveLearner, stream: TaskStream, *, stretch: int | None = None
) -> Blocks | None:
    """What plays the learner's blocks where that pays; None where steps are taken one by one.

    On a CPU a block of one step would gain nothing; on a CUDA device rivals with self-attention take single steps: their
    blocks are whole sequences, too long for a graph.

    Arguments:
        learner, stream: what is to be played
        stretch: steps after which the player stops, which must then be whole blocks; where they are not, on a CUDA device
            that is logged, with what to change. None: it stops after any number of blocks.
    """
    cuda = learner.device.type == "cuda"
    if cuda and isinstance(learner, AttentiveLearner):
        return None
    if not cuda and learner.credit.block == 1:
        return None
    size = learner.credit.block
    if (stretch is None or stretch % size == 0) and (learner.block_is_full or learner.block_is_empty):
        return Blocks(learner, stream)
    if cuda:
        _log.warning(
            "no CUDA graph, steps are queued one by one: a sequence has %s steps, no multiple of the block of %d steps "
            "between updates; choose another update_every",
            stretch,
            size,
        )
    return None


def begin_within(stream: TaskStream, clock: int, steps: int) -> int:
    """Of the `steps` steps given from `clock` on, which is the last at which a learner must reset streams: 1 .. `steps`.

    0: none of them.
    """
    return next((count for count in range(steps, 0, -1) if stream.begins_at(clock + count - 1)), 0)


def part_of(steps: TaskStep, first: int, count: int) -> TaskStep:
    """`count` of several steps, from `first` on."""
    return TaskStep(*(part[first : first + count] for part in _parts(steps)))


def _parts(steps: TaskStep) -> tuple[Tensor, ...]:
    return steps.x, steps.target, steps.weight, steps.scored, steps.first, steps.last
