"""The rows of `metrics` and `clock`: what was learned since the evaluation before, and what an evaluation found."""

from __future__ import annotations

from sabsim.runs.build import Parts
from sabsim.runs.database import RunDatabase
from sabsim.runs.evaluate import HeldOut
from sabsim.runs.machine import rss_mb, utc_now
from sabsim.runs.recorder import Recorder, Totals

Figures = tuple[float | None, float | None, float | None]
"""Loss, metric, and replays per stream and update; None where there is nothing to tell."""


class Metrics:
    """Writes the figures of training and of evaluations.

    Arguments:
        parts: learner and training stream
        database: where rows go
        recorder: whose totals the training figures are
    """

    def __init__(self, parts: Parts, *, database: RunDatabase, recorder: Recorder) -> None:
        self._learner, self._stream, self._streams = parts.learner, parts.stream, parts.config.run.streams
        self._database, self._recorder = database, recorder
        self.evaluated_at: int | None = None
        """sequences trained at the last evaluation; None before the first"""
        self.updates_at = 0
        """updates at the last evaluation"""
        self._written: Figures = (None, None, None)

    @property
    def shown(self) -> Figures:
        """Training figures since the last evaluation; right after one, where there are none, what was written then."""
        return self._since() if self._recorder.totals.count else self._written

    def write_training(self) -> None:
        """Training figures since the last evaluation, if anything was trained; begins to count anew."""
        loss, metric, replays = self._written = self._since()
        updates, sequences = int(self._learner.updates), self._sequences_since()
        if sequences:
            row = (self._stream.completed, self._learner.clock, "train", sequences, loss, metric, replays, updates)
            self._database.insert("metrics", [(*row, float(self._learner.gradient_norm))])
        self._recorder.totals = Totals()
        self.updates_at = updates

    def write(self, split: str, result: HeldOut, *, seconds: float, rate: float) -> None:
        """What an evaluation found.

        Arguments:
            split: what it is called in the table
            seconds: that the run has taken
            rate: steps per second
        """
        at = (self._stream.completed, self._learner.clock)
        found = (split, result.sequences, result.loss, result.metric, None, int(self._learner.updates), None)
        self._database.insert("metrics", [(*at, *found)])
        self._database.insert("clock", [(*at, seconds, rate, rss_mb(), utc_now())])

    def _sequences_since(self) -> int:
        return self._stream.completed - (self.evaluated_at or 0)

    def _since(self) -> Figures:
        totals, sequences = self._recorder.totals, self._sequences_since()
        updates = (int(self._learner.updates) - self.updates_at) * self._streams
        return (
            totals.loss / sequences if sequences else None,
            totals.metric / totals.count if totals.count else None,
            totals.replays / updates if updates else None,
        )
