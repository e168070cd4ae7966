"""`sabsim export RUN`: what a run has recorded, for other tools: NWB, Parquet, CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from tyro.conf import Positional, arg

from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.errors import ConfigError

if TYPE_CHECKING:
    from sabsim.analysis.export import Export


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Which run, and what is written."""

    run: Positional[Annotated[str, arg(metavar="RUN")]]
    """Run folder, of an agent or a task; it may still be being written."""
    nwb: Annotated[str | None, arg(metavar="FILE.nwb", help_behavior_hint="(default: none)")] = None
    """Write one stream as a Neurodata Without Borders file."""
    parquet: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: none)")] = None
    """Write all tables as Parquet files, with a data dictionary."""
    csv: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: none)")] = None
    """Write all tables as CSV files, with a data dictionary."""
    overwrite: bool = False
    """Replace an earlier export."""
    stream: Annotated[int, arg(metavar="N")] = 0
    """The stream of the NWB file; one file holds one."""
    dt: Annotated[float, arg(metavar="SECONDS")] = 1.0
    """Seconds that the NWB file gives a step; steps have none of their own."""
    experimenter: Annotated[str, arg(metavar="NAME")] = "sabsim, simulation"
    """Who, in the NWB file, as "Last, First"."""
    institution: Annotated[str, arg(metavar="NAME")] = "none (simulation)"
    """Where, in the NWB file."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status.

    Raises:
        SabsimError: whatever is wrong with options, folders or disk, in one line
    """
    options = parse(
        ExportOptions,
        arguments,
        prog="sabsim export",
        description=(
            "Write what a run has recorded for other tools: --nwb for pynapple and the like, --parquet or --csv for "
            "tables. Each is written whole or not at all."
        ),
    )
    from sabsim.analysis.export import export_nwb, export_tables

    chosen = [name for name in ("nwb", "parquet", "csv") if getattr(options, name) is not None]
    if not chosen:
        raise ConfigError("nothing to write: give --nwb FILE.nwb, --parquet FOLDER or --csv FOLDER")
    if options.parquet is not None and options.csv is not None and Path(options.parquet) == Path(options.csv):
        raise ConfigError(f"csv = '{options.csv}': is the folder of --parquet as well; give another")
    console = plain_console()
    for name in chosen:
        out = getattr(options, name)
        with _progress(console) as advance:
            if name == "nwb":
                found = export_nwb(
                    options.run,
                    out,
                    stream=options.stream,
                    dt=options.dt,
                    experimenter=options.experimenter,
                    institution=options.institution,
                    overwrite=options.overwrite,
                    progress=advance,
                )
            else:
                kind: Literal["parquet", "csv"] = "parquet" if name == "parquet" else "csv"
                found = export_tables(options.run, out, kind=kind, overwrite=options.overwrite, progress=advance)
        _say(console, found)
    return 0


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int], None]]:
    """Rows written so far, on a terminal; gives what is called with them."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} values written"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("writing", total=None)
        yield lambda rows: progress.advance(bar, rows)


def _say(console: Console, found: Export) -> None:
    rows = ", ".join(f"{name} {count:,}" for name, count in found.rows.items())
    files = [found.path] if found.path.is_file() else list(found.path.iterdir())
    size = sum(file.stat().st_size for file in files) / 1e6
    console.print(f"{found.path}: {size:.2f} MB; rows: {rows}", soft_wrap=True)
    for reason in found.missing:
        console.print(f"left out: {reason}", soft_wrap=True)
    if not found.finished:
        console.print("the run is not finished; this is what it had recorded", soft_wrap=True)
