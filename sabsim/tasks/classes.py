"""Sequences in whose steps a class is to be named: cross entropy, and accuracy over the outputs that are scored."""

from __future__ import annotations

from torch import Tensor

from sabsim.tasks.cross_entropy import CrossEntropy
from sabsim.tasks.rounds import SequenceStream
from sabsim.tasks.stream import Score, StreamOptions, TaskStep


class ClassStream(SequenceStream):
    """Sequences whose outputs are logits over `classes`.

    Arguments:
        options: how the task is streamed
        weight: of each step's loss, `(length,)`
        scored: which steps count for the accuracy, `(length,)` bool
        classes: d_out
    """

    def __init__(self, options: StreamOptions, *, weight: Tensor, scored: Tensor, classes: int) -> None:
        super().__init__(options, weight=weight, scored=scored)
        self._cross_entropy = CrossEntropy(streams=self.streams, classes=classes, like=self._loss)
        self._score = Score(self._loss, self._cross_entropy.gradient, self._metric, self._count)

    def score(self, y: Tensor, step: TaskStep) -> Score:
        """Cross entropy of the logits `y`, `(streams, classes)`; gradient (softmax - target) * weight / streams."""
        log_p, _ = self._cross_entropy.score(y, step.target, step.weight, loss=self._loss)
        self._metric.copy_((log_p.argmax(1) == step.target).logical_and_(step.scored))
        self._count.copy_(step.scored)
        return self._score

    def score_all(self, y: Tensor, steps: TaskStep) -> Score:
        """The same of several steps at once."""
        loss, gradient, log_p, _ = self._cross_entropy.score_all(y, steps.target, steps.weight)
        right = (log_p.argmax(2) == steps.target).logical_and_(steps.scored)
        return Score(loss, gradient, right.to(loss.dtype), steps.scored.to(loss.dtype))
