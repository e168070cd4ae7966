"""All rows in their order, and how one is measured."""

from __future__ import annotations

import time
from typing import Protocol

from ..errors import SabsimError
from . import cell, endless, gemm, growth, optimizer, peers, recall, rivals, scale, threads, window
from .case import CaseResult, Plan, Row, RowResult
from .settings import Settings

ROWS: dict[str, Row] = {
    each.ROW.name: each.ROW
    for each in (gemm, cell, window, optimizer, recall, endless, peers, growth, scale, rivals, threads)
}
"""By name."""


class Watcher(Protocol):
    """Is told how a row goes on."""

    def case(self, row: Row, label: str, done: int, cases: int) -> None:
        """A case begins, ``done`` others of ``cases`` being behind."""


def measure_row(row: Row, settings: Settings, watcher: Watcher | None = None) -> RowResult:
    """All cases of a row. One that cannot run, or for which memory is too small, is kept with the reason."""
    begun, timer, results = time.perf_counter(), settings.timer(), list[CaseResult]()
    plans = row.cases(settings)
    for done, plan in enumerate(plans):
        if watcher is not None:
            watcher.case(row, plan.label, done, len(plans))
        try:
            results.append(plan.measure(timer))
        except SabsimError as error:
            results.append(_not_run(plan, str(error)))
        except (MemoryError, RuntimeError) as error:
            # torch has no class of its own for a CPU allocation that fails.
            if not isinstance(error, MemoryError) and "memory" not in str(error):
                raise
            results.append(_not_run(plan, "there is not enough memory"))
    measured = [result for result in results if result.measurements]
    findings = row.conclude(measured) if row.conclude is not None and measured else []
    return RowResult(row=row, cases=results, findings=findings, seconds=time.perf_counter() - begun)


def _not_run(plan: Plan, reason: str) -> CaseResult:
    return CaseResult(
        parameters={"case": plan.label}, unit="", base="", measurements=(), refused={"the whole case": reason}
    )
