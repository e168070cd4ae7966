"""The tables of a run folder as they are exported: each column's final name and type, and rows read stretch by stretch."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..folders import Run
from .contents import PLACE_KINDS, place_axes
from .dictionary import AGENT, TASK, Described, TableOf, Type

AT_ONCE = 20_000
"""Rows read in one transaction: a running writer waits for a fraction of a second at most."""
_AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Field:
    """An exported column: `expression` is SQL over the source table; `width`, of states alone, numbers in each."""

    name: str
    expression: str
    type: Type
    unit: str
    meaning: str
    width: int = 0


class Source:
    """The database of a run, read in short transactions up to the rows that were there when this was made.

    Arguments:
        run: the run folder

    Raises:
        sqlite3.Error: it cannot be read
    """

    def __init__(self, run: Run) -> None:
        uri = f"{(run.path / 'run.sqlite').resolve().as_uri()}?mode=ro"
        self._connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        there = {row[0] for row in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        known = AGENT if run.agent else TASK
        self.tables = {name: table for name, table in known.items() if name != "hidden" or "hidden" in there}
        sources = sorted({table.source for table in self.tables.values()})
        query = ", ".join(f"(SELECT coalesce(max(id), 0) FROM {source})" for source in sources)
        self._limits = dict(zip(sources, self._connection.execute(f"SELECT {query}").fetchone(), strict=True))

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def fields(self, table: TableOf) -> list[Field]:
        """The columns as they will be: places told apart into numbers, types settled where the environment decides them."""
        return [field for column in table.columns for field in self._settled(column)]

    def rows(self, table: TableOf, fields: list[Field]) -> Iterator[list[tuple[Any, ...]]]:
        """All rows in the order of recording, at most `AT_ONCE` together."""
        wanted = ", ".join(field.expression for field in fields)
        query = f"SELECT {wanted} FROM {table.source} WHERE id > ? AND id <= ? AND {table.condition} ORDER BY id"
        last = self._limits[table.source]
        for first in range(0, last, AT_ONCE):
            yield self._connection.execute(query, (first, min(first + AT_ONCE, last))).fetchall()

    def _settled(self, column: Described) -> list[Field]:
        about = (column.unit, column.meaning)
        quoted = f'"{column.name}"'
        if column.type == "place":
            axes = place_axes(self._connection.execute(PLACE_KINDS).fetchall())
            if len(axes) > 1:
                pairs = zip(_AXES, axes, strict=False)
                return [Field(f"place_{axis}", expression, "number", *about) for axis, expression in pairs]
            return [Field(column.name, quoted, "number" if axes else "text", *about)]
        if column.type == "told":
            return [Field(column.name, quoted, self._type_of(column.name), *about)]
        if column.type == "states":
            with closing(self._connection.execute("SELECT length(h) FROM hidden LIMIT 1")) as found:
                row = found.fetchone()
            return [Field(column.name, quoted, column.type, *about, width=row[0] // 4 if row else 0)]
        return [Field(column.name, quoted, column.type, *about)]

    def _type_of(self, name: str) -> Type:
        kinds = {row[0] for row in self._connection.execute(f"SELECT DISTINCT typeof({name}) FROM steps")} - {"null"}
        if kinds == {"integer"}:
            return "integer"
        return "number" if kinds and kinds <= {"integer", "real"} else "text"


def states(blobs: list[bytes], width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Hidden states `(rows, width)` from column `h`.

    Raises:
        sqlite3.DatabaseError: one is of another size
    """
    found = np.frombuffer(b"".join(blobs), dtype="<f4")
    if found.size != len(blobs) * width:
        raise sqlite3.DatabaseError("hidden states differ in size")
    return found.reshape(len(blobs), width)
