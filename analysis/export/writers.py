"""Rows to Parquet and CSV files, as they come."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .tables import Field, states

Rows = Iterator[list[tuple[Any, ...]]]


def write_parquet(path: Path, fields: Sequence[Field], rows: Rows) -> int:
    """One table as a Parquet file (zstd), unit and meaning with each column; returns its number of rows. Needs pyarrow.

    Raises:
        OSError: the disk refuses
    """
    import pyarrow as pa
    from pyarrow import parquet

    types = {"integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_(), "text": pa.string()}
    schema = pa.schema(
        [
            pa.field(
                field.name,
                pa.list_(pa.float32(), field.width) if field.type == "states" else types[field.type],
                metadata={"unit": field.unit, "meaning": field.meaning},
            )
            for field in fields
        ]
    )

    def array(field: Field, values: Sequence[Any]) -> Any:
        if field.type == "states":
            flat = pa.array(states(list(values), field.width).reshape(-1))
            return pa.FixedSizeListArray.from_arrays(flat, field.width)
        return pa.array([_plain(field, value) for value in values], schema.field(field.name).type)

    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in rows:
            if batch:
                columns = [array(field, values) for field, values in zip(fields, zip(*batch, strict=True), strict=True)]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                count += len(batch)
    return count


def write_csv(path: Path, fields: Sequence[Field], rows: Rows) -> int:
    """One table as a CSV file (UTF-8; an empty field for none, true and false); returns its number of rows.

    Hidden states take a column for each unit: `h_0`, `h_1`, ... Numbers are written so that they read back exactly.

    Raises:
        OSError: the disk refuses
    """
    titles = [title for field in fields for title in _titles(field)]
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(titles)
        for batch in rows:
            writer.writerows(_cells(fields, batch))
            count += len(batch)
    return count


def write_dictionary(path: Path, tables: dict[str, list[Field]]) -> None:
    """`table`, `column`, `type`, `unit` and `meaning` of every column, as CSV.

    Raises:
        OSError: the disk refuses
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("table", "column", "type", "unit", "meaning"))
        for name, fields in tables.items():
            for field in fields:
                kind = f"{field.width} numbers" if field.type == "states" else field.type
                writer.writerow((name, field.name, kind, field.unit, field.meaning))


def write_json(path: Path, data: dict[str, Any]) -> None:
    """A JSON object.

    Raises:
        OSError: the disk refuses
    """
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _titles(field: Field) -> list[str]:
    return [f"{field.name}_{unit}" for unit in range(field.width)] if field.type == "states" else [field.name]


def _cells(fields: Sequence[Field], batch: list[tuple[Any, ...]]) -> Iterator[list[Any]]:
    kept = [
        None if field.type != "states" else states([row[i] for row in batch], field.width) for i, field in enumerate(fields)
    ]
    for number, row in enumerate(batch):
        cells: list[Any] = []
        for field, value, numbers in zip(fields, row, kept, strict=True):
            if numbers is not None:
                cells += map(str, numbers[number])
            elif field.type == "flag" and value is not None:
                cells.append("true" if value else "false")
            else:
                cells.append(value)
        yield cells


def _plain(field: Field, value: Any) -> Any:
    """A value of SQLite as the field's type takes it."""
    if value is None or field.type == "integer":
        return value
    return {"number": float, "flag": bool, "text": str}[field.type](value)
