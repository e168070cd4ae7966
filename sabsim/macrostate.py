"""The macrostate: a bounded memory of microstates per stream, and what each keeps so that credit can be replayed.

A microstate is a *value* m (read by attention) and a *segment* (for local backtracking): the state before its last
``k_trunc`` steps, and those steps' inputs and summaries as constants. Every array has one slot more than the memory
holds: the spare slot, index ``slots``, takes writes that retention refused, so that shapes never depend on data.

Shapes: B streams, S slots, k = k_trunc, d = d_in, n hidden units. Memory is O(S k (n + d)) per stream and constant; with
an encoder before the cell a segment also has its observations, k times the numbers of one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .retention import Retention


class Offer(NamedTuple):
    """Microstates offered by a finished block, ``C`` of them per stream, stream-major.

    ``m`` (B, C, n); ``segment`` (B, C, k, d+n): the first entry of a segment is [x ; h] before its first step, the others
    [x_j ; s_{j-1}]; ``c`` (B, C, n or 0) the cell state there; ``length`` (B, C) its steps (the last of the k);
    ``birth`` (B, C) global step; ``score`` (B, C) float64, -inf where nothing is offered; ``observation``
    (B, C, k, numbers), of the segment's steps, where there is an encoder; ``carried`` (B, C, n), what h is multiplied by on
    its way from each of these steps into the next, where there is recurrent dropout.
    """

    m: Tensor
    segment: Tensor
    c: Tensor
    length: Tensor
    birth: Tensor
    score: Tensor
    observation: Tensor | None = None
    carried: Tensor | None = None


class Macrostate:
    """``slots`` microstates for each of ``streams`` streams.

    Args: ``width_c`` is n if the cell has a cell state, else 0; ``like`` gives dtype and device; ``raw`` (numbers,) is an
    observation, where those of the segments are kept for an encoder; ``carries`` says whether what is carried of h is kept.
    """

    def __init__(
        self,
        *,
        streams: int,
        slots: int,
        d_in: int,
        hidden: int,
        width_c: int,
        k_trunc: int,
        like: Tensor,
        raw: Tensor | None = None,
        carries: bool = False,
    ) -> None:
        rows = streams * (slots + 1)
        long: dict[str, Any] = {"dtype": torch.int64, "device": like.device}
        self.streams, self.slots = streams, slots
        self.arrays: dict[str, Tensor] = {
            "m": like.new_zeros(rows, hidden),
            "segment": like.new_zeros(rows, k_trunc, d_in + hidden),
            "c": like.new_zeros(rows, width_c),
            "length": torch.full((rows,), k_trunc, **long),
            "stamp": torch.full((rows,), -1, **long),
            "score": torch.full((rows,), -torch.inf, dtype=torch.float64, device=like.device),
            "empty": torch.ones(rows, dtype=torch.bool, device=like.device),
            "refused": torch.zeros((), **long),
        }
        if raw is not None:
            self.arrays["observation"] = raw.new_zeros(rows, k_trunc, raw.numel())
        if carries:
            self.arrays["carried"] = like.new_ones(rows, hidden)
        self._blank = {"length": k_trunc, "stamp": -1, "score": -torch.inf, "empty": True}  # elsewhere 0
        self.base = torch.arange(streams, **long).unsqueeze(1) * (slots + 1)

    def _slots(self, name: str) -> Tensor:
        array = self.arrays[name]
        return array.view(self.streams, self.slots + 1, *array.shape[1:])[:, : self.slots]

    @property
    def m(self) -> Tensor:
        """Remembered values, ``(streams, slots, n)``; what an unoccupied slot holds means nothing."""
        return self._slots("m")

    @property
    def occupied(self) -> Tensor:
        """Which slots can be read, ``(streams, slots)`` bool."""
        return ~self._slots("empty")

    @property
    def birth(self) -> Tensor:
        """Global step at which each microstate was formed, ``(streams, slots)`` int64; -1 where nothing can be read."""
        return torch.where(self.occupied, self._slots("stamp"), -1)

    @property
    def nbytes(self) -> int:
        """Bytes held by the macrostate of all streams."""
        return sum(array.numel() * array.element_size() for array in self.arrays.values())

    def rows(self, index: Tensor) -> Tensor:
        """Slots ``(B, K)`` -> rows of the flat arrays, ``(B, K)``."""
        return index + self.base

    def clear(self, done: Tensor) -> None:
        """Makes every slot of the streams in ``done`` (B,) unreadable; contents stay for credit still under way."""
        self._slots("empty").logical_or_(done.unsqueeze(1))
        self._slots("score").masked_fill_(done.unsqueeze(1), -torch.inf)

    def accrue(self, weight: Tensor, young_after: Tensor) -> None:
        """Adds recall weights (B, S) to the scores of microstates born after global step ``young_after``, 0-d int64."""
        young = (self._slots("stamp") > young_after) & self.occupied
        self._slots("score").add_(torch.where(young, weight.double(), 0.0))

    def offer(self, offer: Offer, retention: Retention, now: Tensor, k_att: int) -> None:
        """Merges the offered microstates: the ``slots`` of highest score stay, the newest ``protect`` are safe.

        Slots by rising score meet offers by falling score, and each pair is exchanged where the offer is higher; this
        leaves exactly the best of both. Of equal scores the newest goes. ``now``, 0-d int64: the block's last step.
        """
        safe_after = now - retention.protected * k_att
        old = torch.where(self.occupied, self._shield("stamp", safe_after), -torch.inf)
        by_age = self.birth.argsort(dim=1, descending=True, stable=True)
        lowest = by_age.gather(1, old.gather(1, by_age).argsort(dim=1, stable=True))
        newcomers = torch.where(torch.isfinite(offer.score) & (offer.birth > safe_after), torch.inf, offer.score)
        new, order = newcomers.sort(dim=1, descending=True, stable=True)
        pairs = min(self.slots, new.shape[1])
        target, new, order = lowest[:, :pairs], new[:, :pairs], order[:, :pairs]
        accept = new > old.gather(1, target)
        self.arrays["refused"].add_(torch.isfinite(offer.score).sum() - accept.sum())
        self._write(offer, order, torch.where(accept, target, self.slots), accept)

    def _shield(self, name: str, safe_after: Tensor) -> Tensor:
        return torch.where(self._slots(name) > safe_after, torch.inf, self._slots("score"))

    def _write(self, offer: Offer, order: Tensor, target: Tensor, accept: Tensor) -> None:
        source = (order + torch.arange(order.shape[0], device=order.device).unsqueeze(1) * offer.m.shape[1]).flatten()
        rows, flags = self.rows(target).flatten(), accept.flatten()
        if rows.device.type == "cpu":  # on the CPU copy only what is kept; a captured graph needs fixed shapes
            kept = flags.nonzero().squeeze(1)
            source, rows, flags = source[kept], rows[kept], flags[kept]
        for name in ("m", "segment", "c", "length", "birth", "score", "observation", "carried"):
            if (offered := getattr(offer, name)) is not None:
                values = offered.flatten(0, 1).index_select(0, source)
                self.arrays["stamp" if name == "birth" else name].index_copy_(0, rows, values)
        self.arrays["empty"].index_copy_(0, rows, ~flags)

    def settle(self) -> None:
        """Empties the spare slot: in which order refused writes came, and so what it holds, is not the same twice."""
        for name, array in self.arrays.items():
            if array.dim():
                array.view(self.streams, self.slots + 1, *array.shape[1:])[:, self.slots] = self._blank.get(name, 0)

    def state_dict(self) -> dict[str, Tensor]:
        """Every array, by name."""
        return {name: array.clone() for name, array in self.arrays.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores every array in place."""
        for name, array in self.arrays.items():
            array.copy_(state[name])
