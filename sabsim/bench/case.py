"""What is compared and what came out: variants that do the same work side by side, and their times.

A *row* of the bench is a question (``sabsim bench --help`` lists them). It has *cases*, one for each size, and a case has
*variants*: ours in every backend, the peers, and the matrix products alone, which give the machine's rate at that size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from .settings import Settings
    from .timing import Timer

Parameters = Mapping[str, int | str]
"""Sizes of a case by name, such as rows, n, k_trunc, streams, slots, T."""

GEMM = "matrix products alone"
"""Name of the variant whose rate the others' shares refer to."""


class Spread(NamedTuple):
    """Median and quartiles of some samples."""

    median: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    """Median, first and third quartile (linear interpolation). Raises ValueError: if there are no samples."""
    if not samples:
        raise ValueError("no samples")
    low, median, high = np.percentile(np.asarray(samples, dtype=float), (25, 50, 75))
    return Spread(float(median), float(low), float(high))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to do the work of a case.

    ``call`` does ``units`` of the case's unit, in ``flops`` floating-point operations of matrix products (0: none worth
    counting). ``note`` says what a reader must know to compare fairly. ``graph``: whether ``call`` always gives a GPU the
    same work, so that it can be captured.
    """

    name: str
    call: Callable[[], object]
    units: float
    flops: float = 0.0
    note: str = ""
    graph: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """Variants to be timed by turns. ``base`` names the one that ratios refer to; ``refused`` what cannot run, and why."""

    parameters: Parameters
    unit: str
    base: str
    variants: Sequence[Variant]
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Times of one variant: ``seconds`` per unit, a sample a round; ``flops`` per unit; ``memory_mb`` where it was asked.

    ``ratios`` are those to the case's base, round by round, so that a slow moment of the machine falls on both.
    """

    name: str
    seconds: Sequence[float]
    ratios: Sequence[float] = ()
    flops: float = 0.0
    share: float | None = None
    memory_mb: float | None = None
    note: str = ""

    @property
    def time(self) -> Spread:
        """Seconds per unit."""
        return spread(self.seconds)

    @property
    def ratio(self) -> Spread | None:
        """Times the base's time; None without a base."""
        return spread(self.ratios) if self.ratios else None

    @property
    def gflops(self) -> float | None:
        """10^9 floating-point operations of matrix products per second; None where there are none to count."""
        median = self.time.median
        return self.flops / median / 1e9 if self.flops and median > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Everything, with medians and quartiles spelt out."""
        ratio = self.ratio
        return {
            **asdict(self),
            "seconds_per_unit": self.time._asdict(),
            "ratio_to_base": None if ratio is None else ratio._asdict(),
            "gflops": self.gflops,
        }


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """What came out of a case."""

    parameters: Parameters
    unit: str
    base: str
    measurements: Sequence[Measurement]
    refused: Mapping[str, str] = field(default_factory=dict)

    def with_memory(self, megabytes: Mapping[str, float]) -> CaseResult:
        """The same with ``memory_mb`` of the measurements named."""
        known = [replace(one, memory_mb=megabytes.get(one.name, one.memory_mb)) for one in self.measurements]
        return replace(self, measurements=known)

    def find(self, name: str) -> Measurement | None:
        """The measurement of that name, if there is one."""
        return next((one for one in self.measurements if one.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """As in ``bench.json``."""
        return {
            "parameters": dict(self.parameters),
            "unit": self.unit,
            "base": self.base,
            "measurements": [measurement.to_json() for measurement in self.measurements],
            "cannot_run": dict(self.refused),
        }


def conclude(case: Case, seconds: Mapping[str, Sequence[float]]) -> CaseResult:
    """From the seconds per unit of each variant, one a round, to ratios, rates and shares of the matrix products' rate."""
    rates = {v.name: v.flops / v.units / spread(seconds[v.name]).median for v in case.variants if v.flops}
    base = seconds.get(case.base)
    measurements = [
        Measurement(
            name=v.name,
            seconds=seconds[v.name],
            ratios=[mine / its for mine, its in zip(seconds[v.name], base, strict=False)] if base else (),
            flops=v.flops / v.units,
            share=rates[v.name] / rates[GEMM] if v.name in rates and GEMM in rates else None,
            note=v.note,
        )
        for v in case.variants
    ]
    return CaseResult(
        parameters=case.parameters, unit=case.unit, base=case.base, measurements=measurements, refused=case.refused
    )


def difference(result: CaseResult, name: str, whole: str, rest: str, *, flops: float = 0.0, note: str = "") -> CaseResult:
    """``result`` with one more measurement: ``whole`` less ``rest``, round by round. Unchanged if one of them is missing.

    ``flops`` per unit are those of the difference.
    """
    found, less, base = result.find(whole), result.find(rest), result.find(result.base)
    if found is None or less is None:
        return result
    seconds = [a - b for a, b in zip(found.seconds, less.seconds, strict=True)]
    roof, rate = result.find(GEMM), spread(seconds).median
    measurement = Measurement(
        name=name,
        seconds=seconds,
        ratios=[mine / its for mine, its in zip(seconds, base.seconds, strict=True)] if base else (),
        flops=flops,
        share=flops / rate / 1e9 / roof.gflops if flops and rate > 0 and roof and roof.gflops else None,
        note=note,
    )
    return replace(result, measurements=[*result.measurements, measurement])


class Plan(NamedTuple):
    """A case yet to be made: its memory is held only while it is measured."""

    label: str
    measure: Callable[[Timer], CaseResult]


class Cases(Protocol):
    """The cases of a row under some settings, smallest first."""

    def __call__(self, settings: Settings) -> list[Plan]: ...


@dataclass(frozen=True, kw_only=True)
class Row:
    """A question of the bench: ``title`` in a few words, ``purpose`` in a sentence or two for help and report.

    ``conclude`` turns the results of all its cases into sentences, such as a fitted exponent. ``headline``: the values of
    sizes whose cases the terminal shows; the report has all.
    """

    name: str
    title: str
    purpose: str
    cases: Cases
    conclude: Callable[[Sequence[CaseResult]], list[str]] | None = None
    headline: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """What came out of a row, ``findings`` being sentences about all of it; ``seconds`` is what it took."""

    row: Row
    cases: Sequence[CaseResult]
    findings: Sequence[str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As in ``bench.json``."""
        return {
            "name": self.row.name,
            "title": self.row.title,
            "purpose": self.row.purpose,
            "cases": [case.to_json() for case in self.cases],
            "findings": list(self.findings),
            "seconds": self.seconds,
        }
