"""A run's stream as an NWB file, which pynapple and the field's other tools open.

Needs the extra `nwb`; import it only after `sabsim.analysis.export.exports` has looked for it.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
from hdmf.common import ElementIdentifiers, VectorData
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import Position, SpatialSeries
from pynwb.epoch import TimeIntervals
from pynwb.event import EventsTable, TimestampVectorData
from pynwb.file import Subject

from .columns import Told, column, hidden, numbering, positions
from .contents import (
    LAPS,
    LINK_SERIES,
    PLACE_KINDS,
    REWARDS,
    STEP_SERIES,
    Column,
    Intervals,
    has_laps,
    place_axes,
    replay,
    told,
    trials,
)
from .patient import PatientFile
from .snapshot import Snapshot
from .stretches import add_laps, add_told

_BEHAVIOR = ("action", "reward")
"""Series that tell what the agent did; the others tell what it computed."""
_NO_UNIT = "n.a."


class Builder:
    """Fills an NWB file from a snapshot.

    Arguments:
        snapshot: one stream's rows
        session, subject: the arguments of `NWBFile` and `Subject`
        dt: seconds per step
        done: called with rows written

    Attributes:
        rows: of each series and table by its name, how many rows it has
        missing: what is left out, and why
    """

    def __init__(
        self, snapshot: Snapshot, *, session: dict[str, Any], subject: dict[str, Any], dt: float, done: Told
    ) -> None:
        self._snapshot, self._dt, self._done = snapshot, dt, done
        self._agent = snapshot.run.agent
        self._disk: PatientFile | None = None
        self._file = NWBFile(**session, subject=Subject(**subject))
        self._times: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, int] = {}
        self.missing: list[str] = []

    def write(self, path: Path) -> None:
        """Add all there is and write it.

        Raises:
            OSError: the disk refuses
            RunFolderError: a table is damaged
        """
        self._add_intervals()
        if self._snapshot.count("steps"):
            self._add_steps()
        else:
            self.missing.append("series of single steps: none is recorded")
        self._add_links()
        with closing(PatientFile(path)) as disk:
            self._disk = disk
            with h5py.File(disk, "w") as file, NWBHDF5IO(mode="w", file=file) as io:
                io.write(self._file)
            self._check_disk()

    def _written(self, rows: int) -> None:
        """Called whenever rows were taken for writing."""
        self._check_disk()
        self._done(rows)

    def _check_disk(self) -> None:
        if self._disk is not None and self._disk.error is not None:
            raise self._disk.error

    def _add_intervals(self) -> None:
        run = self._snapshot.run
        ended = trials(run)
        if self._has(ended, "no episode has ended" if run.agent else "no sequence has ended"):
            self._file.trials = self._table(ended)
        if run.agent:
            if self._tells("epoch"):
                self._file.epochs = self._table(told("epoch"))
            if self._tells("phase"):
                self._file.add_time_intervals(self._table(told("phase")))
            if has_laps(run) and add_laps(self._snapshot):
                self._file.add_time_intervals(self._table(LAPS))
            self._add_rewards()
        events = replay(run)
        if self._has(events, "nothing was replayed"):
            self._file.add_time_intervals(self._table(events))

    def _tells(self, what: str) -> bool:
        """Whether the steps tell two stretches of `what` or more: one alone would be the session itself."""
        found = add_told(self._snapshot, what)
        if found < 2:
            self.missing.append(f"{what}s: {'one alone is recorded' if found else 'the environment tells none'}")
        return found > 1

    def _has(self, intervals: Intervals, otherwise: str) -> bool:
        if self._snapshot.count(intervals.table):
            return True
        self.missing.append(f"{intervals.name}: {otherwise}")
        return False

    def _table(self, intervals: Intervals) -> TimeIntervals:
        return TimeIntervals(
            name=intervals.name,
            description=intervals.meaning,
            columns=self._columns(intervals.table, intervals.all_columns),
            id=self._ids(intervals.name, intervals.table),
        )

    def _add_rewards(self) -> None:
        paid = "SELECT step, position, causal_step, reward FROM steps WHERE reward != 0 ORDER BY rowid"
        if not self._snapshot.derive("rewards", paid):
            self.missing.append("rewards: none of the recorded steps was paid")
            return
        table = EventsTable(
            name="rewards",
            description="Recorded steps that were paid, that is whose reward is not 0.",
            columns=self._columns("rewards", REWARDS),
            id=self._ids("rewards", "rewards"),
        )
        self._file.add_events_table(table)

    def _columns(self, table: str, columns: tuple[Column, ...]) -> list[VectorData]:
        found = []
        for what in columns:
            # A table's column of 64 bits that is 0 or 1 everywhere is taken for a flag by the validators.
            data = column(self._snapshot, table, what, dt=self._dt, told=self._written, narrow=True)
            if data is not None:
                kind = TimestampVectorData if what.name == "timestamp" else VectorData
                found.append(kind(name=what.name, description=what.meaning, data=data))
        return found

    def _ids(self, name: str, table: str) -> ElementIdentifiers:
        self.rows[name] = self._snapshot.count(table)
        return ElementIdentifiers(name="id", data=numbering(self.rows[name], self._written))

    def _add_steps(self) -> None:
        for what in STEP_SERIES[self._agent]:
            self._add_series("steps", what)
        if self._agent:
            self._add_position()
        units = self._snapshot.hidden_units
        if not units:
            self.missing.append("hidden states: not recorded; train with --record-hidden")
            return
        states = hidden(self._snapshot, units, self._written)
        meaning = "Hidden state h of the network after each recorded step, one column per unit."
        when = self._time("steps")
        self._keep("misc", TimeSeries(name="hidden", data=states, unit=_NO_UNIT, description=meaning, **when))

    def _add_links(self) -> None:
        if self._snapshot.count("links"):
            for what in LINK_SERIES:
                self._add_series("links", what)

    def _add_series(self, table: str, what: Column) -> None:
        data = column(self._snapshot, table, what, dt=self._dt, told=self._written)
        if data is None:
            return
        when = self._time(table)
        series = TimeSeries(name=what.name, data=data, unit=what.unit, description=what.meaning, **when)
        if "timestamps" in when:
            # The series to come share those of the first.
            self._times[table] = {"timestamps": series}
        self._keep("behavior" if what.name in _BEHAVIOR else "misc", series)

    def _add_position(self) -> None:
        axes = place_axes(self._snapshot.select(PLACE_KINDS).fetchall())
        if not axes:
            self.missing.append("position: the environment tells none, or none of 1 to 3 numbers")
            return
        series = SpatialSeries(
            name="position",
            data=positions(self._snapshot, axes, self._written),
            unit=_NO_UNIT,
            reference_frame="The environment's own places, as it tells them in info['position'].",
            description="Where the agent is seen to be at each recorded step.",
            **self._time("steps"),
        )
        self.rows["position"] = self._snapshot.count("steps")
        self._module("behavior").add(Position(spatial_series=series))

    def _time(self, table: str) -> dict[str, Any]:
        """Times of a series over the rows of `table`: a rate where they are regular, else timestamps."""
        if table not in self._times:
            spacing = self._snapshot.spacing(table)
            if spacing is None:
                step = Column(name="timestamps", expression="step", kind="time", meaning="")
                self._times[table] = {"timestamps": column(self._snapshot, table, step, dt=self._dt, told=self._written)}
            else:
                first = self._snapshot.values(table, "step", 0, 1)[0][0]
                self._times[table] = {"starting_time": float(first * self._dt), "rate": 1 / (spacing * self._dt)}
        return self._times[table]

    def _keep(self, module: str, series: TimeSeries) -> None:
        self.rows[series.name] = self._snapshot.count("links" if series.name.startswith("replay_") else "steps")
        self._module(module).add(series)

    def _module(self, name: str) -> Any:
        if name not in self._file.processing:
            meaning = {"behavior": "What the agent did and was paid.", "misc": "What the learner computed."}
            self._file.create_processing_module(name=name, description=meaning[name])
        return self._file.processing[name]
