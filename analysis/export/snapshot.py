"""What one stream had recorded when the export began, in the order of time, in a scratch database on the disk.

A run may go on meanwhile. Its database is read in short transactions, so that it never waits for long, up to the rows that
were there at the beginning; rows are only ever appended, so together they are one moment of it. The scratch database sorts
and counts without memory that grows with the run, and gives any stretch of rows by number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

from ..folders import Run

_AT_ONCE = 50_000
"""Rows copied in one transaction: a fraction of a second for which a run that goes on has to wait."""

_TRIGGERS = """
CREATE TABLE triggers AS SELECT step, episode, count(*) AS sources, sum(credit) AS total, max(credit) AS greatest,
    source_step, update_step, weight, reward, td_error, loss
FROM links GROUP BY step ORDER BY step
"""
# With one max() in the list, SQLite takes the bare columns from the row that holds it.

_TRIALS = "CREATE TABLE trials AS SELECT *, episode IN (SELECT episode FROM steps) AS is_recorded FROM episodes ORDER BY id"


@dataclass(frozen=True)
class Figures:
    """Of a column: how many values it has that are not NULL, and whether all of these are 0 or 1."""

    told: int
    binary: bool


class Snapshot:
    """The rows of one stream.

    Tables: `steps` with the columns of the run's table; `trials`, its episodes, with `is_recorded` (1 if their single steps
    are); `links`, its replay events; `triggers`, one row for each step that has triggered replays: `sources` (how many),
    `total` and `greatest` credit; `source_step`, `update_step` and `weight` of the source with the greatest; `reward`,
    `td_error` and `loss` of the trigger. All are in the order of time.

    Arguments:
        run: the run folder
        stream: which stream
        scratch: a file that does not exist yet

    Raises:
        sqlite3.Error: the run's database cannot be read, or there is no room for the scratch database
    """

    def __init__(self, run: Run, stream: int, scratch: Path) -> None:
        self.run, self.stream = run, stream
        self._connection = sqlite3.connect(scratch.resolve().as_uri(), uri=True, isolation_level=None)
        # Nobody else reads it and nobody needs it after a crash.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -8000", "temp_store = FILE"):
            self._connection.execute(f"PRAGMA {pragma}")
        source = f"{(run.path / 'run.sqlite').resolve().as_uri()}?mode=ro"
        self._connection.execute("ATTACH ? AS run", (source,))
        limits = self._limits(("steps", "events", "episodes"))
        self._copy("steps", "steps", limits["steps"])
        self._copy("events", "unsorted", limits["events"], "AND kind = 'replay'")
        self._copy("episodes", "episodes", limits["episodes"])
        self._connection.execute(_TRIALS)
        # An update replays recalls of a whole window, stream by stream: events are not quite in the order of their steps.
        self._connection.execute("CREATE TABLE links AS SELECT * FROM unsorted ORDER BY step, id")
        self._connection.execute("DROP TABLE unsorted")
        self._connection.execute(_TRIGGERS)

    def _limits(self, tables: Iterable[str]) -> dict[str, int]:
        """The last row of each table, all at one moment."""
        query = ", ".join(f"(SELECT coalesce(max(id), 0) FROM run.{table})" for table in tables)
        return dict(zip(tables, self._connection.execute(f"SELECT {query}").fetchone(), strict=True))

    def _copy(self, table: str, name: str, last: int, condition: str = "") -> None:
        self._connection.execute(f"CREATE TABLE {name} AS SELECT * FROM run.{table} WHERE 0")
        wanted = f"SELECT * FROM run.{table} WHERE id > ? AND id <= ? AND stream = ? {condition} ORDER BY id"
        for first in range(0, last, _AT_ONCE):
            bounds = (first, min(first + _AT_ONCE, last), self.stream)
            self._connection.execute(f"INSERT INTO {name} {wanted}", bounds)

    def close(self) -> None:
        """Let go of both databases."""
        self._connection.close()

    def create(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A further table, of rows that are given one by one."""
        self._connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        places = ", ".join("?" * len(columns))
        self._connection.execute("BEGIN")
        self._connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
        self._connection.execute("COMMIT")

    def derive(self, table: str, query: str) -> int:
        """A further table, of the rows of a query; returns how many."""
        self._connection.execute(f"CREATE TABLE {table} AS {query}")
        return self.count(table)

    def select(self, query: str) -> sqlite3.Cursor:
        """Rows of any query over the tables, one by one."""
        return self._connection.execute(query)

    def count(self, table: str) -> int:
        """The number of rows."""
        # Made of a query or by appending, the tables number their rows from 1 on.
        count: int = self._connection.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").fetchone()[0]
        return count

    def figures(self, table: str, expression: str) -> Figures:
        """What values `expression` has in the rows of `table`."""
        query = f"SELECT count(x), coalesce(sum(x IN (0, 1)), 0) FROM (SELECT {expression} AS x FROM {table})"
        told, binary = self._connection.execute(query).fetchone()
        return Figures(told, binary == told)

    def values(self, table: str, expressions: str, first: int, last: int) -> list[tuple[Any, ...]]:
        """`expressions` in the rows `first` to `last` - 1 of `table`, counted from 0."""
        query = f"SELECT {expressions} FROM {table} WHERE rowid > ? AND rowid <= ? ORDER BY rowid"
        return self._connection.execute(query, (first, last)).fetchall()

    def spacing(self, table: str) -> int | None:
        """Steps from each row of `table` to the next, if there are 3 rows or more and they are all the same, else None."""
        gaps = "SELECT step - lag(step) OVER (ORDER BY rowid) AS gap FROM " + table
        count, least, most = self._connection.execute(f"SELECT count(gap), min(gap), max(gap) FROM ({gaps})").fetchone()
        return int(least) if count >= 2 and least == most and least > 0 else None

    def last_step(self) -> int:
        """The last step that any row is about; -1 if there are no rows."""
        parts = ("max(step) AS s FROM steps", "max(step) FROM links", "max(last_step) FROM trials")
        query = " UNION ALL ".join(f"SELECT {part}" for part in parts)
        last = self._connection.execute(f"SELECT max(s) FROM ({query})").fetchone()[0]
        return -1 if last is None else int(last)

    @property
    def hidden_units(self) -> int:
        """Numbers in a hidden state; 0 if the run records none."""
        if not self._connection.execute("SELECT 1 FROM run.sqlite_master WHERE name = 'hidden'").fetchone():
            return 0
        found = self._connection.execute("SELECT length(h) FROM run.hidden ORDER BY id LIMIT 1").fetchone()
        return int(found[0]) // 4 if found else 0

    def hidden(self, first: int, last: int, units: int) -> NDArray[np.float32]:
        """The hidden states `(last - first, units)` of rows `first` to `last` - 1 of `steps`.

        Raises:
            RunFolderError: not one state for each of these steps
        """
        ids = [row[0] for row in self.values("steps", "id", first, last)]
        # Row for row with `steps`: the same id is the same step.
        query = "SELECT h FROM run.hidden WHERE id >= ? AND id <= ? AND stream = ? ORDER BY id"
        rows = self._connection.execute(query, (ids[0], ids[-1], self.stream)).fetchall()
        states = np.frombuffer(b"".join(row[0] for row in rows), dtype="<f4")
        if len(rows) != len(ids) or states.size != len(ids) * units:
            raise RunFolderError(
                f"'{self.run.path / 'run.sqlite'}': {len(rows)} hidden states of {len(ids)} steps; the table is damaged"
            )
        return states.reshape(len(ids), units)
