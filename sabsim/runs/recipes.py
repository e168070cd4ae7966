"""What a task's options begin with on the command line, where the general defaults do not serve it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sabsim.runs.options import LearnerOptions, OptimizerOptions, RunOptions


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Default options of one task."""

    learner: LearnerOptions = field(default_factory=LearnerOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    run: RunOptions = field(default_factory=RunOptions)


RECIPES: dict[str, Recipe] = {
    # The second mark may be in the very last steps: no block has ended since, and memory does not hold it yet. These few
    # sequences carry nearly all of the loss: their gradients must not be shortened, and short blocks make them fewer.
    "adding": Recipe(
        learner=LearnerOptions(input_scale=1.0, update_every=2, explore=0.0),
        optimizer=OptimizerOptions(lr=4e-3, spike=0.0, lr_schedule="rsqrt"),
        run=RunOptions(streams=32, eval_every=4_000, eval_sequences=1_000),
    ),
}
"""By the task's name; a task that is not here uses the general defaults."""
