"""`sabsim evaluate RUN` where RUN is an agent's: episodes it was never trained on, and which went worst."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tyro.conf import Positional, arg

from sabsim.agents import evaluate, load_agent
from sabsim.agents.summary import figures
from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.errors import ConfigError
from sabsim.runs import RunFolder
from sabsim.runs.machine import git_revision, sabsim_version, utc_now
from sabsim.runs.progress import duration, number

_WORST = 5
"""Episodes of the table of the worst."""


@dataclass(frozen=True, kw_only=True)
class EvaluateAgentOptions:
    """What is played, and how much of it."""

    run: Positional[Annotated[str, arg(metavar="RUN")]]
    """Run folder of an agent; its last checkpoint plays."""
    episodes: Annotated[int, arg(metavar="EPISODES")] = 100
    """Episodes, each begun with a seed of its own."""
    greedy: bool = False
    """Take the likeliest action instead of drawing one from the policy."""
    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the run's)")] = None
    """Seed of the episodes, and of the actions drawn."""
    json: bool = False
    """Print JSON instead of tables."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status. The result is also kept, as `evaluations/NAME.json`.

    Raises:
        SabsimError: whatever is wrong with options, folder, disk or numbers, in one line
    """
    options = parse(
        EvaluateAgentOptions,
        arguments,
        prog="sabsim evaluate",
        description="Play what an agent has learned: parameters fixed, fresh memory, episodes never trained on.",
    )
    if options.episodes < 1:
        raise ConfigError(f"episodes = {options.episodes}: must be at least 1")
    folder = RunFolder(Path(options.run))
    console = plain_console()
    result = _play(folder, options, console)
    if options.json:
        console.print_json(data=result)
    else:
        console.print(_table(folder, result))
        console.print(_worst(result))
    # Shown first: where the folder cannot be written, such as a colleague's, that is all there is.
    policy = "greedy" if options.greedy else "sampled"
    folder.write_evaluation(f"{policy}-seed{result['seed']}-{options.episodes}", result)
    return 0


def _play(folder: RunFolder, options: EvaluateAgentOptions, console: Console) -> dict[str, Any]:
    parts, checkpoint = load_agent(folder)
    config = parts.config
    if options.seed is not None:
        config = replace(config, run=replace(config.run, seed=options.seed))
    began = time.perf_counter()
    with Progress(console=console, transient=True, disable=options.json or not console.is_terminal) as progress:
        bar = progress.add_task(config.env, total=options.episodes)
        found = evaluate(
            parts.agent,
            config,
            parts.make,
            episodes=options.episodes,
            seed=config.evaluation_seed,
            greedy=options.greedy,
            after_window=lambda done: progress.update(bar, completed=done),
        )
    return {
        "env": config.env,
        "env_args": dict(config.env_args),
        "credit": config.learner.credit,
        **figures(found),
        "worst": [
            {"seed": e.seed, "return": e.total, "length": e.length, "success": e.success} for e in found.worst(_WORST)
        ],
        "greedy": options.greedy,
        "seed": config.run.seed,
        "trained_steps": checkpoint.numbers["env_steps"],
        "seconds": time.perf_counter() - began,
        "sabsim": sabsim_version(),
        "git": git_revision(),
        "date": utc_now(),
    }


def _table(folder: RunFolder, result: dict[str, Any]) -> Table:
    policy = "likeliest actions" if result["greedy"] else "actions drawn from the policy"
    table = Table(
        title=f"{folder.path}: {result['env']}, {result['credit']}, after {result['trained_steps']:,} steps",
        caption=f"{result['episodes']} episodes, {policy}, {duration(result['seconds'])}",
    )
    table.add_column("")
    for title in ("estimate", "95 % interval", "episodes"):
        table.add_column(title, justify="right")
    for name in ("success", "return", "length"):
        found = result[name]
        if found is not None:
            low, high = number(found["low"]), number(found["high"])
            count = result["judged" if name == "success" else "episodes"]
            table.add_row(name, number(found["estimate"]), f"{low} .. {high}", str(count))
    return table


def _worst(result: dict[str, Any]) -> Table:
    table = Table(title="the worst episodes")
    for title in ("seed", "return", "length", "success"):
        table.add_column(title, justify="right")
    said = {None: "-", True: "yes", False: "no"}
    for episode in result["worst"]:
        figures = (str(episode["seed"]), number(episode["return"]), str(episode["length"]), said[episode["success"]])
        table.add_row(*figures)
    return table
