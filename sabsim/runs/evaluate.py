"""Held-out evaluation: learned parameters, fresh memory, sequences never trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import torch

from sabsim.errors import ConfigError, NonFiniteError
from sabsim.learner import StreamingLearner
from sabsim.tasks import Task

MOST_STREAMS = 128
"""Sequences played side by side: more would cost memory without being faster."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What an evaluation found.

    `loss`: mean total loss of a sequence. `metric`: the task's (accuracy or mse), with its standard error
    over sequences. `perfect`: share of sequences without an error, None unless the metric is accuracy.
    """

    sequences: int
    loss: float
    metric: float
    standard_error: float
    perfect: float | None


def held_out(
    learner: StreamingLearner,
    task: Task,
    *,
    sequences: int,
    seed: int,
    after_sequence: Callable[[int], None] | None = None,
) -> HeldOut:
    """Play `sequences` held-out sequences of `task`, forward only; `after_sequence` hears of those done.

    The learner is not touched, nor is torch's global generator.

    Raises:
        ConfigError: sequences < 1, or sequences without an end
        NonFiniteError: the loss is NaN or infinite
    """
    if sequences < 1:
        raise ConfigError(f"sequences = {sequences}: must be at least 1")
    if task.length is None:
        raise ConfigError(f"task {task.name!r}: its sequences have no end, so none can be evaluated")
    rounds = ceil(sequences / MOST_STREAMS)
    streams = ceil(sequences / rounds)
    player = learner.evaluator(streams=streams, seed=seed)
    # Out of phase, so that sequences begin at every place of the learner's block: memory is offered at its end.
    stream = task.stream(streams=streams, seed=seed, device=player.device, dtype=player.dtype, held_out=True, stagger=True)
    sums = torch.zeros(3, rounds, streams, dtype=torch.float64, device=player.device)
    ended = torch.zeros(1, streams, dtype=torch.int64, device=player.device)
    for done in range(rounds + 1):
        for _ in range(task.length):
            step = stream.next()
            if stream.begins:
                player.reset(step.first)
            score = stream.score(player.step(step.x), step)
            player.learn(score.dL_dy, score.loss)
            counts, row = ended < rounds, ended.clamp(max=rounds - 1)
            for total, value in zip(sums, (score.loss, score.metric_sum, score.count), strict=True):
                total.scatter_add_(0, row, value.double().unsqueeze(0) * counts)
            ended += step.last
        if after_sequence is not None:
            after_sequence(min(sequences, done * streams))
    player.check()
    loss, metric, count = sums.flatten(1)[:, :sequences].cpu()
    if not torch.isfinite(loss).all():
        raise NonFiniteError("held-out loss is not finite; the parameters have diverged")
    each = metric / count
    return HeldOut(
        sequences=sequences,
        loss=float(loss.mean()),
        metric=float(metric.sum() / count.sum()),
        standard_error=float(each.std() / sequences**0.5) if sequences > 1 else 0.0,
        perfect=float((each == 1).double().mean()) if task.metric == "accuracy" else None,
    )
