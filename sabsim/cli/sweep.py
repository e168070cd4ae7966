"""`sabsim sweep ENV_ID ...`: agents over environments, credit rules and seeds, and the table they come to."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from rich import box
from rich.table import Table
from tyro.conf import Positional, arg

from sabsim.choices import choose, require_at_least
from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.cli.sweeping import Gpus, Ray, do_all, require_share
from sabsim.errors import ConfigError, SabsimError


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Which runs, how many at a time, and where."""

    envs: Positional[Annotated[tuple[str, ...], arg(metavar="ENV_ID[,KEY=VALUE...]")]] = ()
    """Environments, each with arguments of its own: sabsim/TMaze-v0,memory_length=100."""
    env_args: Annotated[
        tuple[str, ...], arg(metavar="KEY=VALUE [KEY=VALUE ...]", help_behavior_hint="(default: none)")
    ] = ()
    """Arguments of all environments; or all of them as one JSON object."""
    credits: Annotated[
        tuple[str, ...], arg(metavar="NAME [NAME ...]", help_behavior_hint="(default: that of --credit)")
    ] = ()
    """Credit rules, as those of --credit in 'sabsim agent --help'."""
    seeds: Annotated[int, arg(metavar="N")] = 3
    """Seeds of each environment and rule: that of --seed and those after it."""
    jobs: Annotated[int, arg(metavar="N")] = 1
    """Runs at once, each in a process of its own."""
    ray: Ray = None
    """A cluster of Ray that does the runs: auto, HOST:PORT, ray://HOST:PORT; local: one here, for --jobs runs."""
    gpus: Gpus = None
    """Share of a GPU for each run, with --ray and --device cuda: 0.25 puts four runs on one."""
    quick: bool = False
    """A few thousand steps a run, unless told how many, too few to learn anything: to see that it works."""
    out: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: runs/sweep or runs/quick-sweep)")] = None
    """Where the runs are kept. Given again after a kill, it goes on."""
    results: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: results/ in --out)")] = None
    """Where the table goes, as JSON, CSV and Markdown."""
    quiet: bool = False
    """Show nothing but errors and the table."""


_QUICK: dict[str, Any] = {"steps": 4_000, "eval_every": 4_000, "eval_episodes": 8, "final_episodes": 16}


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status: 1 if a run failed.

    Raises:
        SabsimError: whatever is wrong with environments, options, folders or disk, in one line
    """
    # Here and not above: the help of other commands needs none of what this loads.
    from sabsim.agents import CREDITS, AgentConfig, maker, read_env_args
    from sabsim.agents.ambrose import work
    from sabsim.agents.sweep import lines_of, plan, read_place, seeds_of, write_table

    chosen = _parse(arguments)
    options: SweepOptions = chosen.sweep
    if not options.envs:
        raise ConfigError("which environments? such as sabsim/MemoryChain-v0; see 'sabsim sweep --help'")
    require_at_least(options, {"seeds": 1, "jobs": 1})
    require_share(options.gpus, options.ray)
    places = [read_place(words, read_env_args(options.env_args)) for words in options.envs]
    credits = options.credits or (chosen.learner.credit,)
    for credit in credits:
        choose("credit", credit, CREDITS)
    for place in places:
        maker(place.env, place.env_args)
    groups = {name: getattr(chosen, name) for name in ("run", "learner", "signal", "optimizer")}
    base = AgentConfig(env=places[0].env, **groups)
    out = Path(options.out or ("runs/quick-sweep" if options.quick else "runs/sweep"))
    swept = do_all(plan(places, credits, options.seeds, base, out), work, options, gpus=options.gpus)
    if not swept.summaries:
        raise SabsimError(f"no run was finished; the first: {next(iter(swept.failures.values()))}")
    seeds = seeds_of(base, options.seeds)
    lines = lines_of(places, credits, seeds, swept.summaries, swept.failures)
    _show(lines, quick=options.quick)
    about = {
        "command": shlex.join(["sabsim", "sweep", *arguments]),
        "seeds": list(seeds),
        "seconds_of_all_runs": round(sum(found["seconds"] for found in swept.summaries.values()), 1),
        "made_by": sorted({_made_by(found) for found in swept.summaries.values()}),
    }
    folder = Path(options.results) if options.results else out / "results"
    written = write_table(lines, about, folder, quick=options.quick)
    plain_console().print(f"{', '.join(path.name for path in written)} in {folder}", soft_wrap=True)
    return 1 if swept.failures else 0


def _parse(arguments: Sequence[str]) -> Any:
    from sabsim.agents import AgentLearnerOptions, AgentOptimizerOptions, AgentRunOptions, SignalOptions

    groups: dict[str, type] = {
        "sweep": SweepOptions,
        "run": AgentRunOptions,
        "learner": AgentLearnerOptions,
        "signal": SignalOptions,
        "optimizer": AgentOptimizerOptions,
    }
    items = [(name, kind, field(default_factory=kind)) for name, kind in groups.items()]
    kind = dataclasses.make_dataclass("Options", items, frozen=True, kw_only=True)
    description = (
        "Train agents in every environment, by every credit rule, with several seeds; a table at the end. Resumable at any "
        "moment, and on a cluster with --ray. The options of 'sabsim agent' hold for all runs."
    )
    options: Any = parse(kind, arguments, prog="sabsim sweep", description=description)
    if options.sweep.quick:
        # Defaults that are asked for: what is given beside them counts.
        quick = kind(run=AgentRunOptions(**_QUICK))
        options = parse(kind, arguments, prog="sabsim sweep", description=description, default=quick)
    return options


def _made_by(summary: dict[str, Any]) -> str:
    made = summary["made_by"]
    return ", ".join(f"{name} {made[name]}" for name in ("sabsim", "git", "torch", "cpu") if name in made)


def _show(lines: Sequence[Any], *, quick: bool) -> None:
    """A table for each environment, as a terminal is narrow."""
    from sabsim.agents.sweep import TITLES, cells

    console = plain_console()
    for environment in dict.fromkeys(line.environment for line in lines):
        table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
        for title in TITLES[1:]:
            short = title.partition(", ")[2] or title
            table.add_column(short, justify="left" if title == "credit" else "right", no_wrap=True)
        for line in lines:
            if line.environment == environment:
                table.add_row(*cells(line)[1:])
        size = " (quick: too small to learn anything)" if quick else ""
        console.print(environment + size, soft_wrap=True)
        console.print(table)
    for line in lines:
        for seed, why in line.failures.items():
            console.print(f"{line.environment}, {line.credit}, seed {seed}: {why}", soft_wrap=True)
