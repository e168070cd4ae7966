"""A stretch of the copying task, drawn beforehand and played again and again: what is timed is learning, not drawing."""

from __future__ import annotations

import torch

from ..learner import StreamingLearner
from ..tasks import Copying


class Recording:
    """One period of T + 20 steps of ``streams`` staggered streams: each is at another place of its sequence.

    ``x`` (steps, streams, d_in); ``first`` (steps, streams) bool; ``target`` (steps, streams) classes; ``wanted``
    (steps, streams, d_out) their one-hot code. After its last step every stream stands where the first one finds it.
    """

    def __init__(self, T: int, streams: int, *, seed: int, device: torch.device) -> None:
        self.task = Copying(T=T)
        self.steps, self.streams = self.task.length, streams
        stream = self.task.stream(streams=streams, seed=seed, device=device, stagger=True)
        for _ in range(self.steps):  # some streams idle in the first period
            stream.next()
        x, first, target, begins = [], [], [], []
        for _ in range(self.steps):
            step = stream.next()
            x.append(step.x.clone())
            first.append(step.first.clone())
            target.append(step.target.clone())
            begins.append(stream.begins)
        self.x, self.first, self.target = torch.stack(x), torch.stack(first), torch.stack(target)
        self.wanted = torch.nn.functional.one_hot(self.target, self.task.d_out).to(self.x.dtype)
        self._scale = 1 / (self.steps * streams)
        self._rows = list(zip(self.x.unbind(0), self.first.unbind(0), self.wanted.unbind(0), begins, strict=True))

    def play(self, learner: StreamingLearner) -> None:
        """One period: ``steps`` steps of learning, a reset wherever a sequence begins, cross entropy as the signal."""
        for x, first, wanted, begins in self._rows:
            if begins:
                learner.reset(first)
            learner.learn((torch.softmax(learner.step(x), 1) - wanted).mul_(self._scale))

    def replayed(self, learner: StreamingLearner) -> float:
        """Plays one period; returns the segments replayed per stream and update."""
        segments, updates = 0, 0
        for x, first, wanted, begins in self._rows:
            if begins:
                learner.reset(first)
            events = learner.learn((torch.softmax(learner.step(x), 1) - wanted).mul_(self._scale))
            if events is not None:
                segments += int(events.valid.sum())
                updates += 1
        return segments / (updates * self.streams) if updates else 0.0
