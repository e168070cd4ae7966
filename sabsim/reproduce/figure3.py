"""Figure 3 of the SAB paper, recall in the course of training: the run that is drawn, and what is written beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sabsim.errors import StorageError
from sabsim.runs.sweep import Planned

from .tables import TABLES, begun_with, config

NAME = "figure3"
WHAT = "what is recalled in the course of training"
PAPER = (
    "The paper's Figure 3 shows attention over the steps of the copying task in the course of training: it becomes "
    "concentrated on the ten steps at which the digits are shown, in their order, while the outputs are given."
)
"""The paper's figure in words."""

_TABLE, _ROW = "table1", "SAB (5, 5)"
_BUDGET = 6_000
"""Sequences: twice what the task takes, so that a tenth of them is short beside the climb, and the last well past it."""


def plan(out: Path, *, quick: bool, budget: int | None = None, device: str = "auto", threads: int = 1) -> Planned:
    """The one run: table 1's SAB (5, 5), seed 0, with one stream recorded and no early stop, in ``out/figure3``.

    ``budget``: sequences, by default 6,000 (quick: the tables'); a run that was begun with more keeps those. ``device``,
    ``threads``: where it computes.
    """
    folder, table = out / NAME, TABLES[_TABLE]
    wanted = config(table, table.row(_ROW), 0, quick=quick, budget=budget or (None if quick else _BUDGET))
    sizes = replace(
        wanted.run,
        budget=max(wanted.run.budget, begun_with(folder)),
        stop_at=None,
        eval_every=250,
        record_streams=1,
        record_every=2,
        device=device,
        threads=threads,
    )
    return Planned(name=NAME, config=replace(wanted, run=sizes), out=folder)


def caption(phases: Sequence[Mapping[str, Any]], about: Mapping[str, Any], *, quick: bool) -> str:
    """What is beside the figure, as Markdown: how much of recall is on the digits, the paper's figure, the run.

    ``phases``: each with ``name``, ``first``, ``last`` (training sequences), ``accuracy``, and the mean recall weight of an
    output on ``wanted`` (the step of its own digit) and on ``any_digit`` (the ten steps of the digits).
    """
    size = " - quick: scaled down, says nothing about the paper" if quick else ""
    task, learner = about["config"]["task_options"], about["config"]["learner"]
    lines = [f"## {NAME}: {WHAT}{size}", "", f"![{WHAT}]({NAME}.svg)", ""]
    lines += [
        f"Copying, T = {task['T']}, SAB (k_trunc = {learner['k_trunc']}, k_top = {learner['k_top']}), {learner['slots']} "
        f"slots, one seed, {about['sequences']:,} sequences; held-out accuracy at the end {100 * about['accuracy']:.1f} %. "
        "The table tells where the recall weight of an output falls, 1 in all (weights below 0.05 count as 0), in training "
        "sequences: half of them at first, later fewer, draw what they recall at temperature "
        f"{learner['explore']:g}.",
        "",
        "| part of training | sequences | held-out accuracy | on the step of its own digit | on the ten digits' steps |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {phase['name']} | {phase['first']:,.0f} to {phase['last']:,.0f} | {100 * phase['accuracy']:.0f} % "
        f"| {phase['wanted']:.2f} | {phase['any_digit']:.2f} |"
        for phase in phases
    ]
    return "\n".join([*lines, "", PAPER, "", f"`{about['command']}`, {about['made_by']['date']}", ""])


def write_caption(
    phases: Sequence[Mapping[str, Any]], about: Mapping[str, Any], folder: Path, *, quick: bool
) -> list[Path]:
    """Writes ``figure3.json`` and ``figure3.md``; returns their paths.

    Raises StorageError: if the disk refuses.
    """
    paths = [folder / f"{NAME}.{kind}" for kind in ("json", "md")]
    stored = {"figure": NAME, "what": WHAT, "quick": quick, **about, "paper": PAPER, "phases": list(phases)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(json.dumps(stored, indent=1, allow_nan=False) + "\n")
        paths[1].write_text(caption(phases, about, quick=quick))
    except OSError as error:
        raise StorageError(f"'{folder}': {error.strerror or error}; free space or give another --results") from error
    return paths
