"""No credit to the past at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from .tbptt import TBPTT


@dataclass(frozen=True, kw_only=True)
class Immediate(TBPTT):
    """Every state before the current step is a constant: truncation after a single step.

    Raises ConfigError: if ``k_trunc`` is not 1.
    """

    name: ClassVar[str] = "none"
    k_trunc: int = 1

    def __post_init__(self) -> None:
        if self.k_trunc != 1:
            raise ConfigError(f"k_trunc = {self.k_trunc}: credit 'none' is truncation after 1 step; use tbptt for more")
        super().__post_init__()
