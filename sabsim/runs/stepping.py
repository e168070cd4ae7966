"""The steps of a run, a stretch at a time: the learner meets the stream, and the recorder takes what happens.

A stretch ends where a period of the stream ends or, where updates do not end there, after as many blocks as there is
room for in the recorder's buffers.
"""

from __future__ import annotations

from sabsim.runs.blocks import Blocks, begin_within, blocks_of, part_of
from sabsim.runs.build import Parts
from sabsim.runs.recorder import Recorder


class Stepping:
    """Takes the stream's steps.

    Arguments:
        parts: learner and training stream
        recorder: what makes rows of steps
    """

    def __init__(self, parts: Parts, *, recorder: Recorder) -> None:
        self._learner, self._stream, self._recorder = parts.learner, parts.stream, recorder
        fits = self._learner.credit.block <= recorder.buffers.capacity
        self._blocks = blocks_of(self._learner, self._stream) if fits else None

    def advance(self) -> None:
        """One stretch."""
        count = self._stretch()
        if self._blocks is None:
            self._take_steps(count)
        else:
            self._take_blocks(self._blocks, count)

    def _stretch(self) -> int:
        """Steps to the end of a period; where that is not the end of a block, as many blocks as there is room for."""
        room, block, period = self._recorder.buffers.capacity, self._learner.credit.block, self._stream.length
        if room >= block:
            room -= room % block
        return min(room, period - self._stream.clock % period) if period % block == 0 else room

    def _take_steps(self, count: int) -> None:
        stream, learner, recorder = self._stream, self._learner, self._recorder
        wants_reads, wants_hidden = recorder.wants_reads, recorder.wants_hidden
        for _ in range(count):
            step = stream.next()
            if stream.begins:
                learner.reset(step.first)
            score = stream.score(learner.step(step.x), step)
            events = learner.learn(score.dL_dy, score.loss)
            read = learner.read if wants_reads else None
            recorder.take(step, score, read, events, learner.hidden if wants_hidden else None)

    def _take_blocks(self, blocks: Blocks, count: int) -> None:
        """The same, `count` being a multiple of the learner's block."""
        learner, recorder, clock = self._learner, self._recorder, self._stream.clock
        wants_reads, wants_hidden = recorder.wants_reads, recorder.wants_hidden
        steps = self._stream.take(count)
        for first in range(0, count, blocks.size):
            block = part_of(steps, first, blocks.size)
            score, events = blocks.play(block, begins=begin_within(self._stream, clock + first, blocks.size))
            read = learner.read_in_block if wants_reads else None
            recorder.take_block(block, score, read, events, learner.hidden_in_block if wants_hidden else None)
