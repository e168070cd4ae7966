"""Agents over environments, credit rules and seeds: which runs these are, and the table they come to."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from sabsim.errors import ConfigError, StorageError
from sabsim.runs.progress import duration, number
from sabsim.runs.sweep import Planned

from .config import AgentConfig, read_env_args
from .intervals import Interval, of_seeds


@dataclass(frozen=True, kw_only=True)
class Place:
    """An environment of a sweep: its id, what it is made with, and both as written on the command line."""

    words: str
    env: str
    env_args: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """The words as a folder's name."""
        return re.sub(r"[^\w.-]+", "-", self.words.removeprefix("sabsim/"))


def read_place(words: str, env_args: Mapping[str, Any]) -> Place:
    """An environment from ``ENV_ID[,KEY=VALUE...]``; ``env_args``: what all are made with, beside its own.

    Raises ConfigError: for an argument that is not KEY=VALUE.

        >>> read_place("sabsim/TMaze-v0,memory_length=100", {}).env_args
        {'memory_length': 100}
        >>> read_place("my/Maze-v0,sizes=[3,5],wide=true", {}).env_args
        {'sizes': [3, 5], 'wide': True}
    """
    env, comma, rest = words.partition(",")
    # A list has commas of its own: only one before KEY= parts two arguments.
    own = re.split(r",(?=\w+=)", rest) if comma else []
    return Place(words=words, env=env, env_args={**env_args, **read_env_args(own)})


def plan(places: Sequence[Place], credits: Sequence[str], seeds: int, base: AgentConfig, out: Path) -> list[Planned]:
    """The runs, each in ``out/ENVIRONMENT/CREDIT/SEED``, ``base`` but for these three; seeds from that of ``base`` on.

    Raises ConfigError: for an environment or a rule named twice.
    """
    for what, names in (("environment", [place.folder for place in places]), ("credit rule", list(credits))):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"{what} {twice!r}: is named twice")
    runs = []
    for place in places:
        for credit in credits:
            for seed in seeds_of(base, seeds):
                config = replace(
                    base,
                    env=place.env,
                    env_args=place.env_args,
                    learner=replace(base.learner, credit=credit),
                    run=replace(base.run, seed=seed),
                )
                folder = out / place.folder / credit / str(seed)
                runs.append(Planned(name=run_name(place, credit, seed), config=config, out=folder))
    return runs


def seeds_of(base: AgentConfig, seeds: int) -> range:
    """That of ``base`` and those after it."""
    return range(base.run.seed, base.run.seed + seeds)


def run_name(place: Place, credit: str, seed: int) -> str:
    """How a run of the sweep is called."""
    return f"{place.words}/{credit}/seed {seed}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the table: one environment and credit rule, over seeds.

    ``success`` (None where the environment tells none), ``total``: mean of the runs' last evaluations with a 95 % interval
    over seeds, None where no seed was finished; ``scores``: by seed, what ``stop_at`` looks at; ``steps``, ``seconds``:
    medians; ``failures``: what became of seeds without a score.
    """

    environment: str
    credit: str
    success: Interval | None
    total: Interval | None
    scores: dict[int, float]
    steps: int | None
    seconds: float | None
    failures: dict[int, str]

    def as_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        found = asdict(self)
        for name in ("success", "total"):
            interval: Interval | None = getattr(self, name)
            found[name] = None if interval is None else interval.as_json()
        found["return"] = found.pop("total")
        return found


def lines_of(
    places: Sequence[Place],
    credits: Sequence[str],
    seeds: Sequence[int],
    summaries: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, str],
) -> list[Line]:
    """A line for each environment and rule, from what the sweep found of its runs."""
    found = []
    for place in places:
        for credit in credits:
            names = {seed: run_name(place, credit, seed) for seed in seeds}
            mine = {seed: summaries[name] for seed, name in names.items() if name in summaries}
            totals = {seed: float(one["evaluation"]["return"]["estimate"]) for seed, one in mine.items()}
            told = {seed: one["evaluation"]["success"] for seed, one in mine.items()}
            successes = {seed: float(one["estimate"]) for seed, one in told.items() if one is not None}
            found.append(
                Line(
                    environment=place.words,
                    credit=credit,
                    success=of_seeds(np.array(list(successes.values())), (0.0, 1.0)) if successes else None,
                    total=of_seeds(np.array(list(totals.values()))) if totals else None,
                    scores=successes or totals,
                    steps=round(median(one["steps"] for one in mine.values())) if mine else None,
                    seconds=median(one["seconds"] for one in mine.values()) if mine else None,
                    failures={seed: failures[name] for seed, name in names.items() if name in failures},
                )
            )
    return found


TITLES = ("environment", "credit", "success", "success, 95 %", "return", "return, 95 %", "seeds", "steps", "time")


def cells(line: Line) -> list[str]:
    """A line in words, under ``TITLES``."""
    return [
        line.environment,
        line.credit,
        *_shown(line.success),
        *_shown(line.total, none="failed"),
        str(len(line.scores)) if not line.failures else f"{len(line.scores)} of {len(line.scores) + len(line.failures)}",
        "" if line.steps is None else f"{line.steps:,}",
        "" if line.seconds is None else duration(line.seconds),
    ]


def _shown(found: Interval | None, none: str = "-") -> tuple[str, str]:
    if found is None:
        return none, ""
    limits = "" if found.low is None or found.high is None else f"{number(found.low)} .. {number(found.high)}"
    return number(found.estimate), limits


def write_table(lines: Sequence[Line], about: Mapping[str, Any], folder: Path, *, quick: bool) -> list[Path]:
    """Writes ``sweep.json``, ``sweep.csv`` and ``sweep.md``; returns their paths.

    Raises StorageError: if the disk refuses.
    """
    paths = [folder / f"sweep.{kind}" for kind in ("json", "csv", "md")]
    stored = {"quick": quick, **about, "lines": [line.as_json() for line in lines]}
    rows = [cells(line) for line in lines]
    text = [f"## Agents{' - quick: too small to learn anything' if quick else ''}", ""]
    text += [f"| {' | '.join(TITLES)} |", f"| --- | --- | {' | '.join('---:' for _ in TITLES[2:])} |"]
    text += [f"| {' | '.join(row)} |" for row in rows]
    method = "Student's t over seeds; that of success is cut at 0 and 1"
    text += ["", f"Means of the runs' last evaluations over seeds, with 95 % intervals ({method}).", ""]
    told = [f"- {line.environment}, {line.credit}, seed {s}: {why}" for line in lines for s, why in line.failures.items()]
    text += ["Failed:", "", *told, ""] if told else []
    text += [f"    {about['command']}", ""]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(json.dumps(stored, indent=1, allow_nan=False) + "\n")
        with paths[1].open("w", newline="") as file:
            csv.writer(file).writerows([TITLES, *rows])
        paths[2].write_text("\n".join(text))
    except OSError as error:
        raise StorageError(f"'{folder}': {error.strerror or error}; free space or give another --results") from error
    return paths
