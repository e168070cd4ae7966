"""Stretches of recorded steps that belong together: epochs and phases that the environment tells, and laps of the track."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from ..laps import last_place
from .snapshot import Snapshot


def add_told(snapshot: Snapshot, what: str) -> int:
    """Make the table `told_WHAT` of `first_step`, `last_step`, `episode`, `value`; returns its rows.

    A row is a stretch of consecutive recorded steps of one episode at which the environment tells one value of `what`
    (`epoch` or `phase`).
    """
    snapshot.create(f"told_{what}", ("first_step", "last_step", "episode", "value"), _told(snapshot, what))
    return snapshot.count(f"told_{what}")


def _told(snapshot: Snapshot, what: str) -> Iterator[tuple[Any, ...]]:
    rows = snapshot.select(f"SELECT step, episode, {what} FROM steps ORDER BY rowid")
    for (episode, value), steps in groupby(rows, key=itemgetter(1, 2)):
        if value is not None:
            first, last = _ends(steps)
            yield first, last, episode, value


def _ends(steps: Iterator[tuple[Any, ...]]) -> tuple[int, int]:
    """The first and the last step of rows that begin with a step."""
    first = last = next(steps)[0]
    for row in steps:
        last = row[0]
    return first, last


def add_laps(snapshot: Snapshot) -> int:
    """Make the table `laps` of `first_step`, `last_step`, `towards`, `phase`, `reward`; returns its rows.

    A lap is a run of the linear track from one end to the other, as in `sabsim.analysis.laps`: from the first step seen
    away from one end to the step at which the agent is seen at the other, `towards`. `reward` is what the actions of the
    run were paid, that of leaving among them; `phase` is the session's when the lap begins.
    """
    columns = ("first_step", "last_step", "towards", "phase", "reward")
    snapshot.create("laps", columns, _laps(snapshot))
    return snapshot.count("laps")


def _laps(snapshot: Snapshot) -> Iterator[tuple[Any, ...]]:
    ends = {0: "left", last_place(snapshot.run): "right"}
    rows = snapshot.select("SELECT episode, step, place, phase, reward FROM steps ORDER BY rowid")
    for _, steps in groupby(rows, key=itemgetter(0)):
        came_from, left_at, phase, paid = None, 0, None, 0.0
        for _, step, place, told, reward in steps:
            end = ends.get(place)
            if step == left_at + 1:
                phase = told
            if end is not None:
                if came_from not in (None, end):
                    yield left_at + 1, step, end, phase, paid
                came_from, left_at, paid = end, step, 0.0
            paid += reward
