"""No credit to the past at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .tbptt import TBPTT


@dataclass(frozen=True, kw_only=True)
class Immediate(TBPTT):
    """Every state before the current step is a constant: truncation after a single step."""

    name: ClassVar[str] = "none"
    k_trunc: int = 1
