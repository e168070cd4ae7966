"""`run.sqlite`: the tables of a run, written in transactions.

A rollback journal rather than a write-ahead log: between transactions the database is this one file, so a
copy of the folder is whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sabsim.errors import RunFolderError, SabsimError, StorageError

Row = Sequence[Any]

_PATIENCE = 60.0
"""Seconds to wait for a program that holds the database."""

Tables = Mapping[str, Mapping[str, str]]
"""The columns of each table, beside `id`, the order in which rows were recorded."""

TABLES: Tables = {
    "events": {
        "kind": "TEXT NOT NULL",
        "step": "INTEGER NOT NULL",
        "stream": "INTEGER NOT NULL",
        "episode": "INTEGER NOT NULL",
        "source_step": "INTEGER NOT NULL",
        "lag": "INTEGER NOT NULL",
        "weight": "REAL",
        "credit": "REAL",
        "loss": "REAL",
        "reward": "REAL",
        "td_error": "REAL",
        "replayed_steps": "INTEGER",
        "update_step": "INTEGER",
    },
    "steps": {
        "step": "INTEGER NOT NULL",
        "stream": "INTEGER NOT NULL",
        "episode": "INTEGER NOT NULL",
        "position": "INTEGER NOT NULL",
        "loss": "REAL",
        "scored": "INTEGER NOT NULL",
        "correct": "REAL",
    },
    "episodes": {
        "stream": "INTEGER NOT NULL",
        "episode": "INTEGER NOT NULL",
        "first_step": "INTEGER NOT NULL",
        "last_step": "INTEGER NOT NULL",
        "loss": "REAL",
        "metric": "REAL",
    },
    "metrics": {
        "sequences": "INTEGER NOT NULL",
        "step": "INTEGER NOT NULL",
        "split": "TEXT NOT NULL",
        "evaluated": "INTEGER NOT NULL",
        "loss": "REAL",
        "metric": "REAL",
        "replays_per_update": "REAL",
        "updates": "INTEGER NOT NULL",
        "gradient_norm": "REAL",
    },
    "clock": {
        "sequences": "INTEGER NOT NULL",
        "step": "INTEGER NOT NULL",
        "seconds": "REAL NOT NULL",
        "steps_per_second": "REAL",
        "rss_mb": "REAL NOT NULL",
        "date": "TEXT NOT NULL",
    },
}
"""The tables of a supervised run."""

HIDDEN: Tables = {"hidden": {"step": "INTEGER NOT NULL", "stream": "INTEGER NOT NULL", "h": "BLOB NOT NULL"}}
"""What `record_hidden` adds to a run of any kind: row for row with `steps`, so that equal `id` means the same step."""


def tables_of(tables: Tables, *, record_hidden: bool) -> Tables:
    """A run's tables: those of its kind, and that of hidden states if they are recorded."""
    return {**tables, **HIDDEN} if record_hidden else tables


def hidden_blob(h: NDArray[Any]) -> bytes:
    """One hidden state `(n,)` as column `h` holds it: n 32-bit floats, little-endian."""
    return h.astype("<f4").tobytes()


class RunDatabase:
    """Appends rows and commits them together.

    Arguments:
        path: the file, made if need be
        tables: what it holds

    Raises:
        RunFolderError: the file is not the database of a run
        StorageError: the disk refuses; what was committed stays
    """

    def __init__(self, path: Path, tables: Tables = TABLES) -> None:
        self.path, self._tables = path, tables
        self._insert = {
            table: f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
            for table, columns in tables.items()
        }
        try:
            # A reader holds the lock for a moment only; the run waits for it.
            self._connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level="DEFERRED")
        except sqlite3.Error as error:
            raise _refused(path, error) from error
        try:
            self._prepare()
        except SabsimError:
            self.close()
            raise

    def _prepare(self) -> None:
        with self._storage():
            # The cache would otherwise grow with the file to 2 MB, and a long run's memory should be flat.
            for pragma in ("journal_mode = DELETE", "synchronous = FULL", "cache_size = -500"):
                self._connection.execute(f"PRAGMA {pragma}")
            for table, columns in self._tables.items():
                body = ", ".join(f"{name} {kind}" for name, kind in columns.items())
                self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, {body})")

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        """Append rows, in the order of the table's columns; they last from the next `commit` on."""
        if rows:
            with self._storage():
                self._connection.executemany(self._insert[table], rows)

    def commit(self) -> None:
        """Make what was inserted last."""
        with self._storage():
            self._connection.commit()

    def counts(self) -> dict[str, int]:
        """The number of rows of each table, including those not yet committed."""
        with self._storage():
            return {table: self._last(table) for table in self._tables}

    def trim(self, counts: dict[str, int]) -> None:
        """Delete the rows after the first `counts[table]` of each table.

        Raises:
            RunFolderError: a table has fewer
        """
        for table in self._tables:
            with self._storage():
                there = self._last(table)
            if there < counts[table]:
                raise RunFolderError(
                    f"'{self.path}': table {table} has {there} rows, the checkpoint counts {counts[table]}; "
                    "restore the file, or start again with another --out"
                )
            with self._storage():
                self._connection.execute(f"DELETE FROM {table} WHERE id > ?", (counts[table],))
        self.commit()

    def close(self) -> None:
        """Close the file; what was not committed is dropped."""
        self._connection.close()

    def _last(self, table: str) -> int:
        # Rows are only appended or trimmed at the end, so the greatest id is their number.
        last: int = self._connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
        return last

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            self._connection.rollback()
            raise _refused(self.path, error) from error
        except sqlite3.DatabaseError as error:
            raise RunFolderError(f"'{self.path}': {error}; restore the file, or start again with another --out") from error


def _refused(path: Path, error: sqlite3.Error) -> StorageError:
    remedy = "close the program that holds it" if "locked" in str(error) else "free space or make it writable"
    return StorageError(
        f"'{path}': {error}; {remedy} (what was committed and the last checkpoint are intact; --resume goes on from there)"
    )


def read_rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, from a database that is not changed by it.

    Raises:
        RunFolderError: the file is missing or is not the database of a run
    """
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.DatabaseError as error:
        raise RunFolderError(f"'{path}': {error}; restore the file") from error
