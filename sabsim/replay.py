"""Replay: credit that recall laid on a microstate is backpropagated through the few steps that led to it.

The segments of all streams and slots are one batch. Each is run again with today's parameters from the stored state
before it, with the stored inputs and summaries as constants, and its VJP is taken. VJPs are linear, so all credit on one
microstate is summed before its segment is replayed, once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .encoder import Encoding
from .macrostate import Macrostate
from .network import Parameters
from .window import Credits


class ReplayEvents(NamedTuple):
    """Replays of one update, R per stream; every field has shape ``(streams, R)``.

    ``step``: global step of the recall with the greatest weight in the chain; ``source_step``: when the microstate was
    formed; ``lag``: their difference; ``weight``: that recall weight; ``credit``: |dL/dm_i|, the L2 norm; ``loss``: the
    learning signal's loss at ``step``; ``replayed_steps``: length of the segment; ``valid``: False for an unused place.
    """

    step: Tensor
    source_step: Tensor
    lag: Tensor
    weight: Tensor
    credit: Tensor
    loss: Tensor
    replayed_steps: Tensor
    valid: Tensor


class Replay:
    """Replays at most ``budget`` segments per stream and update, those of greatest credit norm.

    Credits below ``negligible`` times the update's greatest are dropped: most moments of most streams have nothing to
    tell the past, and a segment costs k_trunc steps however small the credit it carries.

    ``encoding``: where segments have their inputs from, and their credit goes to, if there is an encoder before the cell.
    """

    def __init__(
        self, parameters: Parameters, *, streams: int, budget: int, k_trunc: int, negligible: float
    ) -> None:
        self.parameters, self.budget, self.k_trunc = parameters, budget, k_trunc
        self.negligible = negligible
        self.encoding: Encoding | None = None
        rows, like = streams * budget, parameters.flat
        n, d = parameters.network.hidden, parameters.network.d_in
        self.tape = parameters.cell.tape(k_trunc, rows, like)
        self.xh = like.new_zeros(k_trunc, rows, d + n)
        self.h_hat = like.new_zeros(rows, n)
        self.c = like.new_zeros(k_trunc + 1, rows, n if parameters.cell.has_c else 0)

    def choose(self, credits: Credits) -> tuple[Tensor, Tensor]:
        """The slots of greatest credit norm and those norms, each ``(B, budget)``, greatest first; 0: not replayed."""
        norm, slot = torch.linalg.vector_norm(credits.credit, dim=2).topk(self.budget, dim=1)
        return slot, torch.where(norm >= self.negligible * norm.max(), norm, 0.0)

    def backward(self, credits: Credits, slot: Tensor, norm: Tensor, memory: Macrostate) -> Tensor:
        """Adds the gradient of the chosen segments; returns the lengths of the segments, ``(B, budget)``."""
        rows = memory.rows(slot).flatten()
        credit = credits.credit.gather(1, slot.unsqueeze(2).expand(-1, -1, credits.credit.shape[2])).flatten(0, 1)
        length = memory.arrays["length"].index_select(0, rows)
        used = norm.flatten() > 0
        credit = torch.where(used.unsqueeze(1), credit, 0.0)
        if rows.device.type == "cpu":  # a captured graph needs fixed shapes; here segments without credit are skipped
            chosen = used.nonzero().squeeze(1)
            rows, credit = rows[chosen], credit[chosen]
        if rows.numel():
            self._segments(rows, credit, memory)
        return length.view_as(slot)

    def _segments(self, rows: Tensor, credit: Tensor, memory: Macrostate) -> None:
        p, cell, k = self.parameters, self.parameters.cell, self.k_trunc
        value, count, d = p.value["cell"], rows.numel(), p.network.d_in
        tape = {name: buffer[:, :count] for name, buffer in self.tape.items()}
        places = cell.places(tape)
        xh, c, h_hat = self.xh[:, :count], self.c[:, :count], self.h_hat[:count]
        xh.copy_(memory.arrays["segment"].index_select(0, rows).transpose(0, 1))
        if self.encoding is not None:
            xh[..., :d] = self.encoding.again(memory.arrays["observation"].index_select(0, rows))
        c[0] = memory.arrays["c"].index_select(0, rows)
        start = k - memory.arrays["length"].index_select(0, rows)
        # A segment shorter than k_trunc begins with its sequence: whatever came before is cut off at that step.
        keep = (torch.arange(k, device=rows.device).unsqueeze(1) != start).to(xh.dtype).unsqueeze(2)
        keep[0] = 1
        for t in range(k):
            if t:
                xh[t, :, d:].add_(h_hat)
                xh[t, :, d:].mul_(keep[t])
                c[t].mul_(keep[t])
            cell.step(value, xh[t], c[t], places[t], h_hat, c[t + 1])
        local = cell.prepare(tape, xh, c[:k], 0, k)
        dh, dc = credit, torch.zeros_like(c[0]) if cell.has_c else None
        for t in range(k - 1, -1, -1):
            dh, dc = cell.vjp(value, local, t, dh, dc)
            dh = dh.mul_(keep[t])
            dc = None if dc is None else dc.mul_(keep[t])
        cell.accumulate(p.gradient["cell"], local, xh)
        if self.encoding is not None:
            cell.input_credit(value, local, self.encoding.segment_credit(count))
