"""`sabsim reproduce NAME`: a table of the SAB paper, every row and seed, or its Figure 3, by one command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich import box
from rich.table import Table
from tyro.conf import Positional, arg

from sabsim.choices import choose, require_at_least
from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.cli.run import end_of
from sabsim.cli.sweeping import Gpus, Ray, do_all, joined, require_share
from sabsim.errors import ConfigError, TimeUpError

if TYPE_CHECKING:
    from sabsim.reproduce import Figures


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Which table and rows, how many seeds, and where."""

    table: Positional[Annotated[str, arg(metavar="TABLE")]] = ""
    """table1 .. table8 (table8-permuted), transfer, denoise, figure3; 'all' for every one of them."""
    rows: Annotated[tuple[str, ...], arg(metavar="ROW [ROW ...]", help_behavior_hint="(default: all)")] = ()
    """Rows, by their names in the table."""
    seeds: Annotated[int, arg(metavar="N")] = 3
    """Seeds 0 .. N-1 of every row (figure3: seed 0 alone)."""
    jobs: Annotated[int, arg(metavar="N")] = 1
    """Runs at once, each in a process of its own."""
    threads: Annotated[int, arg(metavar="N")] = 1
    """CPU threads of a run. They pay from some hundreds of hidden units on (tables at the paper's size), and change no
    result of compiled C."""
    ray: Ray = None
    """A cluster of Ray that does the runs: auto, HOST:PORT, ray://HOST:PORT; local: one here, for --jobs runs."""
    gpus: Gpus = None
    """Share of a GPU for each run, with --ray: 0.25 puts four runs on one."""
    budget: Annotated[int | None, arg(metavar="SEQUENCES", help_behavior_hint="(default: the table's)")] = None
    """Most sequences of a run; rows that do not lead get as many as the leading ones needed, or these."""
    device: Annotated[str, arg(metavar="NAME")] = "auto"
    """Where to compute: cpu, cuda, or auto (cuda if there is one)."""
    minutes: Annotated[float | None, arg(metavar="M", help_behavior_hint="(default: no limit)")] = None
    """After so many minutes runs save checkpoints and stop, and the exit status is 75; the same command goes on."""
    quick: bool = False
    """A scaled-down version in minutes, whose title says so."""
    out: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: runs/tables or quick-tables)")] = None
    """Where the runs are kept. Given again after a kill, it goes on."""
    results: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: results/ in --out)")] = None
    """Where the tables go, as JSON, CSV and Markdown. Rows that are there stay, until the same row is run again."""
    render: Annotated[str | None, arg(metavar="PAGE", help_behavior_hint="")] = None
    """Run nothing: write the tables of --results (results/tables) into this page, between its markers <!-- TABLE -->."""
    quiet: bool = False
    """Show nothing but errors and the tables."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status: 1 if a run failed, 75 if the time was up before all were finished.

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
    if options.render is not None:
        return _render(options)
    if not options.table:
        raise ConfigError(f"which table? one of {', '.join(what)}, or all; see 'sabsim reproduce --help'")
    choose("table", options.table, [*what, "all"])
    names = [name for name in what if not name.endswith("-full")] if options.table == "all" else [options.table]
    require_at_least(options, {"seeds": 1, "jobs": 1, "threads": 1} | ({} if options.budget is None else {"budget": 1}))
    require_share(options.gpus, options.ray)
    if options.minutes is not None and options.ray is not None:
        raise ConfigError(f"minutes = {options.minutes:g}: only without --ray, whose machines have clocks of their own")
    _check_rows(options, names)
    until, status = end_of(options.minutes), 0
    out = Path(options.out or ("runs/quick-tables" if options.quick else "runs/tables"))
    folder = Path(options.results) if options.results else out / "results"
    with joined(options, threads=options.threads):
        for name in names:
            if name in TABLES:
                status = max(status, _reproduce(name, options, out, folder, until))
            else:
                status = max(status, _draw_figure3(name, options, out, folder, until))
    return status


def _render(options: ReproduceOptions) -> int:
    """Writes the page anew and tells whether anything on it was changed."""
    from sabsim.reproduce import PARTS, render_page

    names = [options.table] if options.table not in ("", "all") else PARTS
    choose("table", names[0], [*PARTS, "all"])
    page, results = Path(options.render or ""), Path(options.results or "results/tables")
    try:
        before = page.read_text()
        after = render_page(before, results, names)
        if after != before:
            page.write_text(after)
    except ConfigError as error:
        raise ConfigError(f"render = '{page}': {error}") from error
    except OSError as error:
        raise ConfigError(f"render = '{page}': {error.strerror or error}; give a page that can be written") from error
    told = "up to date" if after == before else "tables renewed"
    plain_console().print(f"{page}: {told}", soft_wrap=True)
    return 0


def _check_rows(options: ReproduceOptions, names: Sequence[str]) -> None:
    from sabsim.reproduce import TABLES

    known = [row.name for name in names if name in TABLES for row in TABLES[name].rows]
    if options.rows and not known:
        raise ConfigError(f"rows = {', '.join(options.rows)}: {options.table} has none; leave --rows out")
    for row in options.rows:
        choose("row", row, known)


def _draw_figure3(name: str, options: ReproduceOptions, out: Path, folder: Path, until: float | None) -> int:
    # Here and not above: what draws takes its time to load, and tables need none of it.
    from sabsim.cli import figure3

    return figure3.reproduce(options, out, folder, _command(name, options), until)


def _command(name: str, options: ReproduceOptions, *more: str) -> str:
    """What decides the figures of ``name``, as a command: not where they are kept, nor on how many processors."""
    words = ["sabsim", "reproduce", name, *more]
    words += ["--rows", *options.rows] if options.rows else []
    words += [] if options.budget is None else ["--budget", str(options.budget)]
    words += [] if options.device == "auto" else ["--device", options.device]
    return shlex.join([*words, "--quick"] if options.quick else words)


def _reproduce(name: str, options: ReproduceOptions, out: Path, folder: Path, until: float | None) -> int:
    """One table; the exit status for it."""
    from sabsim.reproduce import (
        figures_of,
        finished_runs,
        merge,
        plan,
        stored_rows,
        transfer,
        with_origin,
        write_table,
    )
    from sabsim.reproduce.tables import needed
    from sabsim.runs.sweep import Swept

    # What cannot be added to is told before anything is run.
    stored_rows(name, folder, quick=options.quick)
    transfer.stored_transfers(name, folder)
    found, folders, budget = Swept(), dict[str, Path](), options.budget
    work = transfer.work_of(name, quick=options.quick, until=until)
    for leading in (True, False):
        runs = plan(
            name,
            options.rows,
            options.seeds,
            out,
            quick=options.quick,
            leading=leading,
            budget=budget,
            device=options.device,
            threads=options.threads,
        )
        if not runs:
            continue
        folders |= {run.name: run.out for run in runs}
        swept = do_all(runs, work, options, gpus=options.gpus)
        found.summaries |= swept.summaries
        found.failures |= swept.failures
        found.paused |= swept.paused
        if leading and swept.paused:
            break  # how much the others get is not known yet
        if leading:
            sequences = {run: summary["sequences"] for run, summary in swept.summaries.items()}
            budget = needed(name, sequences) or budget
    summaries = {run: with_origin(summary, folders[run]) for run, summary in found.summaries.items()}
    command = _command(name, options, "--seeds", str(options.seeds))
    new = figures_of(name, summaries, found.failures, unfinished=found.paused, command=command)
    finished = finished_runs(name, out, quick=options.quick)
    left = figures_of(name, finished, {})
    rows = merge(name, stored_rows(name, folder, quick=options.quick), new, left)
    _show(name, rows, quick=options.quick)
    written = write_table(name, rows, folder, quick=options.quick)
    if lengths := transfer.transfers(name, out, finished | summaries, quick=options.quick):
        lengths = transfer.merged(name, transfer.stored_transfers(name, folder), lengths)
        written += transfer.write_transfers(name, lengths, folder, quick=options.quick)
        _show_lines(transfer.as_lines(name, lengths, quick=options.quick))
    plain_console().print(f"{', '.join(path.name for path in written)} in {folder}", soft_wrap=True)
    return TimeUpError.status if found.paused else int(bool(found.failures))


def _show_lines(lines: Sequence[Sequence[str]]) -> None:
    """A table of words under its titles."""
    table = Table(*lines[0], box=box.SIMPLE, padding=(0, 1, 0, 0))
    for line in lines[1:]:
        table.add_row(*line)
    plain_console().print(table)


def _show(name: str, rows: Sequence[Figures], *, quick: bool) -> None:
    from sabsim.reproduce import TABLES
    from sabsim.reproduce.rendering import ANY_SETTING, ANY_SETTING_MEANS, TITLES, cells
    from sabsim.reproduce.verdict import in_a_word

    title = f"{name}: {TABLES[name].what}" + (" (quick: scaled down)" if quick else "")
    # A terminal of 80 columns has no room for more columns and gaps; the files have all of them.
    table = Table(box=box.SIMPLE, padding=0, pad_edge=False, show_edge=False)
    shown = [place for place, column in enumerate(TITLES) if column not in ("seeds", "solved", "macrostate, kB")]
    for place in shown:
        table.add_column(TITLES[place], justify="left" if TITLES[place] in ("row", "verdict") else "right", no_wrap=True)
    for item in rows:
        line = cells(name, item, quick=quick)
        line[-1] = in_a_word(line[-1])
        table.add_row(*(line[place] for place in shown))
    console = plain_console()
    console.print(title, soft_wrap=True)
    console.print(table)
    if any(ANY_SETTING in cell for item in rows for cell in cells(name, item, quick=quick)):
        console.print(f"{ANY_SETTING} {ANY_SETTING_MEANS}")
    for item in rows:
        for seed, why in (item.failures | item.unfinished).items():
            console.print(f"{item.row}, seed {seed}: {why}", soft_wrap=True)
