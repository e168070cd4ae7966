"""Held-out evaluation: learned parameters, fresh memory, sequences never trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from sabsim.attentive import AttentiveLearner
from sabsim.errors import ConfigError, NonFiniteError
from sabsim.learner import StreamingLearner
from sabsim.runs.blocks import Blocks, begin_within, blocks_of, part_of
from sabsim.tasks import Part, Task, TaskStream

MOST_STREAMS = {"cpu": 128, "cuda": 2048}
"""Sequences played side by side, by device: more would cost memory without being faster."""

MOST_READERS = {"cpu": 16, "cuda": 64}
"""Streams that read a text without end side by side. Each reads a little twice, so few are better."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What an evaluation found.

    `part`: of what. `sequences`: how many were played; of a task without end, passages. `loss`: mean total loss of a
    sequence. `metric`: the task's (accuracy, mse or bpc), with its standard error over sequences. `perfect`: share of
    sequences without an error, None unless the metric is accuracy.
    """

    part: Part
    sequences: int
    loss: float
    metric: float
    standard_error: float
    perfect: float | None


def held_out(
    learner: StreamingLearner | AttentiveLearner,
    task: Task,
    *,
    sequences: int | None,
    seed: int,
    part: Part = "validation",
    stagger: bool = True,
    learned: Mapping[str, Tensor] | None = None,
    after_sequence: Callable[[int], None] | None = None,
) -> HeldOut:
    """Play held-out sequences of `task`, forward only.

    A task without end is read on by carried state: each of a few streams begins once, with the passages before its
    share of the text, which are not scored, and reads the share, or the beginning of it. The learner is not touched, nor
    is torch's global generator.

    Arguments:
        sequences: how many; at most, and with None exactly, as many as there are
        part: of which part of the data
        stagger: begin sequences at every place of the learner's block, since memory is offered at its end; else all at its
            beginning, for what was learned in phase (`RunOptions.stagger`) knows no other place
        learned: parameters to play instead of those the learner has now, by the names of `StreamingLearner.learned`
        after_sequence: hears of those done

    Raises:
        ConfigError: sequences < 1, or None for a task that has as many as wanted
        NonFiniteError: the loss is NaN or infinite
    """
    sequences = _how_many(task, part, sequences)
    endless = task.length is None
    rounds = ceil(sequences / (MOST_READERS if endless else MOST_STREAMS)[learner.device.type])
    streams = ceil(sequences / rounds)
    player = learner.evaluator(streams=streams, seed=seed, learned=learned)
    stagger = stagger and not learner.credit.attends
    stream = task.stream(streams=streams, seed=seed, device=player.device, dtype=player.dtype, part=part, stagger=stagger)
    rounds += stream.lead
    sums = torch.zeros(3, rounds, streams, dtype=torch.float64, device=player.device)
    ended = torch.zeros(1, streams, dtype=torch.int64, device=player.device)
    blocks = blocks_of(player, stream, stretch=task.period)
    for done in range(rounds + (stagger and not endless)):
        if blocks is not None:
            _play_blocks(blocks, stream, task.period, sums, ended)
        else:
            _play_steps(player, stream, task.period, sums, ended)
        if after_sequence is not None:
            after_sequence(min(sequences, max(0, done - stream.lead + (endless or not stagger)) * streams))
    player.check()
    loss, metric, count = sums.flatten(1).cpu()
    if not torch.isfinite(loss).all():
        raise NonFiniteError("held-out loss is not finite; the parameters have diverged")
    # Of the last round, what is too much; of a text, what lies before a share or beyond the end.
    played = count > 0 if endless else torch.arange(len(count)) < sequences
    return _found(task, part, loss[played], metric[played], count[played])


def _play_steps(
    player: StreamingLearner | AttentiveLearner, stream: TaskStream, count: int, sums: Tensor, ended: Tensor
) -> None:
    """Plays `count` steps, and adds loss, metric and count to `sums`, `(3, rounds, streams)`.

    `ended`, `(1, streams)`: sequences that each stream has ended, which is the round that it is in.
    """
    rounds = sums.shape[1]
    for _ in range(count):
        step = stream.next()
        if stream.begins:
            player.reset(step.first)
        score = stream.score(player.step(step.x), step)
        player.learn(score.dL_dy, score.loss)
        counts, row = ended < rounds, ended.clamp(max=rounds - 1)
        for total, value in zip(sums, (score.loss, score.metric_sum, score.count), strict=True):
            total.scatter_add_(0, row, value.double().unsqueeze(0) * counts)
        ended += step.last


def _play_blocks(blocks: Blocks, stream: TaskStream, count: int, sums: Tensor, ended: Tensor) -> None:
    """The same, `count` being a multiple of the block and a sequence's steps at most: each stream ends one at most."""
    rounds, clock = sums.shape[1], stream.clock
    steps = stream.take(count)
    scores = torch.zeros(3, *steps.weight.shape, dtype=sums.dtype, device=sums.device)
    for first in range(0, count, blocks.size):
        begins = begin_within(stream, clock + first, blocks.size)
        score, _ = blocks.play(part_of(steps, first, blocks.size), begins=begins)
        for kept, value in zip(scores, (score.loss, score.metric_sum, score.count), strict=True):
            kept[first : first + blocks.size].copy_(value)
    # A step is after the end if one of those before it was the last.
    after = steps.last.cumsum(0) - steps.last.long()
    for place in (0, 1):
        counts, row = (ended + place) < rounds, (ended + place).clamp(max=rounds - 1)
        for total, value in zip(sums, (scores * (after == place)).sum(1), strict=True):
            total.scatter_add_(0, row, value.unsqueeze(0) * counts)
    ended += steps.last.sum(0)


def _how_many(task: Task, part: Part, sequences: int | None) -> int:
    """Raises ConfigError: as `held_out`."""
    if sequences is not None and sequences < 1:
        raise ConfigError(f"sequences = {sequences}: must be at least 1")
    available = task.available(part)
    if available is None and sequences is None:
        raise ConfigError(f"task {task.name!r}: has held-out sequences without end; say how many")
    return min(count for count in (sequences, available) if count is not None)


def _found(task: Task, part: Part, loss: Tensor, metric: Tensor, count: Tensor) -> HeldOut:
    """From the sums of each sequence, `(sequences,)` float64, to the figures of all."""
    sequences, each = len(loss), metric / count
    return HeldOut(
        part=part,
        sequences=sequences,
        loss=float(loss.mean()),
        metric=float(metric.sum() / count.sum()),
        standard_error=float(each.std() / sequences**0.5) if sequences > 1 else 0.0,
        perfect=float((each == 1).double().mean()) if task.metric == "accuracy" else None,
    )
