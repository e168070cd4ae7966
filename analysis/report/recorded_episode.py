"""An episode as the run recorded it: its steps and events from ``run.sqlite``, without pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

from ..folders import Run
from .moments import MOST_STEPS, Arc, Moments, Reading, Series, strongest

_SIGNALS: dict[bool, tuple[tuple[str, Literal["line", "bar"]], ...]] = {
    True: (("reward", "bar"), ("td_error", "bar"), ("value", "line")),
    False: (("loss", "line"), ("correct", "bar")),
}
"""Columns of ``steps`` that are shown, of agents' runs and of supervised ones."""
_PAID = {True: "reward != 0", False: "scored = 1"}
"""What makes a step one at which something is learned."""
_NAMES = {"td_error": "TD error"}


def recorded_moments(run: Run, *, notes: Sequence[str] = ()) -> Moments:
    """The last recorded episode with both replay and reward (supervised: scored steps), or else the nearest to that.

    Of a long one, the first stretch of ``MOST_STEPS`` steps that has both. ``notes`` come before what is to be said of it.

    Raises RunFolderError: if no single step is recorded, or the database cannot be read.
    """
    stream, episode, first_step, has_replay, has_paid = _choose(run)
    columns = [name for name, _ in _SIGNALS[run.agent]]
    action = "action" if run.agent else "NULL"
    here = (stream, episode)
    table = run.rows(
        f"SELECT position, {action}, {_PAID[run.agent]}, {', '.join(columns)} FROM steps "
        "WHERE stream = ? AND episode = ? ORDER BY step",
        here,
    )
    events = run.rows(
        "SELECT kind, step - ?, source_step - ?, weight, credit, replayed_steps, update_step - ? FROM events "
        "WHERE stream = ? AND episode = ? AND source_step >= ? ORDER BY id",
        (first_step, first_step, first_step, *here, first_step),
    )
    start = _stretch([row[0] for row in table if row[2]], [e[1] for e in events if e[0] == "replay"], len(table))
    table = table[start : start + MOST_STEPS]
    first, last = table[0][0], table[-1][0]
    window = _window(run)
    arcs, readings = [], []
    for kind, step, source, weight, credit, length, end in events:
        if not first <= source < step <= last:
            continue
        if kind == "reminding":
            readings.append(Reading(step=step, source=source, weight=weight))
            continue
        arcs.append(
            Arc(
                step=step,
                source=source,
                weight=weight,
                credit=credit,
                length=length,
                begin=end - window + 1,
                end=end,
            )
        )
    arcs, left_out = strongest(arcs)
    told = [*notes, _why(run, has_replay=has_replay, has_paid=has_paid)]
    if start or start + len(table) < _length(run, here):
        told.append(f"It is longer than what is shown, steps {first} to {last}.")
    return Moments(
        title=f"{run.path.resolve().name}, episode {episode} of stream {stream}, as it was recorded in training",
        notes=[*told, *left_out],
        first=first,
        steps=len(table),
        frames=[],
        actions=[str(row[1]) for row in table] if run.agent else [],
        series=[
            Series(name=_NAMES.get(name, name), values=_numbers([row[3 + place] for row in table]), kind=kind)
            for place, (name, kind) in enumerate(_SIGNALS[run.agent])
        ],
        readings=readings,
        arcs=arcs,
        replays=bool(run.rows("SELECT 1 FROM events WHERE kind = 'replay' LIMIT 1")),
    )


def _choose(run: Run) -> tuple[int, int, int, bool, bool]:
    """Stream and episode, its first step, and whether it has replay, and something paid or scored."""
    rows = run.rows(
        f"SELECT s.stream, s.episode, min(s.step - s.position), coalesce(r.replays, 0) > 0, max({_PAID[run.agent]}) "
        "FROM steps s LEFT JOIN (SELECT stream, episode, count(*) AS replays FROM events WHERE kind = 'replay' "
        "GROUP BY stream, episode) r ON r.stream = s.stream AND r.episode = s.episode GROUP BY s.stream, s.episode "
        "ORDER BY min(s.step), s.stream"
    )
    if not rows:
        raise RunFolderError(f"'{run.path}': no single step is recorded; train it with --record-streams 1 or more")
    # Of equals the last one: it is what training has come to.
    stream, episode, first_step, replay, paid = max(reversed(rows), key=lambda row: (row[3] and row[4], row[3], row[4]))
    return stream, episode, first_step, bool(replay), bool(paid)


def _stretch(paid: Sequence[int], replayed: Sequence[int], length: int) -> int:
    """Where to begin: the first of half-overlapping stretches that holds both, or any of the two, or else the start."""
    latest = max(0, length - MOST_STEPS)
    starts = [*range(0, latest, MOST_STEPS // 2), latest]

    def holds(start: int) -> int:
        return sum(any(start <= step < start + MOST_STEPS for step in steps) for steps in (paid, replayed))

    return max(starts, key=holds)


def _why(run: Run, *, has_replay: bool, has_paid: bool) -> str:
    what = "reward" if run.agent else "scored steps"
    if has_replay and has_paid:
        return f"It is the last recorded episode with both replay and {what}."
    lacking = [name for name, has in (("replay", has_replay), (what, has_paid)) if not has]
    return f"No recorded episode has both replay and {what}; this one, the last, has no {' and no '.join(lacking)}."


def _window(run: Run) -> int:
    """Steps from one update to the next."""
    learner = run.config.get("learner") or {}
    names = ("window",) if run.agent else ("update_every", "k_trunc")
    return next((int(learner[name]) for name in names if learner.get(name)), 1)


def _length(run: Run, here: tuple[int, int]) -> int:
    ((steps,),) = run.rows("SELECT count(*) FROM steps WHERE stream = ? AND episode = ?", here)
    return int(steps)


def _numbers(values: list[Any]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
