"""Columns of a snapshot as HDF5 takes them: stretch by stretch, so that none is ever in memory as a whole.

Needs the extra `nwb`; import it only after `sabsim.analysis.export.exports` has looked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import h5py
import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.data_utils import GenericDataChunkIterator
from numpy.typing import NDArray

from .contents import Column
from .snapshot import Snapshot

ROWS = 4096
"""Rows read, written and compressed at once."""

Take = Callable[[int, int], NDArray[Any]]
Told = Callable[[int], None]


class Rows(GenericDataChunkIterator):  # type: ignore[misc]
    """An array of which any stretch of rows can be had.

    Arguments:
        take: rows `first` to `last` - 1
        shape: of the whole, one row or more
        dtype: of its elements
        told: called with how many rows were taken
    """

    def __init__(self, take: Take, shape: tuple[int, ...], dtype: Any, told: Told) -> None:
        self._take, self._whole, self._type, self._told = take, shape, np.dtype(dtype), told
        stretch = (min(shape[0], ROWS), *shape[1:])
        super().__init__(buffer_shape=stretch, chunk_shape=stretch)

    def _get_data(self, selection: tuple[slice, ...]) -> NDArray[Any]:
        rows = self._take(selection[0].start, selection[0].stop)
        self._told(len(rows))
        return rows

    def _get_maxshape(self) -> tuple[int, ...]:
        return self._whole

    def _get_dtype(self) -> np.dtype[Any]:
        return self._type


def compressed(rows: Rows) -> H5DataIO:
    """Written with gzip at its fastest, which any HDF5 can read."""
    return H5DataIO(rows, compression="gzip", compression_opts=1, shuffle=True)


def column(snapshot: Snapshot, table: str, what: Column, *, dt: float, told: Told, narrow: bool = False) -> H5DataIO | None:
    """The values of `what` in all rows of `table`; None if it has no value in any.

    Times are in s, `dt` per step. What is NULL somewhere is a 64-bit float, NaN there; else a count is a 64-bit integer and
    a flag a bool. With `narrow` a number or count that is 0 or 1 in all rows has 8 bits.
    """
    count, figures = snapshot.count(table), snapshot.figures(table, what.expression)
    if not figures.told:
        return None
    dtype: Any = np.float64
    if what.kind == "text":
        dtype = h5py.string_dtype()
    elif figures.told == count:
        dtype = {"flag": np.bool_, "count": np.int64}.get(what.kind, np.float64)
        if narrow and figures.binary and what.kind in ("number", "count"):
            dtype = np.int8
    scale = dt if what.kind == "time" else None

    def take(first: int, last: int) -> NDArray[Any]:
        rows = snapshot.values(table, what.expression, first, last)
        return _array([row[0] for row in rows], dtype, scale)

    return compressed(Rows(take, (count,), dtype, told))


def positions(snapshot: Snapshot, axes: Sequence[str], told: Told) -> H5DataIO:
    """Places `(steps,)`, or `(steps, axes)` if they have more than one coordinate; NaN where none is told."""
    count = snapshot.count("steps")

    def take(first: int, last: int) -> NDArray[Any]:
        rows = np.array(snapshot.values("steps", ", ".join(axes), first, last), dtype=np.float64)
        return rows[:, 0] if len(axes) == 1 else rows

    shape = (count,) if len(axes) == 1 else (count, len(axes))
    return compressed(Rows(take, shape, np.float64, told))


def hidden(snapshot: Snapshot, units: int, told: Told) -> H5DataIO:
    """The hidden states `(steps, units)`."""
    shape = (snapshot.count("steps"), units)
    return compressed(Rows(lambda first, last: snapshot.hidden(first, last, units), shape, np.float32, told))


def numbering(count: int, told: Told) -> H5DataIO:
    """Row numbers from 0."""
    return compressed(Rows(lambda first, last: np.arange(first, last), (count,), np.int64, told))


def _array(values: list[Any], dtype: Any, scale: float | None) -> NDArray[Any]:
    if dtype == h5py.string_dtype():
        return np.array(["" if value is None else str(value) for value in values], dtype=object)
    array = np.array([np.nan if value is None else value for value in values] if dtype == np.float64 else values, dtype)
    return array if scale is None else array * scale
