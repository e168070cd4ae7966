"""A power law through measured points: the slope of a straight line in logarithms, with its standard error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Exponent(NamedTuple):
    """y grows as x^value; ``error`` is the standard error of the least-squares slope, NaN for two points."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"({self.value:.2f} ± {self.error:.2f})" if np.isfinite(self.error) else f"{self.value:.2f}"


def exponent(points: Sequence[tuple[float, float]]) -> Exponent:
    """Fits log y = value log x + constant to points (x, y), all of them positive.

    Raises ValueError: for fewer than two different x, or a number that has no logarithm.
    """
    x, y = np.asarray(points, dtype=float).reshape(-1, 2).T
    if len(set(x)) < 2:
        raise ValueError("an exponent needs at least two different x")
    if min(x.min(), y.min()) <= 0:
        raise ValueError("an exponent needs positive numbers")
    design = np.stack([np.log(x), np.ones_like(x)], axis=1)
    solution, *_ = np.linalg.lstsq(design, np.log(y), rcond=None)
    if len(x) == 2:
        return Exponent(float(solution[0]), float("nan"))
    residual = np.log(y) - design @ solution
    variance = float(residual @ residual) / (len(x) - 2) * np.linalg.inv(design.T @ design)[0, 0]
    return Exponent(float(solution[0]), float(np.sqrt(variance)))
