"""A file that takes what a full disk refuses, so that HDF5 can be brought to an end in good order.

HDF5 has no way back from a refused write: it fails again at each object that it lets go of, and may bring the process down.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class PatientFile:
    """A new file for `h5py.File`. From the first refusal on, what is written is kept in memory and can be read back.

    Whoever writes asks `error` between stretches and stops, so little is ever kept.

    Attributes:
        error: what the disk said; None as long as it takes everything
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._at = self._end = 0
        self._kept: list[tuple[int, bytes]] = []
        self.error: OSError | None = None

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place counted from the beginning, from here, or from the end."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        """The present place."""
        return self._at

    def write(self, data: Any) -> int:
        """Write all of `data` here, or keep it."""
        view = memoryview(data).cast("B")
        if self.error is None:
            try:
                self._write_all(view)
            except OSError as error:
                self.error = error
        if self.error is not None:
            self._kept.append((self._at, bytes(view)))
        self._at += len(view)
        self._end = max(self._end, self._at)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from here on; returns how many bytes there were."""
        view = memoryview(buffer).cast("B")
        there = max(0, min(len(view), self._end - self._at))
        view[:there] = os.pread(self._handle, there, self._at).ljust(there, b"\0")
        for first, data in self._kept:
            begin, end = max(first, self._at), min(first + len(data), self._at + there)
            if begin < end:
                view[begin - self._at : end - self._at] = data[begin - first : end - first]
        self._at += there
        return there

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes from here on; all of them if it is negative."""
        data = bytearray(max(0, self._end - self._at) if size < 0 else size)
        return bytes(data[: self.readinto(data)])

    def truncate(self, size: int | None = None) -> int:
        """Make the file so long."""
        self._end = self._at if size is None else size
        if self.error is None:
            try:
                os.ftruncate(self._handle, self._end)
            except OSError as error:
                self.error = error
        return self._end

    def flush(self) -> None:
        """Nothing waits."""

    def _write_all(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += os.pwrite(self._handle, view[done:], self._at + done)
