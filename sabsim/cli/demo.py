"""`sabsim demo`: the copying task and a maze learned online, with replay and without; a table, three figures, a report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from tyro.conf import arg

from sabsim.agents import AgentConfig
from sabsim.cli import demo_agent
from sabsim.cli.board import make_board, percent
from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.errors import ConfigError
from sabsim.runs import LearnerOptions, RunConfig, RunFolder, RunOptions, build
from sabsim.runs.folder import storage_error, write_json
from sabsim.runs.progress import duration
from sabsim.runs.side_by_side import Job, run_side_by_side
from sabsim.tasks import Copying

DEMO = RunConfig(
    task=Copying(T=100),
    learner=LearnerOptions(slots=32, k_top=5, k_trunc=5),
    # When learning leaves its plateau depends on seed and rounding; seed 1 left it early wherever it was tried.
    run=RunOptions(
        seed=1, streams=8, budget=16_000, stop_at=0.99, eval_every=500, eval_sequences=128, record_every=5, device="cpu"
    ),
)
"""The run with replay."""
QUICK = replace(
    DEMO,
    task=Copying(T=5),
    learner=replace(DEMO.learner, hidden=16, slots=8),
    run=replace(DEMO.run, budget=160, stop_at=None, eval_every=40, eval_sequences=32, record_every=1),
)
"""The same in sizes too small to learn anything, to see whether all of it works."""

NAMES = {"replay": "SAB with replay", "no-replay": "recall without replay", "tbptt": "truncated BPTT"}
"""Each run's folder, and how it is called in words; the first one leads."""
_MARK = "demo.json"
_FIGURES = ("learning_curve", "recall_map", "agent_curve")
_FILES = (_MARK, demo_agent.REPORT, *(f"{name}.{kind}" for name in _FIGURES for kind in ("png", "svg")))
_FOLDERS = (*NAMES, *demo_agent.AGENTS)
_RUN_FILES = ("config.json", "run.sqlite", "checkpoint.safetensors", "checkpoint.json", "summary.json", "evaluations")


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Where, how long, how many at once."""

    out: Annotated[str, arg(metavar="FOLDER")] = "runs/demo"
    """Folder for the runs and the figures; an earlier demo in it is replaced."""
    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint=f"(default: {DEMO.run.seed}; mazes: from 0)")] = None
    """Seed of parameters and training sequences; the mazes count on from it."""
    budget: Annotated[int | None, arg(metavar="SEQUENCES", help_behavior_hint=f"(default: {DEMO.run.budget})")] = None
    """Training sequences at most, for each run of the copying task."""
    jobs: Annotated[int, arg(metavar="N")] = 2
    """Runs that compute at once, each on one core."""
    quick: bool = False
    """Tiny sizes, a few seconds: shows that everything works, learns nothing."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status.

    Raises:
        SabsimError: whatever is wrong with options, folder, disk or numbers, in one line
        KeyboardInterrupt: stopped; so were the runs
    """
    options = parse(
        DemoOptions,
        arguments,
        prog="sabsim demo",
        description="Learn the copying task and a maze online, with replay and without, and draw what happened.",
    )
    console = plain_console()
    jobs = _jobs(options)
    agents = demo_agent.configs(quick=options.quick, seed=options.seed or 0)
    out = Path(options.out)
    with RunFolder(out).locked():
        if _make_room(out):
            console.print(f"replacing the demo in '{out}'")
        write_json(out / _MARK, {"finished": False, "runs": list(_FOLDERS)})
        console.print(_announcement(jobs[0].config, options))
        summaries = _train(jobs, options)
        console.print(demo_agent.announcement(next(iter(agents.values()))), soft_wrap=True)
        played = demo_agent.train(out, agents, console)
        figures = _draw(out, jobs[0].config, next(iter(agents.values())), options)
        console.print("analysing the replay of the agents")
        page = demo_agent.report(out)
        verdict = f"{sentence(summaries)} {demo_agent.sentence(played)}"
        write_json(out / _MARK, {"finished": True, "verdict": verdict, "runs": summaries | played})
    console.print(_table(summaries))
    console.print(verdict, soft_wrap=True)
    for path in (*figures, page):
        console.print(str(path), soft_wrap=True)
    return 0


def _jobs(options: DemoOptions) -> list[Job]:
    """The three runs, the leader first. They differ in nothing but where credit flows.

    Raises:
        ConfigError: an option that is not allowed, found before anything on the disk is touched
    """
    leader = QUICK if options.quick else DEMO
    budget = leader.run.budget if options.budget is None else options.budget
    seed = leader.run.seed if options.seed is None else options.seed
    leader = replace(leader, run=replace(leader.run, seed=seed, budget=budget))
    endless = replace(leader, run=replace(leader.run, stop_at=None))
    configs = {
        "replay": leader,
        "no-replay": replace(endless, learner=replace(leader.learner, replays=0)),
        "tbptt": replace(endless, learner=replace(leader.learner, credit="tbptt")),
    }
    for config in configs.values():
        build(config)
    if options.jobs < 1:
        raise ConfigError(f"jobs = {options.jobs}: must be at least 1")
    return [Job(name=name, config=configs[name], out=Path(options.out) / name) for name in NAMES]


def _announcement(config: RunConfig, options: DemoOptions) -> str:
    learner, task = config.learner, config.task
    size = "quick demo, too small to learn anything: " if options.quick else ""
    assert isinstance(task, Copying)
    return (
        f"{size}copying 10 symbols over T = {task.T} steps, online; {learner.slots} microstates are kept, credit goes "
        f"back {learner.k_trunc} steps and jumps to what was recalled; at most {config.run.budget:,} sequences"
    )


def _train(jobs: Sequence[Job], options: DemoOptions) -> dict[str, dict[str, Any]]:
    try:
        with make_board(NAMES) as board:
            return run_side_by_side(jobs[0], jobs[1:], jobs=options.jobs, board=board)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; '{options.out}' is not finished, another 'sabsim demo' replaces it") from None


# The folder


def _make_room(out: Path) -> bool:
    """Clear the folder of an earlier demo; returns whether there was one.

    Raises:
        ConfigError: there is something else in it, which is left as it is
        StorageError: the disk refuses
    """
    entries = list(out.iterdir())
    if not entries:
        return False
    foreign = next(_foreign(out), None)
    if foreign is not None:
        raise ConfigError(f"out = '{out}': holds '{foreign.relative_to(out)}', no part of a demo; give another --out")
    if not (out / _MARK).exists():
        raise ConfigError(f"out = '{out}': holds no demo (no {_MARK}), but {entries[0].name!r}; give another --out")
    try:
        # The mark goes last: a removal that was cut short can be repeated.
        for entry in sorted(entries, key=lambda entry: entry.name == _MARK):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        raise storage_error(out, error) from error
    return True


def _foreign(out: Path) -> Iterator[Path]:
    """What no demo would have left in `out`."""
    own = {*_FILES, *_FOLDERS}
    for entry in sorted(out.iterdir()):
        if entry.name.removesuffix(".tmp") not in own or entry.is_symlink():
            yield entry
        elif entry.name in _FOLDERS:
            runs_own = (*_RUN_FILES, "run.sqlite-journal")
            inside = entry.iterdir() if entry.is_dir() else [entry]
            yield from (file for file in sorted(inside) if file.name.removesuffix(".tmp") not in runs_own)


# What has come out


def _draw(out: Path, config: RunConfig, agent: AgentConfig, options: DemoOptions) -> list[Path]:
    """The figures, as PNG and SVG; returns the paths of the PNGs."""
    # Here and not above: the help text does not need matplotlib.
    from sabsim.analysis import learning_curves, read_run, recall_map, save

    runs = {words: read_run(out / name) for name, words in NAMES.items()}
    task, learner = config.task, config.learner
    assert isinstance(task, Copying)
    size = ", quick: too small to learn" if options.quick else ""
    what = f"opying 10 symbols over T = {task.T} steps{size}"
    how = f"online, {learner.slots} microstates kept, credit over {learner.k_trunc} steps, seed {config.run.seed}"
    agents = demo_agent.grouped({name: read_run(out / name) for name in demo_agent.AGENTS})
    figures = (
        learning_curves(runs, title=f"C{what}\n{how}"),
        recall_map(runs[NAMES["replay"]], title=f"What is recalled in the course of training\nC{what}; {how}"),
        learning_curves(agents, title=demo_agent.title(agent, quick=options.quick), levels=demo_agent.LEVELS),
    )
    return [save(figure, out / name)[0] for figure, name in zip(figures, _FIGURES, strict=True)]


def sentence(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """What is seen, from the figures of the three runs' summaries, good or bad."""
    leader = summaries["replay"]
    shown = {name: percent(summary["accuracy"]) for name, summary in summaries.items()}
    figures = (
        f"With replay {shown['replay']}, without {shown['no-replay']}, truncated BPTT {shown['tbptt']} "
        f"(chance {percent(leader['baselines']['chance accuracy'])}), after {leader['sequences']:,} sequences each."
    )
    if leader["stop_at"] is None or leader["stopped_early"]:
        return figures
    return (
        f"The run with replay did not reach its goal of {percent(leader['stop_at'])} within its budget of "
        f"{leader['budget']:,} sequences. {figures}"
    )


def _table(summaries: Mapping[str, Mapping[str, Any]]) -> Table:
    """A column per run."""
    leader = summaries["replay"]
    known = leader["baselines"]
    table = Table(
        box=SIMPLE_HEAD,
        caption=f"Accuracy is on the last 10 symbols: chance {percent(known['chance accuracy'])}, one of the ten "
        f"remembered {percent(known['one digit remembered accuracy'])}. Time is of training alone.",
        caption_justify="left",
    )
    table.add_column("", no_wrap=True)
    for name in summaries:
        table.add_column(NAMES[name], justify="right")
    columns = [_figures_of(summary) for summary in summaries.values()]
    for label in columns[0]:
        table.add_row(label, *(column[label] for column in columns))
    return table


def _figures_of(summary: Mapping[str, Any]) -> dict[str, str]:
    """The figures of one run, by what they are."""
    k_trunc, replays, rate = summary["k_trunc"], summary["replays"], summary["steps_per_second"]
    return {
        "training sequences": f"{summary['sequences']:,}",
        f"held-out accuracy (n = {summary['held_out_sequences']:,})": percent(summary["accuracy"]),
        "microstates kept": str(summary["slots"]) if summary["k_top"] else "0",
        "steps backpropagated": f"{k_trunc} + {replays} x {k_trunc}" if replays else str(k_trunc),
        "training time": duration(summary["steps"] / rate if rate else None),
        "steps per second": f"{rate:,.0f}",
        f"macrostate of {summary['streams']} streams": f"{summary['macrostate_bytes'] / 1e3:,.0f} kB",
    }
