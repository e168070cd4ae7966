"""What a row's runs came to: scores by seed, mean and interval, what it cost, and on what it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, TypeVar

import numpy as np

from sabsim.intervals import over_seeds

from .table import Row
from .tables import TABLES, run_name

Kept = TypeVar("Kept")


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What some of a row's seeds were made by.

    ``git`` and the versions of sabsim and torch at the run's end; ``machine``: the processor, and the GPU if it was used;
    ``dates``: UTC, of the first and the last run that ended.
    """

    seeds: tuple[int, ...]
    sabsim: str
    git: str
    torch: str
    device: str
    machine: str
    dates: tuple[str, str]

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Maker:
        """Of what a file keeps, where tuples are lists."""
        first, last = stored["dates"]
        return cls(**(dict(stored) | {"seeds": tuple(stored["seeds"]), "dates": (first, last)}))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One row, over its seeds.

    ``scores`` by seed; ``mean``, ``low``, ``high``: with a 95 % interval (Student's t; both limits None for one seed);
    ``sequences``, ``seconds``: medians; ``solved``: seeds that stopped because they had solved the task, None in rows that
    go on whatever they score; ``stop_at``: the metric at which they stop, None likewise; ``memory``: bytes of the
    macrostate, all streams; ``failures``: what became of seeds that have no score; ``unfinished``: the same of those whose
    time was up; ``command`` that ran it, None if it was found where an earlier one had left it; ``made_by``;
    ``config``: all options of the first seed, None where not kept.
    """

    row: str
    scores: dict[int, float]
    mean: float | None
    low: float | None
    high: float | None
    sequences: int | None
    seconds: float | None
    solved: int | None
    stop_at: float | None
    memory: int | None
    failures: dict[int, str]
    command: str | None
    made_by: tuple[Maker, ...]
    config: dict[str, Any] | None
    unfinished: dict[int, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data; without ``unfinished`` where nothing is."""
        return {name: kept for name, kept in asdict(self).items() if name != "unfinished" or kept}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Figures:
        """The row that `to_json` made, through a file.

        Raises:
            KeyError, TypeError, ValueError: not such a row
        """
        makers = tuple(Maker.from_json(maker) for maker in stored["made_by"])
        names = [name for name in ("scores", "failures", "unfinished") if name in stored]
        by_seed = {name: {int(seed): value for seed, value in stored[name].items()} for name in names}
        return cls(**(dict(stored) | by_seed | {"made_by": makers}))


def figures_of(
    name: str,
    summaries: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, str],
    *,
    unfinished: Mapping[str, str] | None = None,
    command: str | None = None,
) -> list[Figures]:
    """A line for each row of table ``name`` that has been run, in the table's order.

    Args:
        summaries, failures, unfinished: of runs, by the names of the sweep; a summary with its origin (`with_origin`)
        command: what ran them
    """
    found = []
    for row in TABLES[name].rows:
        mine = _of_row(name, row, summaries)
        failed, paused = _of_row(name, row, failures), _of_row(name, row, unfinished or {})
        if mine or failed or paused:
            found.append(_figures(name, row, mine, failed, paused, command))
    return found


def _of_row(table: str, row: Row, runs: Mapping[str, Kept]) -> dict[int, Kept]:
    """Those of one row by seed, in order."""
    first = run_name(table, row, 0).removesuffix("0")
    mine = {int(name.removeprefix(first)): kept for name, kept in runs.items() if name.startswith(first)}
    return dict(sorted(mine.items()))


def _figures(
    name: str,
    row: Row,
    mine: Mapping[int, Mapping[str, Any]],
    failed: dict[int, str],
    paused: dict[int, str],
    command: str | None,
) -> Figures:
    table = TABLES[name]
    scores = {seed: float(summary[table.task.metric]) for seed, summary in mine.items()}
    low, high = over_seeds(list(scores.values()), table.task.bounds)
    return Figures(
        row=row.name,
        scores=scores,
        mean=float(np.mean(list(scores.values()))) if scores else None,
        low=low,
        high=high,
        sequences=round(median(s["sequences"] for s in mine.values())) if mine else None,
        seconds=median(s["seconds"] for s in mine.values()) if mine else None,
        solved=sum(s["stopped_early"] for s in mine.values()) if row.leads and mine else None,
        stop_at=table.stop_at if row.leads else None,
        memory=next(iter(mine.values()))["macrostate_bytes"] if mine else None,
        failures=failed,
        command=command,
        made_by=_makers(mine),
        config=next(iter(mine.values()))["config"] if mine else None,
        unfinished=paused,
    )


def _makers(mine: Mapping[int, Mapping[str, Any]]) -> tuple[Maker, ...]:
    """Seeds of one revision, version and machine together."""
    same: dict[tuple[str, ...], list[int]] = {}
    for seed, summary in mine.items():
        same.setdefault(tuple(summary[key] for key in ("sabsim", "git", "torch", "device", "machine")), []).append(seed)
    makers = []
    for (sabsim, git, torch, device, machine), seeds in same.items():
        dates = sorted(mine[seed]["date"] for seed in seeds)
        makers.append(
            Maker(
                seeds=tuple(seeds),
                sabsim=sabsim,
                git=git,
                torch=torch,
                device=device,
                machine=machine,
                dates=(dates[0], dates[-1]),
            )
        )
    return tuple(makers)
