"""The timer: variants by turns, warmed up, each sample long enough to be read off the clock.

On the CPU the clock is ``time.perf_counter``; on a GPU it is a pair of CUDA events around the work, so that what is
timed is the device's work and not its being queued. There whatever can be is captured as a CUDA graph first, ours and
the peers': one by one, small operations take as long as the host needs to queue them, whosever they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch

from ..graph import capture, first_line, warm_up
from .case import Case, CaseResult, Variant, conclude

LEAST_ROUNDS = 3
"""Rounds that are run whatever they take: fewer have no quartiles to speak of."""


class Clock(Protocol):
    """Seconds that ``count`` calls take."""

    def __call__(self, call: Callable[[], object], count: int) -> float: ...


def cpu_clock(call: Callable[[], object], count: int) -> float:
    """Wall-clock seconds."""
    begun = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - begun


def cuda_clock(call: Callable[[], object], count: int) -> float:
    """Seconds between two events on the device's current stream."""
    begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begun.record()
    for _ in range(count):
        call()
    ended.record()
    ended.synchronize()
    return begun.elapsed_time(ended) / 1e3


def clock_of(device: torch.device) -> Clock:
    """The clock that fits a device."""
    return cuda_clock if device.type == "cuda" else cpu_clock


def as_graph(variant: Variant, device: torch.device) -> Variant:
    """The variant as a CUDA graph, if ``device`` has them and it can be captured; its note says so, or why not."""
    if device.type != "cuda" or not variant.graph:
        return variant
    call, said = variant.call, "a CUDA graph"
    try:
        warm_up(call, device)
        call, _ = capture(call, device)
    except RuntimeError as error:
        said = f"not a CUDA graph: {first_line(error)}"
    return replace(variant, call=call, note=f"{variant.note}; {said}" if variant.note else said)


class Timer:
    """Times the variants of a case round by round, one sample of each a round.

    Args:
        clock: how calls are timed.
        rounds: samples of each variant, at most.
        sample: a sample repeats a call until it takes about this many seconds.
        budget: seconds for a case; after that no round is begun once ``LEAST_ROUNDS`` are done.
        warm_up: calls, after a first one, before anything is measured.
        device: where the work is done.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        rounds: int,
        sample: float,
        budget: float,
        warm_up: int,
        device: torch.device | None = None,
    ) -> None:
        self._clock, self._rounds, self._sample, self._budget, self._warm_up = clock, rounds, sample, budget, warm_up
        self._device = torch.device("cpu") if device is None else device

    def compare(self, case: Case) -> CaseResult:
        """Measures the variants of ``case`` by turns."""
        case = replace(case, variants=[as_graph(variant, self._device) for variant in case.variants])
        counts = {variant.name: self._calls(variant.call) for variant in case.variants}
        seconds: dict[str, list[float]] = {variant.name: [] for variant in case.variants}
        spent, done = 0.0, 0
        while done < self._rounds and (done < LEAST_ROUNDS or spent < self._budget):
            # Forth and back: no variant always follows the same one, with its data in the caches.
            for variant in case.variants if done % 2 == 0 else reversed(case.variants):
                count = counts[variant.name]
                took = self._clock(variant.call, count)
                seconds[variant.name].append(took / (count * variant.units))
                spent += took
            done += 1
        return conclude(case, seconds)

    def _calls(self, call: Callable[[], object]) -> int:
        """Warms up; returns how many calls make a sample. What takes many samples' time is warm after a single call."""
        first = self._clock(call, 1)
        if first > 50 * self._sample:
            return 1
        self._clock(call, self._warm_up)
        once = self._clock(call, 1)
        return max(1, round(self._sample / max(once, 1e-9)))
