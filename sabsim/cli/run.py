"""`sabsim run TASK`: train online and leave a run folder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from sabsim.choices import choose
from sabsim.cli.parse import parse
from sabsim.errors import ConfigError
from sabsim.runs import (
    LearnerOptions,
    OptimizerOptions,
    RunConfig,
    RunFolder,
    RunOptions,
    make_display,
    train,
)
from sabsim.runs.progress import duration, number
from sabsim.runs.recipes import recipe_of
from sabsim.tasks import TASKS, Task

_EXAMPLES = """examples:
  sabsim run copying --T 100 --slots 32 --seed 0 --out runs/copying
  sabsim run copying --T 100 --credit sab --replays 0      (recall without replay)
  sabsim run adding --T 200 --credit tbptt --k-trunc 20    (the same learner without recall)
  sabsim run charlm --corpus ptb --data DIR                (DIR/ptb/ptb.train.txt ...; 'sabsim data --help')
  sabsim run pixels --images digits                        (no data needed, but sabsim[digits])
  sabsim run copying --out runs/copying --resume           (go on after a kill, with the options it had)"""


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Where the run is kept."""

    out: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: named after the run, in runs/)")] = None
    """Run folder; must not exist yet, unless --resume."""
    resume: Annotated[bool, arg(name="resume")] = False
    """Go on from the last checkpoint in the run folder; options left out are those it was begun with."""
    quiet: bool = False
    """Show nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class TimeOptions:
    """How long it may take now."""

    minutes: Annotated[float | None, arg(metavar="M", help_behavior_hint="(default: no limit)")] = None
    """Stop after so many minutes with a checkpoint and exit status 75, unless finished before; go on with --resume."""


_GROUPS: dict[str, type] = {
    "run": RunOptions,
    "folder": FolderOptions,
    "time": TimeOptions,
    "learner": LearnerOptions,
    "optimizer": OptimizerOptions,
}
"""The options of every task, in the order of the help text."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status.

    Raises:
        SabsimError: whatever is wrong with options, folder, disk or numbers, in one line
    """
    if not arguments:
        raise ConfigError(f"which task? one of {', '.join(TASKS)}; see 'sabsim run --help'")
    if arguments[0] in ("-h", "--help"):
        return _help()
    if arguments[0].startswith("-"):
        raise ConfigError(f"{arguments[0]}: the task comes first, as in 'sabsim run copying {arguments[0]} ...'")
    task = TASKS[choose("task", arguments[0], TASKS)]
    options = _options({"task": task} | _GROUPS)
    chosen = _parse(options, arguments[1:], task, _defaults(options, task()))
    if recipe_of(chosen.task) != recipe_of(task()):
        # The task's own options, now known, ask for other defaults of the rest.
        chosen = _parse(options, arguments[1:], task, _defaults(options, chosen.task))
    folder = _folder(chosen)
    if chosen.folder.resume and folder.begun:
        stored = folder.read_config()
        if isinstance(stored.task, task):
            # Options left out mean those the run was begun with; what is given must agree with them.
            default = options(
                task=stored.task,
                run=stored.run,
                folder=chosen.folder,
                time=chosen.time,
                learner=stored.learner,
                optimizer=stored.optimizer,
            )
            chosen = _parse(options, arguments[1:], task, default)
    else:
        chosen = replace(chosen, optimizer=_of_another_kind(chosen.optimizer, recipe_of(chosen.task).optimizer))
    until = end_of(chosen.time.minutes)
    display = make_display(quiet=chosen.folder.quiet)
    summary = train(_config(chosen), out=folder.path, resume=chosen.folder.resume, display=display, until=until)
    display.note(_last_line(chosen.task, summary, folder))
    return 0


def _options(groups: dict[str, type]) -> Any:
    """One dataclass of several, each a group of the help text."""
    items = [(name, kind, field(default_factory=kind)) for name, kind in groups.items()]
    return dataclasses.make_dataclass("Options", items, frozen=True, kw_only=True)


def _defaults(options: Any, task: Task) -> Any:
    recipe = recipe_of(task)
    return options(task=task, run=recipe.run, folder=FolderOptions(), learner=recipe.learner, optimizer=recipe.optimizer)


def _parse(options: Any, arguments: Sequence[str], task: type[Task], default: Any) -> Any:
    return parse(
        options,
        arguments,
        prog=f"sabsim run {task.name}",
        description=f"Train online on {task.name}.",
        default=default,
    )


def _of_another_kind(asked: OptimizerOptions, recipe: OptimizerOptions) -> OptimizerOptions:
    """Without what the recipe says of its own optimiser or schedule, where another one was asked for."""
    found = asked
    if asked.optimizer != recipe.optimizer:
        found = _without(found, recipe, ("lr", "warmup_updates"))
    if asked.lr_schedule != recipe.lr_schedule:
        found = _without(found, recipe, ("decay_updates",))
    return found


def _without(found: OptimizerOptions, recipe: OptimizerOptions, names: Sequence[str]) -> OptimizerOptions:
    unset: dict[str, Any] = {name: None for name in names if getattr(found, name) == getattr(recipe, name)}
    return replace(found, **unset)


def _config(chosen: Any) -> RunConfig:
    return RunConfig(task=chosen.task, learner=chosen.learner, optimizer=chosen.optimizer, run=chosen.run)


def end_of(minutes: float | None) -> float | None:
    """The moment that is so many minutes from now, as `time.time()` tells it. Raises ConfigError: not above 0."""
    if minutes is None:
        return None
    if not 0 < minutes < float("inf"):
        raise ConfigError(f"minutes = {minutes:g}: must be more than 0")
    return time.time() + 60 * minutes


def _folder(chosen: Any) -> RunFolder:
    """The folder asked for, or one named after the run."""
    if chosen.folder.out is not None:
        return RunFolder(Path(chosen.folder.out))
    parts = [chosen.task.name, chosen.task.label, chosen.learner.credit, f"seed{chosen.run.seed}"]
    return RunFolder(Path("runs") / "-".join(part for part in parts if part))


def _help() -> int:
    """What all tasks have in common."""
    print("Train online on a task and leave a run folder.\n")
    print("tasks (each with options of its own: sabsim run TASK --help):")
    for name, task in TASKS.items():
        print(f"  {name:<10} {first_line(task)}")
    print(f"\n{_EXAMPLES}\n")
    parse(_options(_GROUPS), ["--help"], prog="sabsim run TASK", description="Options of every task.")
    return 0


def first_line(thing: object) -> str:
    """The first line of a docstring, without its markup."""
    return (thing.__doc__ or "").strip().partition("\n")[0].replace("``", "")


def _last_line(task: Task, summary: dict[str, Any], folder: RunFolder) -> str:
    held_out = f"{task.title}: {summary['part']}" if "part" in summary else "held-out"
    return (
        f"{held_out} {task.metric} {number(summary[task.metric])} over {summary['held_out_sequences']} {task.unit}, "
        f"{summary['sequences']} {task.unit} trained, {duration(summary['seconds'])}, "
        f"{summary['steps_per_second']:.0f} steps/s: {folder.path}"
    )
