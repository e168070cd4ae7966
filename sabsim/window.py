"""The main chain: ring buffers of the last steps, the forward step that fills them, and the VJP of the window.

Positions count from 0 to L-1 with L = history + block. The block is the ``update_every`` steps whose losses the next
update uses; the history before it holds what the chain and the segments of new microstates still need. ``advance``
moves the block's end into the history.

Shapes: B streams, n hidden units, K reads a step, S slots, d = d_in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .credits import Credits, land
from .exploration import Exploration
from .macrostate import Macrostate
from .network import Parameters
from .rings import BEGINNINGS, make_rings, views_of
from .salience import Trace
from .sparsify import EMPTY, Recall, Sparsifier


class Window:
    """Ring buffers for ``streams`` streams: ``history`` steps before a block of ``block`` steps, chain of ``k_trunc``.

    ``sparsifier`` None: no recall. ``raw`` (numbers,): an observation, where observations are kept for an encoder.
    Everything is allocated here, once; the rings have one row more than steps, for ``peek`` at a block's end.

    ``carried`` (B, n): what h is multiplied by on its way into the next step, in steps that are learned from, as it is
    then; None: nothing.
    ``mask`` (B, w): what the readout's input is multiplied by in steps that are learned from, see ``drop``; None: nothing.
    ``input_credit``: where ``backward`` leaves the credit on the chain's inputs, ``(k_trunc, B, d_in)`` and contiguous;
    None: it is not computed.
    """

    def __init__(
        self,
        parameters: Parameters,
        sparsifier: Sparsifier | None,
        *,
        streams: int,
        slots: int,
        history: int,
        block: int,
        k_trunc: int,
        raw: Tensor | None = None,
        carried: Tensor | None = None,
    ) -> None:
        network = parameters.network
        self.parameters, self.sparsifier = parameters, sparsifier
        self.history, self.block, self.k_trunc = history, block, k_trunc
        self.d_in, self.n, self.slots = network.d_in, network.hidden, slots
        self.stores_h, self.feeds_h = network.stores == "h", network.feeds == "h"
        self.reads_weights = sparsifier is not None and network.readout == "weights"
        self.end = history + block
        self.input_credit: Tensor | None = None
        self.mask: Tensor | None = None
        self.carried = carried
        length, like = self.end + 1, parameters.flat
        self.rings = make_rings(
            parameters, sparsifier, length=length, streams=streams, raw=raw, carries=carried is not None
        )
        self.tape = parameters.cell.tape(length, streams, like)
        self._places = parameters.cell.places(self.tape)
        self.trace: Trace = {}
        if sparsifier is not None and parameters.salience is not None:
            self.trace = parameters.salience.trace(length, streams, sparsifier.reads, like)
        # Steps before the first one never happened: no credit may reach them, and the first state is zero.
        self.rings["keep"][: history + 1] = 0
        self.y = like.new_zeros(streams, network.d_out)
        self.y_block = like.new_zeros(block, streams, network.d_out)
        # Steps each stream has taken in its sequence; and of recall, what is constant within a block: see refresh.
        self.age = torch.zeros(streams, dtype=torch.int64, device=like.device)
        self.keys = self.gap = like.new_zeros(())
        self._readout_t = parameters.value["readout"]["W"].t()
        self._at = [views_of(self.rings, position, d_in=self.d_in) for position in range(length + 1)]
        # Global step of ring position 0. On the device, since a captured graph would hold a number of the host for ever.
        self.origin = torch.full((), -history, dtype=torch.int64, device=like.device)
        self._block_positions = torch.arange(history, self.end, device=like.device)

    @property
    def births(self) -> Tensor:
        """Global steps of the block, ``(block,)`` int64."""
        return self._block_positions + self.origin

    def drop(self, mask: Tensor) -> None:
        """Henceforth ``masked`` steps and the VJP multiply the readout's input by ``mask`` (B, w), as it is then."""
        self.mask = mask

    def refresh(self, memory: Macrostate | None) -> None:
        """Before a block: the memory's keys, and ``gap`` (B, S), 0 where a slot can be read, ``EMPTY`` elsewhere."""
        p = self.parameters
        if memory is None or p.salience is None:
            return
        self.keys = p.salience.keys(p.value["salience"], memory.m)
        self.gap = torch.where(memory.occupied, 0.0, EMPTY).to(p.flat.dtype)

    def step(
        self,
        position: int,
        x: Tensor,
        memory: Macrostate | None,
        exploration: Exploration | None = None,
        *,
        masked: bool = False,
    ) -> Tensor:
        """One forward step at ``position``: x (B, d_in) -> y (B, d_out), paper eq. 1-5.

        ``exploration``: divides the scores by its temperature, and adds its noise for the choice of what is read.
        ``masked``: the step is learned from; its readout reads what the mask leaves, the next step sees what is carried.
        """
        p, here, after = self.parameters, self._at[position], self._at[position + 1]
        h_hat, h = here["h_hat"], here["h"]
        here["x"].copy_(x)
        p.cell.step(p.value["cell"], here["xh"], here["c"], self._places[position], h_hat, after["c"])
        if memory is not None:
            s = self._recall(position, h_hat, memory, exploration)
            torch.add(h_hat, s, out=h)
        else:
            h.copy_(h_hat)
        after["h_prev"].copy_(h if self.feeds_h else h_hat)
        if self.carried is not None:
            after["carried"].copy_(self.carried) if masked else after["carried"].fill_(1)
            after["h_prev"].mul_(after["carried"])
        read = here["readout"] if self.mask is None or not masked else here["readout"] * self.mask
        torch.addmm(p.value["readout"]["b"], read, self._readout_t, out=self.y)
        here["local"].copy_(self.age)
        self.age.add_(1)
        return self.y

    def steps(
        self, x: Tensor, memory: Macrostate | None, exploration: Exploration | None = None, *, masked: bool = False
    ) -> Tensor:
        """The forward steps of a whole block, as ``step``: x (block, B, d_in) -> y (block, B, d_out)."""
        for t in range(self.block):
            self.y_block[t].copy_(self.step(self.history + t, x[t], memory, exploration, masked=masked))
        return self.y_block

    def peek(self, position: int, x: Tensor, memory: Macrostate | None) -> Tensor:
        """y (B, d_out) that a step at ``position`` would give, without exploration; the step itself is still to come."""
        # All that a step writes at its position is written again when it is taken, but for the steps counted.
        y = self.step(position, x, memory)
        self.age.sub_(1)
        return y

    def observe(self, position: int, observation: Tensor) -> None:
        """Keeps the observations (B, ...) of the step at ``position``."""
        self._at[position]["observation"].copy_(observation.flatten(1))

    def take(self, position: int, signal: Tensor, loss: Tensor | None) -> None:
        """The learning signal (B, d_out) of the step at ``position``; its loss (B,), by default the signal's norm."""
        here = self._at[position]
        here["signal"].copy_(signal)
        here["loss"].copy_(torch.linalg.vector_norm(signal, dim=1) if loss is None else loss)

    def take_block(self, signal: Tensor, loss: Tensor | None) -> None:
        """The learning signals (block, B, d_out) of the whole block; losses (block, B), by default the signals' norms."""
        block = slice(self.history, self.end)
        self.rings["signal"][block] = signal
        self.rings["loss"][block] = torch.linalg.vector_norm(signal, dim=2) if loss is None else loss

    def _recall(self, position: int, h_hat: Tensor, memory: Macrostate, exploration: Exploration | None) -> Tensor:
        p, here = self.parameters, self._at[position]
        assert p.salience is not None
        assert self.sparsifier is not None
        a = p.salience.score(p.value["salience"], self.keys, h_hat, self.trace, position)
        if exploration is None:
            recall = self.sparsifier.forward(a.add_(self.gap))
        else:
            sharpness = exploration.arrays["sharpness"]
            noise = exploration.noise(position - self.history)
            recall = self.sparsifier.draw(a.mul_(sharpness).add_(self.gap), noise, sharpness)
        rows = memory.rows(recall.slot).flatten()
        torch.index_select(memory.arrays["m"], 0, rows, out=here["m_flat"])
        torch.bmm(recall.weight.unsqueeze(1), here["m"], out=here["s_row"])
        here["index"].copy_(recall.slot)
        here["weight"].copy_(recall.weight)
        here["scale"].copy_(recall.scale)
        torch.index_select(memory.arrays["stamp"], 0, rows, out=here["stamp_flat"])
        here["stamp_flat"].masked_fill_(memory.arrays["empty"].index_select(0, rows), -1)
        s = here["s"]
        if self.reads_weights:
            here["second"].zero_().scatter_(1, recall.slot, recall.weight)
        else:
            here["second"].copy_(s)
        return s

    def cut(self, position: int, done: Tensor) -> None:
        """The streams ``done`` (B,) begin anew before ``position``: zero h and c, the chain cut, nothing to read."""
        here, column = self._at[position], done.unsqueeze(1)
        for name in ("keep", "h_prev", "c"):
            here[name].masked_fill_(column, 0.0)
        self.age.masked_fill_(done, 0)
        if self.sparsifier is not None:
            self.gap.masked_fill_(column, EMPTY)

    def forget(self, position: int) -> None:
        """All streams carry nothing to ``position``: zero h and c, the chain cut. Their sequences go on."""
        here = self._at[position]
        for name in ("keep", "h_prev", "c"):
            here[name].zero_()

    def backward(self, memory: Macrostate | None) -> Credits | None:
        """The VJP of the chain for the block's learning signals: adds to the gradient, returns the microstates' credits.

        Credit runs from the block's end at most ``k_trunc`` steps back, and never across a reset.
        """
        p, r = self.parameters, self.rings
        end, first = self.end, self.end - self.k_trunc
        signal, read = r["signal"][self.history : end].flatten(0, 1), r["readout"][self.history : end]
        d_out = (signal @ p.value["readout"]["W"]).view_as(read)
        if self.mask is not None:
            read, d_out = read * self.mask, d_out * self.mask
        p.gradient["readout"]["W"].addmm_(signal.t(), read.flatten(0, 1))
        p.gradient["readout"]["b"].add_(signal.sum(0))
        local = p.cell.prepare(self.tape, r["xh"][first:end], r["c"][first:end], first, end)
        dh = nothing = torch.zeros_like(r["h_hat"][0])
        dc = torch.zeros_like(r["c"][0]) if p.cell.has_c else None
        pending: list[tuple[Tensor, Tensor]] = []
        if p.salience is not None:
            p.salience.prepare(p.value["salience"], r["m"][first:end], self.trace, first)
        for position in range(end - 1, first - 1, -1):
            # What the next step gave back is credit on h, or passes by what was recalled.
            dh, passing = (dh, None) if self.feeds_h else (nothing, dh)
            d_second = None
            if position >= self.history:
                dh = dh + d_out[position - self.history, :, : self.n]
                d_second = d_out[position - self.history, :, self.n :]
            if memory is not None:
                dh, ds, da = self._recall_vjp(position, dh, d_second)
                pending.append((ds, da))
            if passing is not None:
                dh = dh + passing
            dh, dc = p.cell.vjp(p.value["cell"], local, position - first, dh, dc)
            keep = r["keep"][position]
            dh = dh.mul_(keep)
            if self.carried is not None:
                dh = dh.mul_(r["carried"][position])
            dc = None if dc is None else dc.mul_(keep)
        p.cell.accumulate(p.gradient["cell"], local, r["xh"][first:end])
        if self.input_credit is not None:
            p.cell.input_credit(p.value["cell"], local, self.input_credit)
        return None if memory is None else self._credits(first, end, pending[::-1], memory)

    def _recall_vjp(self, position: int, dh: Tensor, d_second: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Credit on h (B, n) at one step -> credit on h_hat, on the summary (B, n) and on the scores (B, K)."""
        p, r = self.parameters, self.rings
        assert p.salience is not None
        assert self.sparsifier is not None
        index, m = r["index"][position], r["m"][position]
        ds = dh if d_second is None or self.reads_weights else dh + d_second
        dw = torch.bmm(m, ds.unsqueeze(2)).squeeze(2)
        if d_second is not None and self.reads_weights:
            dw = dw + d_second.gather(1, index)
        recall = Recall(index, r["weight"][position], r["scale"][position])
        da = self.sparsifier.vjp(dw, recall, r["stamp"][position] >= 0)
        dh_hat = dh + p.salience.query_vjp(p.value["salience"], da, m, r["h_hat"][position], self.trace, position)
        return dh_hat, ds, da

    def _credits(self, first: int, end: int, pending: list[tuple[Tensor, Tensor]], memory: Macrostate) -> Credits:
        p, r = self.parameters, self.rings
        assert p.salience is not None
        assert self.sparsifier is not None
        ds, da = (torch.stack(parts) for parts in zip(*pending, strict=True))
        index, m, weight = r["index"][first:end], r["m"][first:end], r["weight"][first:end]
        own = self.sparsifier.own_sharpness(r["scale"][first:end])
        dm = p.salience.finish(
            p.value["salience"], p.gradient["salience"], da, m, r["h_hat"][first:end], index, own, self.trace, first
        )
        dm = torch.addcmul(dm, weight.unsqueeze(3), ds.unsqueeze(2))
        credited = self.sparsifier.credited
        index, weight, stamp = index[..., :credited], weight[..., :credited], r["stamp"][first:end, :, :credited]
        rows = memory.rows(index)
        live = (memory.arrays["stamp"][rows] == stamp) & (stamp >= 0)
        slot = torch.where(live, index, self.slots)
        return land(slot, dm[:, :, :credited], weight, slots=self.slots, first=first)

    def settle(self, position: int) -> None:
        """Before the state is read: a backend may have put off what only the state needs. ``position``: the next step's."""

    def advance(self) -> None:
        """Moves the end of the block into the history, so that the next block starts at position ``history``."""
        kept = self.history
        for name, ring in self.rings.items():
            extra = 1 if name in BEGINNINGS else 0
            ring[: kept + extra] = ring[self.block : self.block + kept + extra].clone()
        if self.k_trunc > self.block:
            for ring in (*self.tape.values(), *self.trace.values()):
                ring[:kept] = ring[self.block : self.block + kept].clone()
        self.rings["keep"][kept:] = 1
        self.rings["signal"][kept:] = 0
        self.rings["loss"][kept:] = 0
        self.origin.add_(self.block)
