"""Full backpropagation through time over whole sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from ._base import CreditRule
from .tbptt import TBPTT


@dataclass(frozen=True, kw_only=True)
class BPTT(TBPTT):
    """One update per sequence of ``length`` steps, credit through all of it; memory grows with ``length``.

    Streams must begin their sequences together. Raises ConfigError: if ``length`` is missing, as for an endless stream.
    """

    name: ClassVar[str] = "bptt"
    whole_sequences: ClassVar[bool] = True
    length: int | None = None

    def __post_init__(self) -> None:
        if self.length is None:
            raise ConfigError("credit = 'bptt' needs the sequence's length: an endless stream cannot be unrolled")
        if self.length < 1:
            raise ConfigError(f"length = {self.length}: must be at least 1")
        object.__setattr__(self, "k_trunc", self.length)
        object.__setattr__(self, "update_every", self.length)
        CreditRule.__post_init__(self)
