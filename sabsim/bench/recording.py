"""A stretch of the copying task, drawn beforehand and played again and again: what is timed is learning, not drawing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..graph import BlockGraph
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

    def player(self, learner: StreamingLearner) -> tuple[Callable[[], None], str]:
        """What plays one period with this learner, on a GPU as a block graph, and a note that says so.

        Where the period is no whole number of blocks steps are queued one by one.
        """
        if learner.device.type != "cuda" or self.steps % learner.credit.block:
            return lambda: self.play(learner), ""
        graph = BlockGraph(learner, self._signal, target=self.wanted[0])
        parts = (part.unflatten(0, (-1, learner.credit.block)).unbind(0) for part in (self.x, self.first, self.wanted))
        blocks = list(zip(*parts, strict=True))

        def call() -> None:
            for x, begins, wanted in blocks:
                graph.play(x, begins, wanted)

        return call, "a CUDA graph for each block" if graph.captured else f"not a CUDA graph: {graph.reason}"

    def _signal(self, y: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        dL_dy = (torch.softmax(y, 1) - wanted).mul_(self._scale)
        return dL_dy, torch.linalg.vector_norm(dL_dy, dim=1)

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
