"""Only the present observation counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .tbptt import TBPTT


@dataclass(frozen=True, kw_only=True)
class Memoryless(TBPTT):
    """Every step starts from h = c = 0, so the cell is a feed-forward network of the present x; nothing is remembered.

    One update every ``update_every`` steps, by default ``k_trunc``, which becomes as many: the steps the window holds.
    W_h is multiplied with zeros, and so is the LSTM's forget gate: their gradients are 0 and they stay as they were drawn.

    Raises ConfigError: if ``update_every`` is not in 1 .. k_trunc.
    """

    name: ClassVar[str] = "memoryless"
    forgets: ClassVar[bool] = True
    k_trunc: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        # The window holds no steps before its block, so no credit crosses from one block to another.
        object.__setattr__(self, "k_trunc", self.block)
