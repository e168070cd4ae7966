"""Recurrence with self-attention, learned by backpropagation through whole sequences (Kerg et al. 2020, arXiv 2006.09471).

These are the settings; `sabsim.attentive.AttentiveLearner` does what they say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from ..macrostate import Macrostate
from ..replay import Replay, ReplayEvents
from ..window import Window
from ._base import CreditRule


@dataclass(frozen=True, kw_only=True)
class FullAttention(CreditRule):
    """Softmax attention over all states of the sequence, credit through all of it (MemLSTM, MemRNN).

    One update per sequence of ``length`` steps; memory grows with ``length``, work with its square. Streams must begin
    their sequences together. Raises ConfigError: if ``length`` is missing, as for an endless stream, or below 1.
    """

    name: ClassVar[str] = "full-attention"
    whole_sequences: ClassVar[bool] = True
    attends: ClassVar[bool] = True
    keeps: ClassVar[str | None] = "all"
    length: int | None = None

    def __post_init__(self) -> None:
        if self.length is None:
            raise ConfigError(
                f"credit = {self.name!r} needs the sequence's length: it learns at the end of whole sequences, "
                "an endless stream has none"
            )
        if self.length < 1:
            raise ConfigError(f"length = {self.length}: must be at least 1")
        object.__setattr__(self, "k_trunc", self.length)
        super().__post_init__()

    def backward(self, window: Window, memory: Macrostate | None, replay: Replay | None) -> ReplayEvents | None:
        """Not with a window: raises ConfigError."""
        raise ConfigError(f"credit = {self.name!r}: has no window; use an AttentiveLearner in place of a StreamingLearner")


@dataclass(frozen=True, kw_only=True)
class ScreenedAttention(FullAttention):
    """Softmax attention over a short-term buffer and a relevant set, of bounded size (RelLSTM, RelRNN), credit likewise.

    How many states each holds is said by retention `relevancy`: ``slots`` = nu + rho, ``buffer`` = nu. Credit still goes
    through the whole sequence, so learning needs memory that grows with ``length``; playing does not.
    """

    name: ClassVar[str] = "screened-attention"
    keeps: ClassVar[str | None] = "relevancy"
