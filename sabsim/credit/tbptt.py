"""Truncated backpropagation through time: the same learner without recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from ..macrostate import Macrostate
from ..replay import Replay, ReplayEvents
from ..window import Window
from ._base import CreditRule


@dataclass(frozen=True, kw_only=True)
class TBPTT(CreditRule):
    """Credit flows at most ``k_trunc`` steps back (Williams & Peng 1990); one update every ``update_every`` steps.

    ``update_every`` None: k_trunc, windows that do not overlap. Raises ConfigError: if it is not in 1 .. k_trunc.
    """

    name: ClassVar[str] = "tbptt"
    k_trunc: int = 20
    update_every: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.block <= self.k_trunc:
            raise ConfigError(f"update_every = {self.update_every}: must be between 1 and k_trunc = {self.k_trunc}")

    @property
    def block(self) -> int:
        return self.k_trunc if self.update_every is None else self.update_every

    def backward(self, window: Window, memory: Macrostate | None, replay: Replay | None) -> ReplayEvents | None:
        window.backward(None)
        return None
