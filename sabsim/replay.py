"""Replay: credit that recall laid on a microstate is backpropagated through the few steps that led to it.

The segments of all streams and slots are one batch. Each is run again with today's parameters from the stored state
before it, with the stored inputs and summaries as constants, and its VJP is taken. VJPs are linear, so all credit on one
microstate is summed before its segment is replayed, once.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from .cells import Local
from .credits import Credits
from .encoder import Encoding
from .macrostate import Macrostate
from .network import Parameters
from .window import Window

USUAL_UPDATES = 1000
"""Updates over which the mean square of credits runs that the threshold is a multiple of."""


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


class Segments:
    """Room for ``rows`` segments at once: ``run`` runs them again with today's parameters, ``back`` walks them back.

    Between a ``run`` and its ``back`` nothing else may use the room.
    """

    def __init__(self, parameters: Parameters, *, rows: int, k_trunc: int) -> None:
        self.parameters, self.k_trunc = parameters, k_trunc
        like, n, d = parameters.flat, parameters.network.hidden, parameters.network.d_in
        self.tape = parameters.cell.tape(k_trunc, rows, like)
        self.xh = like.new_zeros(k_trunc, rows, d + n)
        self.h_hat = like.new_zeros(k_trunc, rows, n)
        self.c = like.new_zeros(k_trunc + 1, rows, n if parameters.cell.has_c else 0)
        self._run: tuple[Local, Tensor, Tensor, int] | None = None

    def run(
        self, segment: Tensor, c: Tensor, length: Tensor, x: Tensor | None = None, carried: Tensor | None = None
    ) -> Tensor:
        """Runs ``count`` segments; returns h_hat after each of their steps, ``(k_trunc, count, n)``.

        Args: ``segment`` (count, k_trunc, d+n), ``c`` (count, n or 0) and ``length`` (count,) as in ``Offer``; ``x``
        (k_trunc, count, d): inputs to take instead of the segments' own; ``carried`` (count, n): what h is multiplied by on
        its way into the next step. Steps before a segment's first mean nothing.
        """
        p, cell, k = self.parameters, self.parameters.cell, self.k_trunc
        count, d = segment.shape[0], p.network.d_in
        tape = {name: buffer[:, :count] for name, buffer in self.tape.items()}
        places, xh, cells, h_hat = cell.places(tape), self.xh[:, :count], self.c[:, :count], self.h_hat[:, :count]
        xh.copy_(segment.transpose(0, 1))
        if x is not None:
            xh[..., :d] = x
        cells[0] = c
        # A segment shorter than k_trunc begins with its sequence: whatever came before is cut off at that step.
        keep = (torch.arange(k, device=length.device).unsqueeze(1) != k - length).to(xh.dtype).unsqueeze(2)
        keep[0] = 1
        keep_h = keep if carried is None else keep * carried
        for t in range(k):
            if t:
                xh[t, :, d:].add_(h_hat[t - 1])
                xh[t, :, d:].mul_(keep_h[t])
                cells[t].mul_(keep[t])
            cell.step(p.value["cell"], xh[t], cells[t], places[t], h_hat[t], cells[t + 1])
        self._run = cell.prepare(tape, xh, cells[:k], 0, k), keep, keep_h, count
        return h_hat

    def back(self, last: Tensor, earlier: Tensor | None = None, input_credit: Tensor | None = None) -> None:
        """Adds the gradient of the cell's parameters for credit on h_hat of the segments that were run.

        Args: ``last`` (count, n), the credit on their last h_hat; ``earlier`` (k_trunc - 1, count, n), on those before, 0
        before a segment's first step; ``input_credit`` (k_trunc, count, d): where the credit on their inputs is written.
        """
        assert self._run is not None
        p, cell, k = self.parameters, self.parameters.cell, self.k_trunc
        local, keep, keep_h, count = self._run
        value = p.value["cell"]
        dh, dc = last, torch.zeros_like(self.c[0, :count]) if cell.has_c else None
        for t in range(k - 1, -1, -1):
            if earlier is not None and t < k - 1:
                dh = dh + earlier[t]
            dh, dc = cell.vjp(value, local, t, dh, dc)
            dh = dh.mul_(keep_h[t])
            dc = None if dc is None else dc.mul_(keep[t])
        cell.accumulate(p.gradient["cell"], local, self.xh[:, :count])
        if input_credit is not None:
            cell.input_credit(value, local, input_credit)


class Replay:
    """Replays at most ``budget`` segments per stream and update, those of greatest credit norm.

    Credits below ``negligible`` times the update's greatest are dropped: most moments of most streams have nothing to
    tell the past, and a segment costs k_trunc steps however small the credit it carries.

    ``threshold``: a chosen credit is dropped unless it is at least this multiple of the usual one, the root of a running
    mean, over updates, of the mean over streams of the greatest squared norm; 0 drops nothing.

    ``share``: of the ``budget`` of all streams together at most this part is replayed, the greatest credits. Where signals
    are rare few streams have any at a time, and a captured graph replays as many segments as it has room for.

    ``encoding``: where segments have their inputs from, and their credit goes to, if there is an encoder before the cell.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        streams: int,
        budget: int,
        k_trunc: int,
        negligible: float,
        threshold: float = 0.0,
        share: float = 1.0,
    ) -> None:
        # Rounded up, but not for what lies beyond the digits of a float (0.07 of 100 is 7).
        self.most = ceil(round(share * streams * budget, 9))
        self.parameters, self.budget, self.k_trunc = parameters, budget, k_trunc
        self.negligible, self.threshold = negligible, threshold
        # Mean square of the greatest credits, and the updates it is of, up to `USUAL_UPDATES`.
        self.usual = parameters.flat.new_zeros(2)
        self.encoding: Encoding | None = None
        self.segments = Segments(parameters, rows=streams * budget, k_trunc=k_trunc)

    def choose(self, credits: Credits) -> tuple[Tensor, Tensor]:
        """The slots of greatest credit norm and those norms, each ``(B, budget)``, greatest first; 0: not replayed."""
        norm, slot = torch.linalg.vector_norm(credits.credit, dim=2).topk(self.budget, dim=1)
        return slot, torch.where(norm >= self.negligible * norm.max(), norm, 0.0)

    def admit(self, norm: Tensor) -> Tensor:
        """The chosen norms ``(B, budget)``, 0 where the threshold or the share of all streams leaves them out.

        Afterwards what is usual follows them.
        """
        return self._greatest(self._above_threshold(norm))

    def _greatest(self, norm: Tensor) -> Tensor:
        if self.most >= norm.numel():
            return norm
        kept = torch.zeros_like(norm, dtype=torch.bool)
        kept.view(-1).index_fill_(0, norm.flatten().topk(self.most).indices, True)
        return torch.where(kept, norm, 0.0)

    def _above_threshold(self, norm: Tensor) -> Tensor:
        if not self.threshold:
            return norm
        square, updates = self.usual
        admitted = torch.where(norm >= self.threshold * square.sqrt(), norm, 0.0)
        updates.add_(1).clamp_(max=USUAL_UPDATES)
        square.lerp_(torch.nan_to_num(norm).max(dim=1).values.square().mean(), 1 / updates)
        return admitted

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
        elif self.most < rows.numel():
            chosen = norm.flatten().topk(self.most).indices
            rows, credit = rows[chosen], credit[chosen]
        if rows.numel():
            self._walk(rows, credit, memory)
        return length.view_as(slot)

    def describe(
        self, window: Window, memory: Macrostate, credits: Credits, slot: Tensor, norm: Tensor, length: Tensor
    ) -> ReplayEvents:
        """Describes the replays of one update; global steps are found from ring positions by the window's clock."""
        position = credits.position.gather(1, slot)
        step = position + window.origin
        source_step = memory.arrays["stamp"][memory.rows(slot)]
        loss = window.rings["loss"].gather(0, position.t()).t()
        return ReplayEvents(
            step=step,
            source_step=source_step,
            lag=step - source_step,
            weight=credits.weight.gather(1, slot),
            credit=norm,
            loss=loss,
            replayed_steps=length,
            valid=norm > 0,
        )

    def _walk(self, rows: Tensor, credit: Tensor, memory: Macrostate) -> None:
        arrays = memory.arrays
        segment, c, length = (arrays[name].index_select(0, rows) for name in ("segment", "c", "length"))
        carried = arrays["carried"].index_select(0, rows) if "carried" in arrays else None
        if self.encoding is None:
            self.segments.run(segment, c, length, carried=carried)
            self.segments.back(credit)
            return
        x = self.encoding.again(arrays["observation"].index_select(0, rows))
        self.segments.run(segment, c, length, x, carried)
        self.segments.back(credit, input_credit=self.encoding.segment_credit(rows.numel()))
