"""Stretches of recorded steps that belong together: epochs and phases that the environment tells, and laps of the track."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from ..laps import last_place
from .snapshot import Snapshot

ENDS = ("left", "right")


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
        if value is None:
            continue
        first = last = next(steps)[0]
        for step, *_ in steps:
            last = step
        yield first, last, episode, value


def add_laps(snapshot: Snapshot) -> int:
    """Make the table `laps` of `first_step`, `last_step`, `end`, `phase`, `reward`; returns its rows.

    A lap is a run of the linear track from one end to the other, as in `sabsim.analysis.laps`: from the first step seen away
    from the one end to the step at which the agent is seen at the other, `end`. `reward` is what the actions of the run were
    paid, that of leaving among them; `phase` is the session's when the lap begins.
    """
    snapshot.create("laps", ("first_step", "last_step", "end", "phase", "reward"), _laps(snapshot))
    return snapshot.count("laps")


def _laps(snapshot: Snapshot) -> Iterator[tuple[Any, ...]]:
    last = last_place(snapshot.run)
    rows = snapshot.select("SELECT episode, step, place, phase, reward FROM steps ORDER BY rowid")
    for _, steps in groupby(rows, key=itemgetter(0)):
        left_end, left_at, phase, paid = None, 0, None, 0.0
        for _, step, place, told, reward in steps:
            end = {0: 0, last: 1}.get(place)
            if end is not None and left_end is not None and end != left_end:
                yield left_at + 1, step, ENDS[end], phase if step > left_at + 1 else told, paid
            if end is not None:
                left_end, left_at, paid = end, step, 0.0
            elif step == left_at + 1:
                phase = told
            paid += reward
