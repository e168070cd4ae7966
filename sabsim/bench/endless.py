"""Row 6: one stream of very many steps. Does a step stay as quick, and memory as small, as at the beginning?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch

from ..network import Network
from ..runs.machine import rss_mb
from ..tasks import Copying
from .backends import make_learner, ours
from .case import CaseResult, Measurement, Parameters, Plan, Row, spread
from .isolated import isolated
from .settings import Settings
from .settings import T as USUAL_T
from .timing import Timer


class Extent(NamedTuple):
    """How far, in pieces of how many steps, and where the early stretch of ``stretch`` pieces begins (in pieces)."""

    steps: int
    piece: int
    early: int
    stretch: int


FULL = Extent(steps=1_000_000, piece=1_000, early=10, stretch=10)
QUICK = Extent(steps=600, piece=20, early=5, stretch=5)


class Stretch(NamedTuple):
    """Seconds of every piece by the wall clock and of CPU time, and resident MB at the end."""

    wall: list[float]
    cpu: list[float]
    rss_mb: float


def cases(settings: Settings) -> list[Plan]:
    """One case for each backend."""
    return [
        Plan(f"{_extent(settings).steps:,} steps, {backend}", partial(_measure, settings, backend))
        for backend in settings.backends.names
    ]


def _extent(settings: Settings) -> Extent:
    return QUICK if settings.quick else FULL


def _measure(settings: Settings, backend: str, timer: Timer) -> CaseResult:
    extent = _extent(settings)
    early, last = isolated(endless, backend, extent, seed=settings.seed, device=str(settings.device))
    begin = extent.early * extent.piece
    length = extent.stretch * extent.piece
    names = f"steps {begin:,} to {begin + length:,}", f"steps {extent.steps - length:,} to {extent.steps:,}"
    base = [piece / extent.piece for piece in early.wall]
    measurements = []
    for name, stretch in zip(names, (early, last), strict=True):
        seconds = [piece / extent.piece for piece in stretch.wall]
        cpu = 1e6 * spread(stretch.cpu).median / extent.piece
        measurements.append(
            Measurement(
                name=f"{ours(backend)}, {name}",
                seconds=seconds,
                ratios=[mine / its for mine, its in zip(seconds, base, strict=True)],
                memory_mb=stretch.rss_mb,
                note=f"CPU time {cpu:.1f} us per step; memory: resident at the end",
            )
        )
    sizes: Parameters = {"streams": 1, "steps": extent.steps, "T": USUAL_T, "backend": backend}
    return CaseResult(parameters=sizes, unit="step", base=measurements[0].name, measurements=measurements)


def endless(backend: str, extent: Extent, *, seed: int, device: str) -> tuple[Stretch, Stretch]:
    """Plays the stream; returns its early and its last stretch."""
    where, task = torch.device(device), Copying(T=USUAL_T)
    network = Network(d_in=task.d_in, d_out=task.d_out)
    learner = make_learner(backend, network, seed=seed, device=where)
    stream = task.stream(streams=1, seed=seed, device=where)
    pieces = extent.steps // extent.piece
    wall, cpu, resident = [], [], []
    for number in range(pieces):
        begun, used = time.perf_counter(), time.process_time()
        for _ in range(extent.piece):
            step = stream.next()
            if stream.begins:
                learner.reset(step.first)
            score = stream.score(learner.step(step.x), step)
            learner.learn(score.dL_dy, score.loss)
        learner.check()  # also waits for a GPU
        took, spent = time.perf_counter() - begun, time.process_time() - used
        if extent.early <= number < extent.early + extent.stretch or number >= pieces - extent.stretch:
            wall.append(took)
            cpu.append(spent)
            resident.append(rss_mb())
    here = extent.stretch
    return Stretch(wall[:here], cpu[:here], resident[here - 1]), Stretch(wall[here:], cpu[here:], resident[-1])


def findings(results: Sequence[CaseResult]) -> list[str]:
    """The ratio of times and the growth of memory, in a sentence for each backend."""
    said = []
    for case in results:
        early, last = case.measurements
        assert early.memory_mb is not None
        assert last.memory_mb is not None
        said.append(
            f"{ours(str(case.parameters['backend']))}: time per step, {last.name.partition(', ')[2]} over "
            f"{early.name.partition(', ')[2]}: {last.time.median / early.time.median:.2f}; resident memory "
            f"{last.memory_mb - early.memory_mb:+.1f} MB."
        )
    return said


ROW = Row(
    name="endless",
    title="one stream without end",
    purpose="copying T = 100, one stream of 1,000,000 steps with the usual settings, in a process of its own: time per "
    "step, in pieces of 1,000, of the last 10,000 steps against steps 10,000 to 20,000, and resident memory at both ends.",
    cases=cases,
    conclude=findings,
)
