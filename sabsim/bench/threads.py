"""Row 11: threads of the CPU: whole blocks of a usual and of a large network with one, two, four, and all there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

import torch

from ..errors import SabsimError
from .backends import PLAIN, ours
from .case import Case, CaseResult, Plan, Row, Variant
from .fused import LSTMLearner
from .scale import LETTERS, SYMBOLS, Size, play, symbols
from .settings import HIDDEN, K_TRUNC, SLOTS, Settings
from .timing import Timer

REPLAYS = 2


def counts(settings: Settings) -> list[int]:
    """Numbers of threads to compare: the powers of two up to the CPUs that this process may use, and all of these."""
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = min(most, 2) if settings.quick else most
    return sorted({most, *(2**power for power in range(most.bit_length()))})


def cases(settings: Settings) -> list[Plan]:
    """A network of the usual size and one of the paper's for text."""
    n, large, streams = (16, 32, 4) if settings.quick else (HIDDEN, 1_000, 32)
    sizes = [Size(streams, n, SYMBOLS, REPLAYS), Size(streams, large, LETTERS, REPLAYS)]
    return [Plan(f"n = {size.n:,}", partial(_measure, settings, size)) for size in sizes]


def _measure(settings: Settings, size: Size, timer: Timer) -> CaseResult:
    if settings.device.type != "cpu":
        raise SabsimError("threads are the CPU's: ask for --device cpu")
    torch.manual_seed(settings.seed)
    x, begins, target = symbols(size, settings)
    native = [name for name in settings.backends.names if name != PLAIN]
    calls: dict[str, Callable[[], object]] = {
        ours(name, "SAB"): play(name, size, settings, x, begins, target)[0] for name in native or [PLAIN]
    }
    peer = LSTMLearner(size.d, size.n, size.d, window=K_TRUNC, device=settings.device)
    calls[f"nn.LSTM, TBPTT {K_TRUNC}"] = partial(peer.learn, x[0], target[0])
    variants = [
        Variant(name=_named(what, threads), call=partial(_with_threads, threads, call), units=K_TRUNC * size.streams)
        for what, call in calls.items()
        for threads in counts(settings)
    ]
    sizes = {**size._asdict(), "slots": SLOTS, "k_trunc": K_TRUNC}
    return timer.compare(Case(parameters=sizes, unit="stream-step", base=variants[0].name, variants=variants))


def _named(what: str, threads: int) -> str:
    return f"{what}, {threads} thread{'s' if threads > 1 else ''}"


def _with_threads(threads: int, call: Callable[[], object]) -> None:
    torch.set_num_threads(threads)
    try:
        call()
    finally:
        torch.set_num_threads(1)


def findings(results: Sequence[CaseResult]) -> list[str]:
    """How many times as fast as one thread our own are."""
    return [
        f"n = {case.parameters['n']}: {one.name} take {one.ratio.median:.2f} of the time of one."
        for case in results
        for one in case.measurements
        if one.name.startswith("SAB") and one.ratio is not None and one.name != case.base
    ]


ROW = Row(
    name="threads",
    title="threads",
    purpose="a window of 5 steps with its update, 32 streams, 2 replays used, with n = 128 and n = 1,000, by 1, 2, 4, ... "
    "threads of the CPU; nn.LSTM by truncated BPTT with as many. Our results are the same to the last bit.",
    cases=cases,
    conclude=findings,
)
