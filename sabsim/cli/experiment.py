"""`sabsim experiment NAME`: a published experiment on agents, from training to the figure, by one command."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from sabsim.choices import choose, require_at_least
from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.cli.sweeping import Ray, do_all
from sabsim.errors import ConfigError, SabsimError
from sabsim.runs.progress import duration

if TYPE_CHECKING:
    from sabsim.analysis.ambrose import Finding

EXPERIMENTS = {"ambrose": "does a changed reward change replay at its end? (Ambrose, Pfeiffer & Foster 2016)"}
"""What there is, by name."""


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions:
    """How many animals, and where."""

    name: Positional[Annotated[str, arg(metavar="NAME")]] = ""
    """The experiment: ambrose."""
    seeds: Annotated[int, arg(metavar="N")] = 16
    """Animals; each is trained from a seed of its own. 6 or more can give p < .05."""
    first_seed: Annotated[int, arg(metavar="N")] = 0
    """Seed of the first."""
    jobs: Annotated[int, arg(metavar="N")] = 1
    """Runs at once, each in a process with one thread."""
    ray: Ray = None
    """A cluster of Ray that does the runs: auto, HOST:PORT, ray://HOST:PORT; local: one of this machine, of --jobs CPUs."""
    out: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: runs/NAME)")] = None
    """Where the runs are kept, and their analysis in its folder analysis/. Given again after a kill, it goes on."""
    quick: bool = False
    """Minutes instead of half an hour, and too small to learn anything: to see that it works."""
    quiet: bool = False
    """Show nothing but errors and the result."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status: 1 if a run failed.

    Raises:
        SabsimError: whatever is wrong with options, folders or disk, in one line
    """
    known = "; ".join(f"{name}: {words}" for name, words in EXPERIMENTS.items())
    options = parse(
        ExperimentOptions,
        arguments,
        prog="sabsim experiment",
        description=f"Run a published experiment on agents and draw its figure; resumable. {known}",
    )
    if not options.name:
        raise ConfigError("which experiment? such as ambrose; see 'sabsim experiment --help'")
    choose("experiment", options.name, EXPERIMENTS)
    require_at_least(options, {"seeds": 1, "first_seed": 0, "jobs": 1})
    out = Path(options.out or f"runs/{options.name}")
    # Here and not above: help or a mistake need none of what this loads.
    from sabsim.agents.ambrose import ARMS, QUICK, Sizes, plan, work

    sizes = QUICK if options.quick else Sizes()
    runs = plan(options.seeds, out, first=options.first_seed, sizes=sizes)
    console = plain_console()
    if not options.quiet:
        console.print(f"{options.seeds} animals, {len(runs)} runs in {out}:", soft_wrap=True)
        for name, found in ARMS.items():
            console.print(f"  {name}: {found.words}", soft_wrap=True)
    begun = time.perf_counter()
    swept = do_all(runs, work, options)
    for name, reason in swept.failures.items():
        console.print(f"{name} failed: {reason}", soft_wrap=True)
    if not swept.summaries:
        raise SabsimError("no run was finished; nothing can be analysed")
    about = {
        "command": shlex.join(["sabsim", "experiment", *arguments]),
        "arms": {name: arm.words for name, arm in ARMS.items()},
        "sizes": vars(sizes),
        "seeds": [options.first_seed, options.first_seed + options.seeds - 1],
        "seconds_now": round(time.perf_counter() - begun, 1),
        "seconds_of_all_runs": round(sum(found["seconds"] for found in swept.summaries.values()), 1),
        "made_by": sorted({_made_by(found) for found in swept.summaries.values()}),
        "failed": swept.failures,
    }
    names = [run.name for run in runs if run.name in swept.summaries and not run.name.endswith("/training")]
    _analyse(console, names, out, about, quick=options.quick)
    return 1 if swept.failures else 0


def _made_by(summary: dict[str, Any]) -> str:
    made = summary["made_by"]
    return ", ".join(f"{name} {made[name]}" for name in ("git", "torch", "cpu") if name in made)


def _analyse(console: Console, names: Sequence[str], out: Path, about: dict[str, Any], *, quick: bool) -> None:
    from sabsim.analysis import save
    from sabsim.analysis.ambrose import findings
    from sabsim.analysis.ambrose_figure import ambrose_figure
    from sabsim.analysis.ambrose_tables import statistics, write
    from sabsim.analysis.ends import read_animal

    animals = []
    for name in names:
        arm, session = name.split("/")[1].rsplit("-", 1)
        animals.append(read_animal(out / name, arm=arm, session=session))
    found = findings(animals)
    _show(console, found)
    title = f"Does a changed reward change replay at its end? {len({a.seed for a in animals})} animals"
    if quick:
        title += " (quick: too small to learn anything)"
    folder = out / "analysis"
    written = write(animals, found, statistics(animals, found, about), folder)
    written += save(ambrose_figure(animals, found, title=title), folder / "ambrose")
    spent = duration(about["seconds_of_all_runs"])
    console.print(f"{spent} of training; in {folder}: {', '.join(path.name for path in written)}", soft_wrap=True)


def _show(console: Console, found: Sequence[Finding]) -> None:
    """The effects per lap of every arm and session, beside what was published."""
    from sabsim.analysis.ambrose import PUBLISHED, published_effect

    title = (
        "What the change did at its end: ln rate per lap against the other end,\nin the changed epoch minus the others; "
        "q: sign flips over animals, adjusted"
    )
    table = Table(title=title, title_justify="left")
    for title in ("", "mean", "95 % interval", "q", "n", "rats"):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for item in found:
        if item.per != "lap" or item.interval is None:
            continue
        low, high = item.interval.low, item.interval.high
        rats = f"{published_effect(item.session, item.what):+.2f}" if (item.session, item.what) in PUBLISHED else ""
        table.add_row(
            *(f"{item.arm} {item.session} {item.what}", f"{item.interval.estimate:+.2f}"),
            "-" if low is None or high is None else f"{low:+.2f} .. {high:+.2f}",
            "-" if item.q is None else f"{item.q:.3g}",
            *(str(len(item.values)), rats),
        )
    console.print(table)
