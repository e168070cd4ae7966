"""Replay on the linear track by end, epoch and direction: per lap, per step, and per stationary step.

The track is `sabsim/LinearTrack-v0` (Ambrose, Pfeiffer & Foster 2016). A lap is one run from one end to the other, counted
on arrival; it belongs to the end that it leads to. All is told by `place` and `epoch` of the recorded single steps: where
the animal is seen to be at a step, so that an arrival is seen, and its reward known, at the step after the paid one. The
last lap of a session ends it and is never seen: sessions have one lap fewer here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

from .agent_runs import AgentRun
from .folders import Run
from .recorded import keys

TRACK = "sabsim/LinearTrack-v0"
_LENGTH = 10
"""Places of a track whose arguments do not tell."""
WHERE = ("left end", "right end", "running left", "running right", "pausing")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Replay at one place (one of `WHERE`) in one epoch: counts, and rates that are `None` where there was no time.

    `laps`: arrivals at this end from the other one; while running, runs begun in this direction and brought to their end.
    `stationary`: steps at which the place is the same as at the step before or after; `stationary_replays` and
    `stationary_remindings` are theirs. A reminding is a forward event, a step that reads a past one.
    """

    where: str
    epoch: int
    laps: int
    steps: int
    stationary: int
    replays: int
    stationary_replays: int
    remindings: int
    stationary_remindings: int

    @property
    def per_lap(self) -> float | None:
        """Replays per lap."""
        return self.replays / self.laps if self.laps else None

    @property
    def per_step(self) -> float | None:
        """Replays per step spent here."""
        return self.replays / self.steps if self.steps else None

    @property
    def per_stationary_step(self) -> float | None:
        """Replays triggered at stationary steps, per such step."""
        return self.stationary_replays / self.stationary if self.stationary else None

    @property
    def remindings_per_lap(self) -> float | None:
        """Remindings per lap."""
        return self.remindings / self.laps if self.laps else None

    @property
    def remindings_per_stationary_step(self) -> float | None:
        """Remindings of stationary steps, per such step."""
        return self.stationary_remindings / self.stationary if self.stationary else None


@dataclass(frozen=True, kw_only=True)
class Track:
    """Of each recorded step, `(n,)`: index into `WHERE`, whether stationary, and on arrival the lap's end, else -1.

    `changed` `(n,)`: the end whose reward changes in the second epoch of the step's session, told by the rewards recorded
    there; -1 if they do not tell.
    """

    where: NDArray[np.int64]
    stationary: NDArray[np.bool_]
    arrival: NDArray[np.int64]
    changed: NDArray[np.int64]


def read_track(run: AgentRun) -> Track:
    """Ends, directions, pauses and arrivals from the places of the recorded steps.

    Raises RunFolderError: if the run is not one of the linear track, or has no recorded steps.
    """
    if run.env != TRACK:
        raise RunFolderError(f"'{run.run.path}': {run.env} has no laps; they are those of {TRACK}")
    run.need_steps()
    place, last = run.steps["place"], last_place(run.run)
    # Steps of one episode are consecutive rows.
    same = (np.diff(run.steps["stream"]) == 0) & (np.diff(run.steps["episode"]) == 0)
    moved = np.where(same, np.diff(place), np.nan)
    came, goes = np.append(np.nan, moved), np.append(moved, np.nan)
    where = np.full(len(place), WHERE.index("pausing"))
    where[came < 0], where[came > 0] = WHERE.index("running left"), WHERE.index("running right")
    where[place == 0], where[place == last] = 0, 1
    stationary = (came == 0) | (goes == 0)
    arrival = arrivals(run.steps, where)
    return Track(where=where, stationary=stationary, arrival=arrival, changed=_changed_end(run.steps, arrival))


def last_place(run: Run) -> int:
    """The place of the right end; that of the left one is 0."""
    told: Any = run.config["env_args"].get("length", _LENGTH)
    return int(told) - 1


def laps(run: AgentRun) -> list[Cell]:
    """One `Cell` for each place of `WHERE` in each epoch.

    Raises RunFolderError: as `read_track`.
    """
    track = read_track(run)
    everywhere = np.ones(len(track.where), dtype=bool)
    return [_cell(run, track, index, epoch, everywhere) for epoch in _epochs(run) for index in range(len(WHERE))]


def conditions(run: AgentRun) -> list[tuple[str, Cell]]:
    """Cells of the two ends by what happens to their reward: "changed" (in the second epoch) or "other"; and epoch.

    Sessions whose rewards do not tell which end changed are left out; `where` is the end, and an end is changed in some
    sessions and the other one in others.

    Raises RunFolderError: as `read_track`, or if no session tells.
    """
    track = read_track(run)
    if not (track.changed >= 0).any():
        raise RunFolderError(f"'{run.run.path}': no recorded session tells an end whose reward changes")
    found = []
    for epoch in _epochs(run):
        for end in (0, 1):
            for name, which in (("changed", end), ("other", 1 - end)):
                found.append((name, _cell(run, track, end, epoch, track.changed == which)))
    return found


def _epochs(run: AgentRun) -> list[int]:
    epoch = run.steps["epoch"]
    return np.unique(epoch[np.isfinite(epoch)]).astype(int).tolist()


def _cell(run: AgentRun, track: Track, index: int, epoch: int, among: NDArray[np.bool_]) -> Cell:
    """Counts at one place of `WHERE` in one epoch, of the steps `among`."""
    steps = run.steps
    inside = among & (steps["epoch"] == epoch)
    here = inside & (track.where == index)
    still = here & track.stationary
    arrived = [int((inside & (track.arrival == end)).sum()) for end in (0, 1)]
    return Cell(
        where=WHERE[index],
        epoch=epoch,
        laps=sum(arrived) if WHERE[index] == "pausing" else arrived[index % 2],
        steps=int(here.sum()),
        stationary=int(still.sum()),
        replays=int(steps["replays"][here].sum()),
        stationary_replays=int(steps["replays"][still].sum()),
        remindings=int(steps["remindings"][here].sum()),
        stationary_remindings=int(steps["remindings"][still].sum()),
    )


def _changed_end(steps: dict[str, NDArray[Any]], arrival: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each step the end whose pay per arrival differs most between its session's first two epochs, or -1."""
    # The step before an arrival is seen is the one that is paid for it.
    paid = np.append(0.0, steps["reward"][:-1])
    changed = np.full(len(arrival), -1)
    session = np.unique(keys(steps["stream"], steps["episode"]), return_inverse=True)[1].reshape(-1)
    for number in range(session.max(initial=-1) + 1):
        rows = np.flatnonzero((session == number) & (arrival >= 0))
        pay = np.array(
            [
                [_mean(paid[rows[(arrival[rows] == end) & (steps["epoch"][rows] == epoch)]]) for epoch in (0, 1)]
                for end in (0, 1)
            ]
        )
        change = np.abs(pay[:, 1] - pay[:, 0])
        if np.isfinite(change).all() and change[0] != change[1]:
            changed[session == number] = int(change.argmax())
    return changed


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else np.nan


def arrivals(steps: Mapping[str, NDArray[Any]], where: NDArray[np.int64]) -> NDArray[np.int64]:
    """The end at which a step sees the animal arrived from the other one, else -1; steps are `(n,)`, in their order.

    `steps`: `stream` and `episode`; `where`: 0 and 1 at the ends, more elsewhere. An episode begins at an end, which is no
    arrival.
    """
    arrival = np.full(len(where), -1)
    at_end = np.flatnonzero(where < 2)
    before, after = at_end[:-1], at_end[1:]
    same = (steps["stream"][before] == steps["stream"][after]) & (steps["episode"][before] == steps["episode"][after])
    new = after[same & (where[before] != where[after])]
    arrival[new] = where[new]
    return arrival
