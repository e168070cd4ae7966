"""What a task's options begin with on the command line, where the general defaults do not serve it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sabsim.runs.options import LearnerOptions, OptimizerOptions, RunOptions
from sabsim.tasks import Pixels, Task


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Default options of one task."""

    learner: LearnerOptions = field(default_factory=LearnerOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    run: RunOptions = field(default_factory=RunOptions)


RECIPES: dict[str, Recipe] = {
    # The second mark may be in the very last step: no block has ended since, and memory does not hold it yet. These few
    # sequences carry most of the loss: their gradients must not be shortened, and blocks of one step make them fewest. Most
    # blocks then have no signal, and trigger no update: their weights and keys need not be prepared anew.
    "adding": Recipe(
        learner=LearnerOptions(
            forget_bias=5.0, input_scale=1.0, replays=2, update_every=1, trigger="replay", slots=16, explore=0.0
        ),
        optimizer=OptimizerOptions(lr=8e-3, spike=0.0, decay_updates=20_000, warmup_updates=0, average=0.998),
        run=RunOptions(streams=64, eval_every=8_000, eval_sequences=1_000),
    ),
    # A digit must tell by itself which of the ten it is, wherever it comes: it has to leave a mark in the cell, and credit
    # has to reach several of the states recalled. Without decay recall is sharp before it is right. The last hundredth, to
    # tell a digit from its neighbours in order, takes more streams and a step size that does not fall too far.
    "denoise": Recipe(
        learner=LearnerOptions(forget_bias=5.0, input_scale=1.0, k_trunc=10, k_top=10),
        optimizer=OptimizerOptions(weight_decay=0.003, average=0.999, lr_floor=0.1),
        run=RunOptions(streams=16),
    ),
    # A text has no resets: what novelty keeps would stay for ever, and the network would lean on it. Every character is a
    # learning signal, so nothing is to be explored, and the units need not last long to begin with.
    "charlm": Recipe(
        learner=LearnerOptions(retention="recent", k_trunc=10, replays=2, forget_bias=1.0, input_scale=1.0, explore=0.0),
        optimizer=OptimizerOptions(lr=1e-2, lr_schedule="rsqrt", warmup_updates=0),
        run=RunOptions(streams=16, budget=100_000, eval_every=5_000, eval_sequences=512, record_every=200),
    ),
    # As adding, one learning signal a sequence, in its very last step; the options are those that adding had at first.
    "pixels": Recipe(
        learner=LearnerOptions(forget_bias=5.0, input_scale=1.0, replays=2, update_every=2, explore=0.0),
        optimizer=OptimizerOptions(lr=4e-3, spike=0.0, lr_schedule="rsqrt", warmup_updates=0),
        run=RunOptions(streams=16, eval_every=4_000, eval_sequences=1_000),
    ),
}
"""By the task's name; a task that is not here uses the general defaults."""

# 784 steps with one label at the end, so all 56 states that are offered are kept. With streams in phase 55 of 56 blocks
# have no signal, and cost little; a few streams make many updates of a pass (docs/decisions.md).
_MNIST = Recipe(
    learner=LearnerOptions(
        forget_bias=5.0,
        input_scale=1.0,
        explore=0.0,
        retention="recent",
        slots=56,
        k_trunc=14,
        k_top=10,
        k_att=14,
        replays=10,
    ),
    optimizer=OptimizerOptions(lr=1e-3, spike=0.0, lr_schedule="cosine", warmup_updates=0, average=0.9995),
    run=RunOptions(streams=16, stagger=False, budget=275_000, eval_every=10_000, eval_sequences=2_000),
)
# Permuted, what belongs together lies anywhere in the 784 steps: units remember for up to exp(7) of them, and the sharpness
# of recall decays, without which a single early state comes to be all that is read.
_MNIST_PERMUTED = Recipe(
    learner=replace(_MNIST.learner, forget_bias=7.0),
    optimizer=replace(_MNIST.optimizer, lr=3e-3, average=0.9998, weight_decay=0.01),
    run=_MNIST.run,
)


def recipe_of(task: Task) -> Recipe:
    """The default options of a task as it is: pixels of MNIST are another matter than the 8x8 digits."""
    if isinstance(task, Pixels) and task.images == "mnist":
        return _MNIST_PERMUTED if task.permuted else _MNIST
    return RECIPES.get(task.name, Recipe())
