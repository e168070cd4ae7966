"""`sabsim analyze RUN...`: what replay does, by run, over seeds, beside other runs; tables, numbers, figures, a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tyro.conf import Positional, arg

from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.errors import ConfigError, RunFolderError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sabsim.analysis.compare import Difference
    from sabsim.analysis.panels import FigureEntry
    from sabsim.analysis.replay_summary import Across, RunSummary
    from sabsim.analysis.statistics import Outcome

_SIDE_BY_SIDE = 4
"""Seeds in one table on the terminal."""


@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions:
    """Which runs, and where the result goes."""

    runs: Positional[Annotated[tuple[str, ...], arg(metavar="RUN [RUN ...]")]] = ()
    """Run folders, of agents or of a task; several are seeds of one experiment and may differ in nothing else."""
    compare: Annotated[tuple[str, ...], arg(metavar="RUN [RUN ...]", help_behavior_hint="(default: none)")] = ()
    """Further run folders to set beside these: seeds of another method, or of a control.
    Controls are an untrained agent (--lr 0), and one without replay (--credit no-replay)."""
    out: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: analysis/ in the run folder)")] = None
    """Where tables, stats.json, figures and report.html are written; needed with several runs."""
    parquet: bool = False
    """Write the tables as Parquet too (extra sabsim[parquet])."""
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
            "What replay does: how often, how far back, around reward, in which order, and whether it lands on the step "
            "that earned the reward, beside null models. Several runs are seeds: the unit of every test is the seed. Runs "
            "that cannot be read are left out and named, and the exit status is then 1."
        ),
    )
    out = _out(options)
    if options.parquet:
        from sabsim.analysis.export.exports import need

        need("parquet", "pyarrow")
    # Here and not above: what draws takes its time to load, and help or a mistake need none of it.
    from sabsim.analysis.compare import compare
    from sabsim.analysis.panels import draw_figures
    from sabsim.analysis.replay_json import as_json
    from sabsim.analysis.replay_summary import across_seeds, reward_labels
    from sabsim.analysis.replay_tables import as_parquet, write_comparison, write_stats, write_tables
    from sabsim.cli.report import write_analysis

    console = plain_console()
    summaries = _measure(console, options.runs, options)
    others = _measure(console, options.compare, options) if options.compare else []
    across, labels = across_seeds(summaries, seed=options.seed), reward_labels(summaries, seed=options.seed)
    differences = compare(summaries, others, seed=options.seed) if others else []
    _show(console, summaries, across)
    _say(console, summaries, labels)
    further = _sensitivity(console, summaries) | _beside(console, summaries, others, differences)
    task = summaries[0].task
    written = [write_stats(as_json(summaries, across, labels, **further), out), *write_tables(summaries, out)]
    written += write_comparison(differences, out, task=task)
    if options.parquet:
        written += as_parquet([path for path in written if path.suffix == ".csv"])
    figures = draw_figures(summaries, others)
    written += _save(figures, out)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("playing an episode for the report", total=None)
        page = out / "report.html"
        written.append(
            write_analysis(
                page, summaries, across, labels, figures, differences, after_step=lambda _: progress.advance(bar)
            )
        )
    console.print(f"{len(written)} files in {out}: {', '.join(path.name for path in written)}", soft_wrap=True)
    return int(len(summaries) + len(others) < len(options.runs) + len(options.compare))


def _measure(console: Console, runs: Sequence[str], options: AnalyzeOptions) -> list[RunSummary]:
    """The measures of each run that can be read; the others are named.

    Raises:
        RunFolderError: none can be read
    """
    from sabsim.analysis.replay_summary import summarise

    summaries, left_out = [], []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for run in progress.track(runs, description="measuring"):
            try:
                summaries.append(summarise(run, draws=options.draws, seed=options.seed))
            except RunFolderError as error:
                left_out.append(error)
    if not summaries:
        raise left_out[0]
    for reason in left_out:
        console.print(f"left out: {reason}", soft_wrap=True)
    return summaries


def _sensitivity(console: Console, summaries: Sequence[RunSummary]) -> dict[str, Any]:
    """The rate around reward by another method, for `stats.json`; a line of it, or why there is none."""
    from sabsim.analysis.sensitivity import gee_near_reward

    found = gee_near_reward(summaries)
    if isinstance(found, str):
        return {"gee_near_reward": found}
    console.print(
        f"sensitivity: ln rate near {summaries[0].run.marked} / near comparable steps {found.estimate:.3g} "
        f"({_number(found.low)} .. {_number(found.high)}), p = {found.p:.3g} ({found.method})",
        soft_wrap=True,
    )
    return {"gee_near_reward": asdict(found)}


def _beside(
    console: Console, summaries: Sequence[RunSummary], others: Sequence[RunSummary], differences: Sequence[Difference]
) -> dict[str, Any]:
    """Two sets of runs side by side, on the terminal and for `stats.json`."""
    from sabsim.analysis.compare import names_of
    from sabsim.analysis.replay_labels import label

    if not others:
        return {}
    names = [
        f"{names_of(runs)} ({runs[0].run.what}, {runs[0].run.credit}, {len(runs)} seeds)" for runs in (summaries, others)
    ]
    table = _table(f"{names[0]} beside {names[1]}; p: seeds permuted between the sets")
    for title in ("these", "those", "95 % of difference", "p", "q"):
        table.add_column(title, justify="right", no_wrap=True)
    for item in differences:
        test = item.test
        limits = f"{_number(test.low)} .. {_number(test.high)}" if test and test.low is not None else "-"
        name = label(item.name, task=summaries[0].task)
        table.add_row(
            name, _number(item.here), _number(item.there), limits, _number(test.p if test else None), _number(item.q)
        )
    console.print(table)
    reasons = {item.reason for item in differences if item.reason}
    for reason in sorted(reasons):
        console.print(reason, soft_wrap=True)
    return {"comparison": {"these": names[0], "those": names[1], "differences": [asdict(item) for item in differences]}}


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
    from sabsim.analysis.replay_labels import label

    run, task = summaries[0].run, summaries[0].task
    for first in range(0, len(summaries), _SIDE_BY_SIDE):
        shown = summaries[first : first + _SIDE_BY_SIDE]
        table = _table(f"Replay of {', '.join(s.run.name for s in shown)}: {run.what}, {run.credit}")
        for summary in shown:
            table.add_column(f"seed {summary.run.seed}", justify="right", no_wrap=True)
        for item in across:
            table.add_row(label(item.name, task=task), *(_number(summary.values().get(item.name)) for summary in shown))
        console.print(table)
    if len(summaries) < 2:
        return
    table = _table(f"Over {len(summaries)} seeds; p: sign flips of per-seed values, q: of all p together")
    for title in ("n", "mean", "95 % interval", "p", "q"):
        table.add_column(title, justify="right", no_wrap=True)
    for item in across:
        interval = item.interval
        limits = "-" if interval.low is None else f"{_number(interval.low)} .. {_number(interval.high)}"
        p = item.test.p if item.test else None
        mean = _number(interval.estimate)
        table.add_row(label(item.name, task=task), str(interval.n), mean, limits, _number(p), _number(item.q))
    console.print(table)


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    # On a narrow terminal names are folded; numbers never are.
    table.add_column("", overflow="fold")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _say(console: Console, summaries: Sequence[RunSummary], labels: Outcome | str) -> None:
    """What the table does not show: the labels' test, why numbers are missing, and what must not be read into them."""
    from sabsim.analysis.replay_answers import why_left_out

    which = "wrong answers minus right" if summaries[0].task else "rewarded triggers minus comparable others"
    if isinstance(labels, str):
        console.print(f"log10 credit, {which}: {labels}", soft_wrap=True)
    else:
        console.print(
            f"log10 credit, {which}: {labels.estimate:.3g}, p = {labels.p:.3g}: of these runs, not over seeds "
            f"({labels.method})",
            soft_wrap=True,
        )
    for summary in summaries:
        for name, reason in summary.missing.items():
            console.print(f"{summary.run.name}: {name.replace('_', ' ')}: {reason}", soft_wrap=True)
        for why in why_left_out(summary.run):
            console.print(f"{summary.run.name}: some replays are left out: {why}", soft_wrap=True)
        if not summary.run.run.summary:
            console.print(f"{summary.run.name}: the run is not finished; this is what it has recorded so far")
    if len(summaries) < 6:
        least = 0.5 ** (len(summaries) - 1)
        told = "one seed has no p-value" if len(summaries) == 1 else f"of {len(summaries)} seeds p is at least {least:g}"
        console.print(f"the unit is the seed: {told}; 6 or more can reach 0.05", soft_wrap=True)


def _save(figures: Mapping[FigureEntry, Figure], out: Path) -> list[Path]:
    """The figures as files; one of an earlier analysis that has nothing to show now is removed."""
    from sabsim.analysis import save
    from sabsim.analysis.panels import COMPARISON, FIGURES

    written = []
    for entry in (*FIGURES, COMPARISON):
        if entry in figures:
            written += save(figures[entry], out / entry.name)
        else:
            for kind in ("png", "svg"):
                (out / f"{entry.name}.{kind}").unlink(missing_ok=True)
    return written
