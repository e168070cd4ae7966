"""What the oracle remembers of its streams: everything that has happened, in lists."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Moment:
    """One step of one stream as it happened."""

    observation: Tensor  # x itself without an encoder
    x: Tensor  # (d_in,)
    h_before: Tensor  # (n,) state the cell read
    c_before: Tensor  # (n,)
    first: bool  # begins a sequence
    local: int  # step within the sequence, from 0
    held: list[tuple[int, int]]  # (slot, source step) of every occupied slot
    s: Tensor  # (n,) summary
    m: Tensor  # (n,) the microstate this step would be stored as
    a_tilde: Tensor  # (slots,) recall weights
    temperature: float  # of recall
    mask: Tensor | None  # (w,) what the readout's input is multiplied by
    carried: Tensor | None  # (n,) what h is multiplied by on its way into the next step
    dL_dy: Tensor | None = None  # (d_out,)

    def carry(self, h: Tensor) -> Tensor:
        """What the next step sees of `h`, shape `(n,)` both."""
        return h if self.carried is None else h * self.carried


@dataclass
class StreamHistory:
    """One stream: where its state is now and everything that happened."""

    h: Tensor
    c: Tensor
    first: bool = True
    local: int = 0
    moments: list[Moment] = field(default_factory=list)
