"""No credit to the past at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from ..macrostate import Macrostate
from ..replay import Replay, ReplayEvents
from ..window import Window
from .tbptt import TBPTT


@dataclass(frozen=True, kw_only=True)
class Immediate(TBPTT):
    """Every state before the current step is a constant: truncation after a single step, states carried forward.

    One update every ``update_every`` steps, by default every step; ``k_trunc`` becomes as many, the steps the window holds,
    but none of them gives credit to the one before.

    Raises ConfigError: if ``k_trunc`` is given and neither 1 nor ``update_every``, or ``update_every`` is below 1.
    """

    name: ClassVar[str] = "none"
    k_trunc: int = 1

    def __post_init__(self) -> None:
        block = 1 if self.update_every is None else self.update_every
        if self.k_trunc not in (1, block):
            raise ConfigError(f"k_trunc = {self.k_trunc}: credit 'none' is truncation after 1 step; use tbptt for more")
        if block < 1:
            raise ConfigError(f"update_every = {block}: must be at least 1")
        object.__setattr__(self, "k_trunc", block)
        super().__post_init__()

    def backward(self, window: Window, memory: Macrostate | None, replay: Replay | None) -> ReplayEvents | None:
        # As if each step began a sequence; the block's end, where the next one goes on, is not among them.
        window.rings["keep"][window.history : window.end] = 0
        return super().backward(window, memory, replay)
