"""Credit on microstates: what the chain's VJP leaves where it was reminded, for replay to take up."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .summing import sum_by_slot


class Credits(NamedTuple):
    """What the chain's VJP leaves for the microstates it read.

    ``credit`` (B, S, n): dL/dm_i summed over the chain's recalls. ``weight`` (B, S): the greatest recall weight it had in
    the chain, ``position`` (B, S): the ring position of that recall.
    """

    credit: Tensor
    weight: Tensor
    position: Tensor


def land(slot: Tensor, dm: Tensor, weight: Tensor, *, slots: int, first: int) -> Credits:
    """Sums the credits ``dm`` (T, B, K, n) of the recalls of T steps, the first at ring position ``first``, by slot.

    ``slot`` (T, B, K) int64: from which each came, ``slots`` if its microstate is held no more; ``weight`` (T, B, K).
    """
    steps, streams, _ = slot.shape
    credit = sum_by_slot(slot, dm, slots + 1)
    dense = weight.new_full((steps, streams, slots + 1), -1.0)  # below any weight: not recalled at that step
    best, when = dense.scatter_(2, slot, weight)[:, :, :slots].max(0)
    return Credits(credit[:, :slots], best, when + first)
