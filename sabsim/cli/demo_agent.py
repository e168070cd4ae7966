"""The agent's part of the demo: a maze learned online, with replay and without, one after the other; then its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from sabsim.agents import AgentConfig, AgentLearnerOptions, AgentRunOptions, train_agent
from sabsim.cli.board import NamedLines, percent
from sabsim.runs.progress import make_display

_RunT = TypeVar("_RunT")

MAZE = AgentConfig(
    env="sabsim/TMaze-v0",
    env_args={"memory_length": 100},
    # What it did last is not shown: it could act as the sign said all the way, and would have nothing to remember.
    learner=AgentLearnerOptions(forget_bias=1.0, sees_action=False, sees_reward=False),
    run=AgentRunOptions(steps=150_000, eval_every=10_000, eval_episodes=200, record_every=5),
)
"""The agent with replay."""
QUICK_MAZE = replace(
    MAZE,
    env_args={"memory_length": 5},
    learner=replace(MAZE.learner, hidden=8, slots=6),
    run=replace(MAZE.run, streams=4, steps=400, eval_every=200, eval_episodes=8),
)
"""The same in sizes too small to learn anything."""

SEEDS = 3
_METHODS = {"sab": "SAB with replay", "no-replay": "recall without replay"}
AGENTS = {f"agent-{credit}-{i}": words for credit, words in _METHODS.items() for i in range(SEEDS)}
"""Each run's folder, and how it is called in words; runs of one name differ in their seed."""
REPORT = "report.html"
"""The page about the runs with replay."""
LEVELS = {"guessing the turn": 0.5}
"""Successes that need no memory."""


def configs(*, quick: bool, seed: int) -> dict[str, AgentConfig]:
    """The runs. Those of one seed differ in nothing but whether credit goes back through recall."""
    usual = QUICK_MAZE if quick else MAZE
    return {
        f"agent-{credit}-{i}": replace(
            usual, learner=replace(usual.learner, credit=credit), run=replace(usual.run, seed=seed + i)
        )
        for i in range(SEEDS)
        for credit in _METHODS
    }


def announcement(config: AgentConfig) -> str:
    """What is about to be done."""
    return (
        f"an agent in a T-maze: a sign at the start says which way to turn {config.env_args['memory_length']} steps later; "
        f"{config.run.steps:,} steps online, {config.learner.slots} microstates kept, credit over {config.learner.window} "
        f"steps; with replay and without, {SEEDS} seeds each"
    )


def title(config: AgentConfig, *, quick: bool) -> str:
    """Of the figure."""
    size = ", quick: too small to learn" if quick else ""
    return (
        f"A T-maze whose sign is shown {config.env_args['memory_length']} steps before the turn{size}\n"
        f"online, {config.run.streams} mazes, {config.learner.slots} microstates kept, "
        f"credit over {config.learner.window} steps; thin: each of {SEEDS} seeds"
    )


def train(out: Path, runs: Mapping[str, AgentConfig], console: Console) -> dict[str, dict[str, Any]]:
    """Trains them in folders of ``out``, one after the other; returns their summaries.

    Raises SabsimError: as ``train_agent``.
    """
    summaries = {}
    for name, config in runs.items():
        words = f"{AGENTS[name]}, seed {config.run.seed}"
        if console.is_terminal:
            console.print(words)
        display = make_display() if console.is_terminal else NamedLines(words)
        summaries[name] = train_agent(config, out=out / name, display=display)
    return summaries


def report(out: Path) -> Path:
    """Analyses the runs with replay, seeds of one experiment, and writes their page into ``out``; its path.

    Raises SabsimError: as ``sabsim analyze``.
    """
    # Here and not above: the help text needs none of it.
    from sabsim.analysis.panels import draw_figures
    from sabsim.analysis.replay_summary import across_seeds, reward_labels, summarise
    from sabsim.cli.report import write_analysis

    leading = next(iter(_METHODS))
    summaries = [summarise(out / f"agent-{leading}-{i}") for i in range(SEEDS)]
    across, labels = across_seeds(summaries), reward_labels(summaries)
    return write_analysis(out / REPORT, summaries, across, labels, draw_figures(summaries))


def grouped(runs: Mapping[str, _RunT]) -> dict[str, list[_RunT]]:
    """What belongs to each run, under the words for its method."""
    return {words: [runs[name] for name in runs if AGENTS[name] == words] for words in _METHODS.values()}


def sentence(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """What is seen, from the figures of the summaries, good or bad."""
    shown = {
        words: " / ".join(percent(found["evaluation"]["success"]["estimate"]) for found in group)
        for words, group in grouped(summaries).items()
    }
    one = next(iter(summaries.values()))
    with_replay, without = shown.values()
    return (
        f"In the maze: with replay the right turn in {with_replay} of {one['evaluation']['episodes']} episodes "
        f"({SEEDS} seeds), without {without} (guessing 50.0 %), after {one['steps']:,} steps each."
    )
