"""`sabsim evaluate RUN`: play what a run has learned on held-out sequences, also of other lengths."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tyro.conf import Positional, arg

from sabsim.choices import choose
from sabsim.cli.parse import parse
from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs import RunConfig, RunFolder, build_learner, held_out, load_checkpoint
from sabsim.runs.checkpoint import Checkpoint
from sabsim.runs.machine import git_revision, sabsim_version, utc_now
from sabsim.runs.progress import duration, number
from sabsim.tasks import Task

_SEQUENCES = 1000
"""Held-out sequences where there are as many as wanted."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What is played, and how much of it."""

    run: Positional[Annotated[str, arg(metavar="RUN")]]
    """Run folder; its last checkpoint is played."""
    T: Annotated[tuple[int, ...], arg(metavar="[T ...]", help_behavior_hint="(default: the run's)")] = ()
    """Lengths T of the task, in steps; one or several."""
    sequences: Annotated[int | None, arg(metavar="SEQUENCES", help_behavior_hint="(default: 1000; of data, all)")] = None
    """Held-out sequences per length; of a text, passages."""
    part: Annotated[str, arg(metavar="NAME")] = "test"
    """Which part of data to play: test or validation. Sequences that are drawn are the same in both."""
    data: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: the run's)")] = None
    """Folder of data sets, for tasks that read one."""
    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the run's)")] = None
    """Seed of the held-out sequences."""
    device: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: the run's)")] = None
    """Where to compute: cpu, cuda, or auto (cuda if there is one)."""
    json: bool = False
    """Print JSON instead of a table."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status. Each result is also kept, as `evaluations/T<T>.json`.

    Raises:
        SabsimError: whatever is wrong with options, folder, disk or numbers, in one line
    """
    if _names_an_agent(arguments):
        # Here and not above: supervised runs need no environments.
        from sabsim.cli import evaluate_agent

        return evaluate_agent.main(arguments)
    options = parse(
        EvaluateOptions,
        arguments,
        prog="sabsim evaluate",
        description="Play what a run has learned: parameters fixed, fresh memory of the same bounded size.\n\n"
        "The run of an agent has other options: sabsim evaluate RUN --help.",
    )
    folder = RunFolder(Path(options.run))
    config = folder.read_config()
    if not folder.checkpoint.exists():
        raise RunFolderError(f"'{folder.path}': no checkpoint yet; 'sabsim run ... --resume' goes on with the run")
    checkpoint = load_checkpoint(folder)
    torch.set_num_threads(config.run.threads)
    choose("part", options.part, ("test", "validation"))
    variants = [_variant(config, options, T) for T in options.T or (None,)]
    for variant in variants:
        _require_same_data(variant, checkpoint)
    console = Console()
    results = []
    for variant in variants:
        result = _play(variant, checkpoint, options, console)
        folder.write_evaluation(_name(variant, result), result)
        results.append(result)
    if options.json:
        console.print_json(data=results)
    else:
        console.print(_table(folder, variants[0].task, results))
    return 0


def _names_an_agent(arguments: Sequence[str]) -> bool:
    """Whether the run folder among the arguments is that of an agent."""
    folders = [RunFolder(Path(word)) for word in arguments if not word.startswith("-")]
    return any(folder.begun and folder.description().get("kind") == "agent" for folder in folders)


def _variant(config: RunConfig, options: EvaluateOptions, T: int | None) -> RunConfig:
    """The run's configuration with another T, seed or device."""
    task = config.task
    if T is not None:
        if "T" not in {item.name for item in fields(task)}:
            raise ConfigError(f"T = {T}: task {task.name} has no T")
        task = replace(task, **{"T": T})
    if options.data is not None:
        if "data" not in task.places:
            raise ConfigError(f"data = '{options.data}': task {task.name} reads none")
        task = replace(task, **{"data": options.data})
    run = replace(
        config.run,
        seed=config.run.seed if options.seed is None else options.seed,
        device=options.device or config.run.device,
    )
    variant = replace(config, task=task, run=run)
    slots = config.learner.slots
    if config.learner.retention == "all" and slots is not None:
        # This policy is not bounded by its nature: a longer sequence has more to keep.
        variant = replace(variant, learner=replace(config.learner, slots=max(slots, variant.slots_for_all())))
    return variant.resolved()


def _play(config: RunConfig, checkpoint: Checkpoint, options: EvaluateOptions, console: Console) -> dict[str, Any]:
    learner = build_learner(config)
    # Those that did best on the validation part, if the run kept them: the summary's figures are theirs.
    learned = checkpoint.states.get("best", checkpoint.states["parameters"])
    for name, parameter in learner.learned.items():
        value = learned.get(name)
        if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
            raise ConfigError(f"slots = {config.learner.slots}: parameter {name} has a shape that does not fit the run's")
        parameter.copy_(value)
    began = time.perf_counter()
    part: Any = options.part
    available = config.task.available(part)
    sequences = options.sequences
    if sequences is None:
        sequences = _SEQUENCES if available is None else available
    with Progress(console=console, transient=True, disable=options.json or not console.is_terminal) as progress:
        bar = progress.add_task(config.task.label, total=min(sequences, available or sequences))
        result = held_out(
            learner,
            config.task,
            sequences=sequences,
            seed=config.run.seed,
            part=part,
            after_sequence=lambda done: progress.update(bar, completed=done),
        )
    return {
        "task": config.task.name,
        **config.task.facts(),
        **({"part": result.part} if available is not None else {}),
        "sequences": result.sequences,
        config.task.metric: result.metric,
        "standard_error": result.standard_error,
        "perfect_sequences": result.perfect,
        "loss": result.loss,
        "baselines": config.task.baselines(),
        "slots": learner.retention.slots if learner.credit.recalls else 0,
        "trained_sequences": checkpoint.numbers["sequences"],
        "trained_steps": checkpoint.numbers["step"],
        "seed": config.run.seed,
        "device": str(learner.device),
        "seconds": time.perf_counter() - began,
        "sabsim": sabsim_version(),
        "git": git_revision(),
        "date": utc_now(),
    }


def _require_same_data(config: RunConfig, checkpoint: Checkpoint) -> None:
    """Raises ConfigError: the data are not those that the run was trained on."""
    trained_on = checkpoint.states["stream"]
    if any(trained_on.get(name) != value for name, value in config.task.identity.items()):
        raise ConfigError(f"{config.task.title}: it has changed since the run was trained on it; put the original back")


def _name(config: RunConfig, result: dict[str, Any]) -> str:
    """What tells this evaluation from others of the run: T200, or ptb-passage100-test."""
    return "-".join(filter(None, (config.task.label, result.get("part", "")))) or config.task.name


def _table(folder: RunFolder, task: Task, results: list[dict[str, Any]]) -> Table:
    metric = task.metric
    trained = results[0]["trained_sequences"]
    known = results[0]["baselines"].items()
    same = [name for name, value in known if all(other["baselines"][name] == value for other in results)]
    table = Table(
        title=f"{folder.path}: {task.title}, after {trained:,} training {task.unit}",
        caption=", ".join(f"{name} {number(results[0]['baselines'][name])}" for name in same),
    )
    columns = {"T": "T", "part": "part", "sequences": task.unit, metric: metric, "standard_error": "± s.e."}
    columns |= {"perfect_sequences": "perfect"} if metric == "accuracy" else {}
    columns |= {"loss": "loss", "slots": "slots"}
    columns = {key: title for key, title in columns.items() if key in results[0]}
    for title in (*columns.values(), "time"):
        table.add_column(title, justify="right")
    for result in results:
        figures = (result[key] if isinstance(result[key], str) else number(result[key]) for key in columns)
        table.add_row(*figures, duration(result["seconds"]))
    return table
