"""Replay and reminding at the two ends of the linear track, by epoch and visit.

An event counts for an end if it takes place while the animal is there: a replay at the end of the update that made it
(column `update_step`), when the step's reward is known; a reminding at the step that recalls, before its action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

from .folders import Run, read_run
from .laps import TRACK, arrivals, last_place

Array = NDArray[Any]

KINDS = ("replay", "reminding")
MEASURES = ("replay", "credit", "reminding")
"""What is compared between the ends: numbers of events, and the credit that was replayed."""


@dataclass(frozen=True, kw_only=True)
class End:
    """What happened at one end in one epoch of all sessions of a run.

    `laps`: arrivals; `steps`: stationary ones, at whose end the animal is there; `replay`, `reminding`: events; `credit`:
    sum of the credit replayed; `td_error`: mean absolute one of the arrivals' steps, NaN without any.
    """

    epoch: int
    changed: bool
    laps: int
    steps: int
    replay: int
    reminding: int
    credit: float
    td_error: float


@dataclass(frozen=True, kw_only=True)
class Visits:
    """Every visit of an end after an arrival, in order, `(n,)` each.

    `epoch`; `lap`: how many visits of this end the epoch had before in its session; `changed`: at the end whose reward
    changes; `replay`: events; `credit`: their sum.
    """

    epoch: Array
    lap: Array
    changed: Array
    replay: Array
    credit: Array


@dataclass(frozen=True, kw_only=True)
class Animal:
    """One run: its arm and session, its seed, `ends` (one per epoch and end) and `visits`; `sessions` begun."""

    arm: str
    session: str
    seed: int
    sessions: int
    ends: tuple[End, ...]
    visits: Visits

    def ratio(self, kind: str, epoch: int, per: str = "lap") -> float | None:
        """ln of the rate at the changed end over that at the other one; None where there was no time.

        `kind` is one of `MEASURES`, `per` lap or stationary step. Half an event is added to every count (Haldane 1956;
        Anscombe 1956), so that ends without events have a rate, if the animal had any at all; credit is no count, and has
        no ratio without any at an end.
        """
        if not any(getattr(end, kind) for end in self.ends):
            return None
        here, there = (next(e for e in self.ends if e.epoch == epoch and e.changed is c) for c in (True, False))
        exposure = "laps" if per == "lap" else "steps"
        counts, times = [getattr(end, kind) for end in (here, there)], [getattr(end, exposure) for end in (here, there)]
        extra = 0.0 if kind == "credit" else 0.5
        if not all(times) or not all(count + extra for count in counts):
            return None
        return float(np.log((counts[0] + extra) / times[0]) - np.log((counts[1] + extra) / times[1]))

    def effect(self, kind: str, per: str = "lap") -> float | None:
        """`ratio` while the rewards differ, minus its mean before and after; None where one of them is missing."""
        before, changed, after = (self.ratio(kind, epoch, per) for epoch in range(3))
        if before is None or changed is None or after is None:
            return None
        return changed - (before + after) / 2

    def interaction(self, per: str = "lap") -> float | None:
        """The effect on replay minus that on remindings: direction by reward."""
        replay, reminding = (self.effect(kind, per) for kind in KINDS)
        return None if replay is None or reminding is None else replay - reminding


def read_animal(path: str | Path, *, arm: str, session: str) -> Animal:
    """What a run on the track has recorded, finished or not.

    Raises:
        RunFolderError: no run folder of an agent, another environment than the track, or steps that are not recorded
    """
    run = read_run(path)
    if not run.agent or run.config.get("env") != TRACK:
        raise RunFolderError(f"'{run.path}': is no run of an agent on {TRACK}")
    columns = "step, episode, place, epoch, td_error"
    steps = np.array(run.rows(f"SELECT {columns} FROM steps WHERE stream = 0 ORDER BY step"), dtype=np.float64)
    if len(steps) < 2:
        raise RunFolderError(f"'{run.path}': fewer than two single steps are recorded; train it with --record-every 1")
    if np.any(np.diff(steps[:, 0]) != 1):
        raise RunFolderError(f"'{run.path}': single steps of some episodes are missing; train it with --record-every 1")
    last, changed_end = last_place(run), run.config["env_args"].get("changed_end", "random")
    if changed_end not in (0, 1):
        raise RunFolderError(f"'{run.path}': changed_end is {changed_end!r}; it must be 0 or 1 to know which end changed")
    track = _Track(steps, last * changed_end, last - last * changed_end)
    events = {kind: track.count(_events(run, kind)) for kind in KINDS}
    return Animal(
        arm=arm,
        session=session,
        seed=int(run.config["run"]["seed"]),
        sessions=int(steps[-1, 1]) + 1,
        ends=tuple(_end(track, events, epoch, changed) for epoch in range(3) for changed in (True, False)),
        visits=_visits(track, events["replay"]),
    )


class _Track:
    """Steps of a run, `(n,)` each, and where the animal is before and after them; `at`: the two ends' places."""

    def __init__(self, steps: Array, changed: int, other: int) -> None:
        self.step, self.episode, self.place, self.epoch, self.td_error = steps.T
        self.first, self.at = int(self.step[0]), {True: changed, False: other}
        same = np.diff(self.episode, append=-1) == 0
        # Where the last step of a session led is not recorded.
        self.after = np.where(same, np.append(self.place[1:], -1), -1)

    def count(self, events: Array) -> Array:
        """Events of each step and the sum of their credit, `(2, n)`; `events` `(m, 2)`: step and credit."""
        row = events[:, 0].astype(int) - self.first
        inside = (row >= 0) & (row < len(self.step))
        weights = np.nan_to_num(events[inside, 1])
        return np.stack([np.bincount(row[inside], w, len(self.step)) for w in (np.ones(len(weights)), weights)])

    def arrivals(self, changed: bool) -> Array:
        """Steps that lead to this end from the other one."""
        where = np.select([self.place == self.at[False], self.place == self.at[True]], [0, 1], 2)
        seen = arrivals({"stream": np.zeros(len(where)), "episode": self.episode}, where)
        # It is seen there at the step after the one that led there.
        return np.append(seen[1:] == int(changed), False)


def _events(run: Run, kind: str) -> Array:
    when = "update_step" if kind == "replay" else "step"
    rows = run.rows(f"SELECT {when}, credit FROM events WHERE kind = ? AND stream = 0", (kind,))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _end(track: _Track, events: Mapping[str, Array], epoch: int, changed: bool) -> End:
    inside = track.epoch == epoch
    there = inside & (track.after == track.at[changed])
    arrived = inside & track.arrivals(changed)
    replay, credit = (float(row[there].sum()) for row in events["replay"])
    # A reminding belongs to what is seen, before the step's action.
    seen = inside & (track.place == track.at[changed])
    return End(
        epoch=epoch,
        changed=changed,
        laps=int(arrived.sum()),
        steps=int(there.sum()),
        replay=int(replay),
        reminding=int(events["reminding"][0][seen].sum()),
        credit=credit,
        td_error=float(np.abs(track.td_error[arrived]).mean()) if arrived.any() else float("nan"),
    )


def _visits(track: _Track, replay: Array) -> Visits:
    parts = []
    for changed in (True, False):
        first = np.flatnonzero(track.arrivals(changed))
        there = track.after == track.at[changed]
        leaves = np.flatnonzero(~there)
        # To the step before the animal is elsewhere again.
        end = np.append(leaves, len(there))[np.searchsorted(leaves, first)]
        sums = np.concatenate([np.zeros((2, 1)), np.cumsum(replay, axis=1)], axis=1)
        count, credit = sums[:, end] - sums[:, first]
        group = track.episode[first] * 3 + track.epoch[first]
        lap = np.arange(len(first)) - np.searchsorted(group, group)
        parts.append(np.stack([first, track.epoch[first], lap, np.full(len(first), changed), count, credit]))
    found = np.concatenate(parts, axis=1)
    _, epoch, lap, at_changed, count, credit = found[:, np.argsort(found[0], kind="stable")]
    return Visits(epoch=epoch, lap=lap, changed=at_changed.astype(bool), replay=count, credit=credit)
