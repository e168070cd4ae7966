"""`sabsim analyze RUN...`: what an agent's replay does, run by run and over seeds; tables, numbers, figures, a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tyro.conf import Positional, arg

from sabsim.cli.parse import parse
from sabsim.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sabsim.analysis.panels import FigureEntry
    from sabsim.analysis.replay_summary import Across, RunSummary
    from sabsim.analysis.statistics import Outcome

_SIDE_BY_SIDE = 4
"""Seeds in one table on the terminal."""


@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions:
    """Which runs, and where the result goes."""

    runs: Positional[Annotated[tuple[str, ...], arg(metavar="RUN [RUN ...]")]] = ()
    """Run folders of agents; several are seeds of one experiment and may differ in nothing else."""
    out: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: analysis/ in the run folder)")] = None
    """Where tables, stats.json, figures and report.html are written; needed with several runs."""
    draws: Annotated[int, arg(metavar="DRAWS")] = 200
    """Draws of each null model."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """Seed of the null models, permutations and bootstraps."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status.

    Raises:
        SabsimError: whatever is wrong with options, folders or disk, in one line
    """
    options = parse(
        AnalyzeOptions,
        arguments,
        prog="sabsim analyze",
        description=(
            "What an agent's replay does: how often, how far back, around reward, and whether it lands on the step that "
            "earned the reward, beside null models. Several runs are seeds: the unit of every test is the seed."
        ),
    )
    out = _out(options)
    # Here and not above: what draws takes its time to load, and help or a mistake need none of it.
    from sabsim.analysis.panels import draw_figures
    from sabsim.analysis.replay_summary import across_seeds, as_json, reward_labels, summarise
    from sabsim.analysis.replay_tables import write_stats, write_tables
    from sabsim.cli.report import write_analysis

    console = Console(highlight=False)
    summaries = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for run in progress.track(options.runs, description="measuring"):
            summaries.append(summarise(run, draws=options.draws, seed=options.seed))
    across, labels = across_seeds(summaries, seed=options.seed), reward_labels(summaries, seed=options.seed)
    _show(console, summaries, across)
    _say(console, summaries, labels)
    written = [write_stats(as_json(summaries, across, labels), out), *write_tables(summaries, out)]
    figures = draw_figures(summaries)
    written += _save(figures, out)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("playing an episode for the report", total=None)
        page = out / "report.html"
        written.append(write_analysis(page, summaries, across, labels, figures, after_step=lambda _: progress.advance(bar)))
    console.print(f"{len(written)} files in {out}: {', '.join(path.name for path in written)}", soft_wrap=True)
    return 0


def _out(options: AnalyzeOptions) -> Path:
    if not options.runs:
        raise ConfigError("RUN: a run folder is needed; see 'sabsim analyze --help'")
    for name in ("draws", "seed"):
        least = 1 if name == "draws" else 0
        if getattr(options, name) < least:
            raise ConfigError(f"{name} = {getattr(options, name)}: must be at least {least}")
    if options.out is not None:
        return Path(options.out)
    if len(options.runs) > 1:
        raise ConfigError(f"out: {len(options.runs)} runs are given; --out says where their common analysis goes")
    return Path(options.runs[0]) / "analysis"


def _show(console: Console, summaries: Sequence[RunSummary], across: Sequence[Across]) -> None:
    """The numbers of each seed, a few seeds side by side, and below them what the seeds say together."""
    from sabsim.analysis.replay_summary import LABELS

    run = summaries[0].run
    for first in range(0, len(summaries), _SIDE_BY_SIDE):
        shown = summaries[first : first + _SIDE_BY_SIDE]
        table = _table(f"Replay of {', '.join(s.run.name for s in shown)}: {run.env}, {run.credit}")
        for summary in shown:
            table.add_column(f"seed {summary.run.seed}", justify="right", no_wrap=True)
        for item in across:
            table.add_row(LABELS[item.name], *(_number(summary.values().get(item.name)) for summary in shown))
        console.print(table)
    if len(summaries) < 2:
        return
    table = _table(f"Over {len(summaries)} seeds; p: sign flips of per-seed values, q: of all p together")
    for title in ("mean", "95 % interval", "p", "q"):
        table.add_column(title, justify="right", no_wrap=True)
    for item in across:
        interval = item.interval
        limits = "-" if interval.low is None else f"{_number(interval.low)} .. {_number(interval.high)}"
        p = item.test.p if item.test else None
        table.add_row(LABELS[item.name], _number(interval.estimate), limits, _number(p), _number(item.q))
    console.print(table)


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _say(console: Console, summaries: Sequence[RunSummary], labels: Outcome | str) -> None:
    """What the table does not show: the labels' test, why numbers are missing, and what must not be read into them."""
    if isinstance(labels, str):
        console.print(f"credit of rewarded triggers and others: {labels}", soft_wrap=True)
    else:
        console.print(
            f"log10 credit, rewarded triggers minus comparable others: {labels.estimate:.3g}, p = {labels.p:.3g}: of these "
            f"runs, not over seeds ({labels.method})",
            soft_wrap=True,
        )
    for summary in summaries:
        for name, reason in summary.missing.items():
            console.print(f"{summary.run.name}: {name.replace('_', ' ')}: {reason}", soft_wrap=True)
        if summary.run.left_out:
            console.print(
                f"{summary.run.name}: {summary.run.left_out} replays left out, of an episode that is not recorded"
            )
        if not summary.run.run.summary:
            console.print(f"{summary.run.name}: the run is not finished; this is what it has recorded so far")
    if len(summaries) < 6:
        least = 0.5 ** (len(summaries) - 1)
        told = "one seed has no p-value" if len(summaries) == 1 else f"of {len(summaries)} seeds p is at least {least:g}"
        console.print(f"the unit is the seed: {told}; 6 or more can reach 0.05", soft_wrap=True)


def _save(figures: Mapping[FigureEntry, Figure], out: Path) -> list[Path]:
    """The figures as files; one of an earlier analysis that has nothing to show now is removed."""
    from sabsim.analysis import save
    from sabsim.analysis.panels import FIGURES

    written = []
    for entry in FIGURES:
        if entry in figures:
            written += save(figures[entry], out / entry.name)
        else:
            for kind in ("png", "svg"):
                (out / f"{entry.name}.{kind}").unlink(missing_ok=True)
    return written
