"""Measurements in a process of their own: peak memory, and how memory and time go on over a very long stream.

In this process the memory that earlier measurements have freed would hide what a later one needs.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from ..errors import SabsimError
from ..runs.machine import peak_rss_mb, rss_mb

_T = TypeVar("_T")
_P = ParamSpec("_P")


class ProcessDiedError(SabsimError):
    """The process was killed, as the system does when memory runs out."""


def isolated(function: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """What ``function``, importable by name, returns in a fresh process with one thread.

    Raises ProcessDiedError: it was killed. Whatever ``function`` raises.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, initializer=_prepare) as pool:
        try:
            return pool.submit(function, *arguments, **named).result()
        except BrokenProcessPool as error:
            raise ProcessDiedError("its process was killed: is there enough memory?") from error


def _prepare() -> None:
    torch.set_num_threads(1)


def peak_mb(call: Callable[[], Any], device: torch.device) -> float:
    """Megabytes that ``call`` needs at most beyond what is held before it; on a GPU, of the GPU's memory.

    Meant for a fresh process in which the same was done before in small, so that libraries are loaded.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    # Resets the high-water mark; without it the peak can only be too high by what loading libraries took.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    held = rss_mb()
    call()
    return max(0.0, high_water_mb() - held)


def high_water_mb() -> float:
    """Most resident memory of this process, in MB (10^6 bytes).

    Not from ``getrusage`` where the system tells better: on Linux that counts what the parent held at the fork.
    """
    with suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    return peak_rss_mb()


def available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not tell."""
    with suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    return None
