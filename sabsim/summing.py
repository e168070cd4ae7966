"""Sums into places that an index names, the same bit for bit every time.

On the CPU ``index_add_`` adds in order. On a CUDA device it adds by atomic operations, in whatever order they come, and a
run would not be the same twice; there the sum is a matrix product with a matrix of zeros and ones.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sum_by_slot(slot: Tensor, values: Tensor, slots: int) -> Tensor:
    """Of each stream the sums of ``values`` (T, B, K, n) over all that have the same slot: ``(B, slots, n)``.

    ``slot`` (T, B, K) int64, 0 .. ``slots`` - 1.
    """
    streams, n = slot.shape[1], values.shape[3]
    if values.device.type == "cpu":
        rows = slot + torch.arange(streams).unsqueeze(1) * slots
        sums = values.new_zeros(streams * slots, n)
        return sums.index_add_(0, rows.flatten(), values.flatten(0, 2)).view(streams, slots, n)
    return torch.bmm(one_hot(slot.transpose(0, 1).flatten(1), slots, values.dtype), values.transpose(0, 1).flatten(1, 2))


def one_hot(slot: Tensor, slots: int, dtype: torch.dtype) -> Tensor:
    """``slot`` (B, N) -> ``(B, slots, N)``, 1 where the N-th is that slot, else 0."""
    return (slot.unsqueeze(1) == torch.arange(slots, device=slot.device).unsqueeze(1)).to(dtype)
