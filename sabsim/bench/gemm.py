"""Row 1: the machine's rate of matrix products at the sizes used, the roof under which everything else stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from .case import GEMM, Case, CaseResult, Plan, Row
from .flops import gemm, lstm_products, total
from .settings import Settings
from .timing import Timer

D_IN = 16
STEPS = 5
_PARTS = ("forward: [x ; h] W^T", "back: dL/d(gates) W_h", "gradient: dL/d(gates)^T [x ; h]")


def cases(settings: Settings) -> list[Plan]:
    """One case for each number of rows and units."""
    return [
        Plan(f"{rows} rows, n = {n}", partial(_measure, settings, rows, n))
        for n in settings.pick((64, 128, 256), (64,))
        for rows in settings.pick((1, 20, 160, 800), (1, 20), on_gpu=(8_192,))
    ]


def _measure(settings: Settings, rows: int, n: int, timer: Timer) -> CaseResult:
    products = lstm_products(rows, STEPS, n, D_IN)
    variants = [gemm(products, units=rows * STEPS, device=settings.device, note="all three, as often as in 5 steps")]
    for part, product in zip(_PARTS, products, strict=True):
        alone = gemm([product], units=rows * STEPS, device=settings.device)
        shape = f"({product.m}, {product.k}) x ({product.k}, {product.n})"
        variants.append(replace(alone, name=part, flops=total([product]), note=shape))
    return timer.compare(
        Case(parameters={"rows": rows, "n": n, "steps": STEPS}, unit="row-step", base=GEMM, variants=variants)
    )


def fastest(results: Sequence[CaseResult]) -> list[str]:
    """The roof, in a sentence."""
    rates = [(one.gflops or 0.0, one.name, case.parameters) for case in results for one in case.measurements]
    rate, name, parameters = max(rates, key=lambda each: each[0])
    at = ", ".join(f"{key} = {value}" for key, value in parameters.items())
    return [f"The highest rate of matrix products met is {rate:.1f} GFLOP/s ({name}; {at}; float32)."]


ROW = Row(
    name="gemm",
    title="rate of matrix products",
    purpose="torch.mm alone at the shapes of an LSTM's gates (input 16, 5 steps), in GFLOP/s: the roof. Every other row "
    "measures the same products beside its variants, and a variant's share is its rate over theirs.",
    cases=cases,
    conclude=fastest,
    headline={"n": (128,)},
)
