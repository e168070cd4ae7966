"""`sabsim reproduce figure3`: the run, its recall map as analysis draws it, and the paper's figure in words beside it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from sabsim.cli.console import plain_console
from sabsim.cli.sweeping import do_all
from sabsim.errors import SabsimError, TimeUpError
from sabsim.reproduce import figure3

if TYPE_CHECKING:
    from sabsim.cli.reproduce import ReproduceOptions


def reproduce(options: ReproduceOptions, out: Path, folder: Path, command: str, until: float | None) -> int:
    """Trains, or reads what is in ``out``; draws and writes into ``folder``, with the command that asked for it.

    ``until``: as of ``train``. Returns the exit status: 75 if the time was up before there was anything to draw.

    Raises:
        SabsimError: the run failed, or the disk refuses
    """
    from sabsim.analysis import causal_steps, read_run, recall_map, recall_phases, save
    from sabsim.runs.folder import RunFolder
    from sabsim.runs.train import train

    planned = figure3.plan(out, quick=options.quick, budget=options.budget, device=options.device, threads=options.threads)
    swept = do_all([planned], partial(train, until=until), options, gpus=options.gpus)
    console = plain_console()
    for reason in swept.paused.values():
        console.print(f"{figure3.NAME}: {reason}", soft_wrap=True)
        return TimeUpError.status
    for reason in swept.failures.values():
        raise SabsimError(f"{figure3.NAME}: {reason}")
    (summary,) = swept.summaries.values()
    run = read_run(planned.out)
    causal = causal_steps(run)
    phases = []
    for phase in recall_phases(run):
        wanted, any_digit = phase.onto(causal)
        when = {"first": phase.first, "last": phase.last, "recorded": phase.recorded, "accuracy": phase.accuracy}
        phases.append({"name": phase.name, **when, "wanted": wanted, "any_digit": any_digit})
    described = RunFolder(planned.out).description()
    about = {
        "command": command,
        **{name: summary[name] for name in ("sequences", "accuracy", "standard_error", "held_out_sequences", "seconds")},
        "config": {name: value for name, value in described.items() if name != "made_by"},
        "made_by": described["made_by"],
    }
    written = figure3.write_caption(phases, about, folder, quick=options.quick)
    written += save(recall_map(run, title=_title(summary, quick=options.quick)), folder / figure3.NAME)
    console.print(_table(phases, quick=options.quick))
    console.print(f"{', '.join(path.name for path in written)} in {folder}", soft_wrap=True)
    return 0


def _title(summary: dict[str, Any], *, quick: bool) -> str:
    size = " (quick: scaled down)" if quick else ""
    rule = f"SAB (k_trunc = {summary['k_trunc']}, k_top = {summary['k_top']}), {summary['slots']} slots"
    how = f"Copying 10 symbols over T = {summary['T']} steps; {rule}, seed {summary['seed']}, {summary['date'][:10]}"
    return f"{figure3.WHAT.capitalize()}{size}\n{how}"


def _table(phases: Sequence[dict[str, Any]], *, quick: bool) -> Table:
    title = f"{figure3.NAME}: {figure3.WHAT}" + (" (quick: scaled down)" if quick else "")
    table = Table(title=title, title_justify="left")
    for column in ("", "sequences", "held-out accuracy", "weight on its own digit", "on any digit"):
        table.add_column(column, justify="right" if column else "left")
    for phase in phases:
        when = f"{phase['first']:,.0f} to {phase['last']:,.0f}"
        shares = (f"{phase[name]:.2f}" for name in ("wanted", "any_digit"))
        table.add_row(phase["name"], when, f"{100 * phase['accuracy']:.0f} %", *shares)
    return table
