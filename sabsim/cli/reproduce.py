"""`sabsim reproduce NAME`: a table of the SAB paper, every row and seed, or its Figure 3, by one command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich import box
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from sabsim.choices import choose, require_at_least
from sabsim.cli.parse import parse
from sabsim.cli.sweeping import Gpus, Ray, do_all, joined, require_share
from sabsim.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Which table and rows, how many seeds, and where."""

    table: Positional[Annotated[str, arg(metavar="TABLE")]] = ""
    """table1 .. table8 (table8-permuted), figure3; 'all' for every one of them."""
    rows: Annotated[tuple[str, ...], arg(metavar="ROW [ROW ...]", help_behavior_hint="(default: all)")] = ()
    """Rows, by their names in the table."""
    seeds: Annotated[int, arg(metavar="N")] = 3
    """Seeds 0 .. N-1 of every row (figure3: seed 0 alone)."""
    jobs: Annotated[int, arg(metavar="N")] = 1
    """Runs at once, each in a process with one thread."""
    ray: Ray = None
    """A cluster of Ray that does the runs: auto, HOST:PORT, ray://HOST:PORT; local: one of this machine, of --jobs CPUs."""
    gpus: Gpus = None
    """Share of a GPU for each run, with --ray: 0.25 puts four runs on one."""
    budget: Annotated[int | None, arg(metavar="SEQUENCES", help_behavior_hint="(default: the table's)")] = None
    """Most sequences of a run; rows that do not lead get as many as the leading ones needed, or these."""
    quick: bool = False
    """A scaled-down version in minutes, whose title says so."""
    out: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: runs/tables or quick-tables)")] = None
    """Where the runs are kept. Given again after a kill, it goes on."""
    results: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: results/ in --out)")] = None
    """Where the tables go, as JSON, CSV and Markdown."""
    quiet: bool = False
    """Show nothing but errors and the tables."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status: 1 if a run failed.

    Raises:
        SabsimError: whatever is wrong with options, folders, data or disk, in one line
    """
    from sabsim.reproduce import TABLES, figure3

    what = {name: table.what for name, table in TABLES.items()} | {figure3.NAME: figure3.WHAT}
    options = parse(
        ReproduceOptions,
        arguments,
        prog="sabsim reproduce",
        description=(
            "Run a table of the paper (Ke et al. 2017, arXiv 1711.02326) again in streaming mode, each row with several "
            "seeds, and set it beside the paper's figures; resumable at any moment. "
            + "; ".join(f"{name}: {words}" for name, words in what.items())
        ),
    )
    if not options.table:
        raise ConfigError(f"which table? one of {', '.join(what)}, or all; see 'sabsim reproduce --help'")
    choose("table", options.table, [*what, "all"])
    names = list(what) if options.table == "all" else [options.table]
    require_at_least(options, {"seeds": 1, "jobs": 1} | ({} if options.budget is None else {"budget": 1}))
    require_share(options.gpus, options.ray)
    _check_rows(options, names)
    failed = False
    out = Path(options.out or ("runs/quick-tables" if options.quick else "runs/tables"))
    folder = Path(options.results) if options.results else out / "results"
    with joined(options):
        for name in names:
            if name in TABLES:
                failed |= _reproduce(name, options, out, folder, arguments)
            else:
                _draw_figure3(options, out, folder, arguments)
    return int(failed)


def _check_rows(options: ReproduceOptions, names: Sequence[str]) -> None:
    from sabsim.reproduce import TABLES

    known = [row.name for name in names if name in TABLES for row in TABLES[name].rows]
    if options.rows and not known:
        raise ConfigError(f"rows = {', '.join(options.rows)}: {options.table} has none; leave --rows out")
    for row in options.rows:
        choose("row", row, known)


def _draw_figure3(options: ReproduceOptions, out: Path, folder: Path, arguments: Sequence[str]) -> None:
    # Here and not above: what draws takes its time to load, and tables need none of it.
    from sabsim.cli import figure3

    figure3.reproduce(options, out, folder, arguments)


def _reproduce(name: str, options: ReproduceOptions, out: Path, folder: Path, arguments: Sequence[str]) -> bool:
    """One table; whether something failed."""
    from sabsim.reproduce import figures_of, plan, write_table
    from sabsim.runs.sweep import Swept
    from sabsim.runs.train import train

    found, needed = Swept(), options.budget
    for leading in (True, False):
        runs = plan(
            name, options.rows, options.seeds, out, quick=options.quick, leading=leading, budget=needed or options.budget
        )
        if not runs:
            continue
        swept = do_all(runs, train, options, gpus=options.gpus)
        found.summaries |= swept.summaries
        found.failures |= swept.failures
        if leading and swept.summaries:
            needed = max(summary["sequences"] for summary in swept.summaries.values())
    figures = figures_of(name, found.summaries, found.failures, seeds=options.seeds)
    _show(name, figures, quick=options.quick)
    about = {
        "command": " ".join(["sabsim reproduce", *arguments]),
        "seeds": options.seeds,
        "seconds_of_all_runs": round(sum(summary["seconds"] for summary in found.summaries.values()), 1),
        "made_by": sorted({_made_by(summary) for summary in found.summaries.values()}),
    }
    written = write_table(name, figures, about, folder, quick=options.quick)
    Console(highlight=False).print(f"{', '.join(path.name for path in written)} in {folder}", soft_wrap=True)
    return bool(found.failures)


def _made_by(summary: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {summary[name]}" for name in ("sabsim", "git", "torch", "device", "date") if name in summary)


def _show(name: str, figures: Sequence[Any], *, quick: bool) -> None:
    from sabsim.reproduce import TABLES
    from sabsim.reproduce.rendering import TITLES, cells

    title = f"{name}: {TABLES[name].what}" + (" (quick: scaled down)" if quick else "")
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    # A terminal of 80 columns has no room for more; the files have all of them.
    shown = [place for place, column in enumerate(TITLES) if column not in ("seeds", "kB")]
    for place in shown:
        table.add_column(TITLES[place], justify="right" if place else "left", no_wrap=True)
    for item in figures:
        line = cells(item)
        table.add_row(*(line[place] for place in shown))
    console = Console(highlight=False)
    console.print(title, soft_wrap=True, markup=False)
    console.print(table)
    for item in figures:
        for seed, why in item.failures.items():
            console.print(f"{item.row}, seed {seed}: {why}", soft_wrap=True, markup=False)
