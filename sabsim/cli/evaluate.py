"""`sabsim evaluate RUN`: play what a run has learned on held-out sequences, also of other lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tyro.conf import Positional, arg

from sabsim.choices import choose
from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.errors import ConfigError, RunFolderError, StorageError
from sabsim.runs import RunConfig, RunFolder, load_checkpoint
from sabsim.runs.checkpoint import Checkpoint
from sabsim.runs.playing import SEQUENCES, at_length, play
from sabsim.runs.progress import duration, number
from sabsim.runs.train import require_same_data
from sabsim.tasks import Task


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
    if arguments and not arguments[0].startswith("-") and not {"-h", "--help"} & set(arguments):
        RunFolder(Path(arguments[0])).description()  # which options there are depends on the run
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
        require_same_data(variant, checkpoint)
    console = plain_console()
    results, refused = [], None
    for variant in variants:
        result = _play(variant, checkpoint, options, console)
        results.append(result)
        try:
            folder.write_evaluation(_name(variant, result), result)
        except StorageError as error:
            refused = error
    if options.json:
        console.print_json(data=results)
    else:
        console.print(_table(folder, variants[0].task, results))
    if refused is not None:  # the folder of a colleague, for example: what was found is shown all the same
        raise refused
    return 0


def _names_an_agent(arguments: Sequence[str]) -> bool:
    """Whether the run folder among the arguments is that of an agent."""
    folders = [RunFolder(Path(word)) for word in arguments if not word.startswith("-")]
    return any(folder.begun and folder.description().get("kind") == "agent" for folder in folders)


def _variant(config: RunConfig, options: EvaluateOptions, T: int | None) -> RunConfig:
    """The run's configuration with another T, seed or device."""
    task = (config if T is None else at_length(config, T)).task
    if options.data is not None:
        if "data" not in task.places:
            raise ConfigError(f"data = '{options.data}': task {task.name} reads none")
        task = replace(task, **{"data": options.data})
    run = replace(
        config.run,
        seed=config.run.seed if options.seed is None else options.seed,
        device=options.device or config.run.device,
    )
    return replace(config, task=task, run=run).resolved()


def _play(config: RunConfig, checkpoint: Checkpoint, options: EvaluateOptions, console: Console) -> dict[str, Any]:
    part: Any = options.part
    available = config.task.available(part)
    wanted = options.sequences or available or SEQUENCES
    with Progress(console=console, transient=True, disable=options.json or not console.is_terminal) as progress:
        bar = progress.add_task(config.task.label, total=min(wanted, available or wanted))
        return play(
            config,
            checkpoint,
            part=part,
            sequences=options.sequences,
            after_sequence=lambda done: progress.update(bar, completed=done),
        )


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
