"""Recurrent cells: one batched forward step and its explicit vector-Jacobian product (VJP), no tape over time.

A cell works on *rows*: the streams of the main chain, or the segments of a replay. Its input is the joined row
``xh = [x ; h_prev]`` of shape ``(rows, d_in + n)``, so that a step is one matrix product, and the parameter gradient of
a whole window is one more. What a backward pass needs is written into a ``Tape``, buffers with a leading time axis that
are allocated once.

The backward pass goes in three parts: ``prepare`` computes every local derivative of the window at once, ``vjp`` walks
one step back, ``accumulate`` adds the parameter gradient of all steps.

Recall changes h between two steps (h = h_hat + s) and never the state c that the LSTM and the GRU carry beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

Tape = dict[str, Tensor]
Views = dict[str, Tensor]
Place = tuple[Tensor, ...]


class Local(NamedTuple):
    """Local derivatives of some steps: ``joined`` tensors (steps, rows, ...), and views of them for each step.

    Once the steps are walked back the first of ``joined`` is the credit on what W_x x enters, ``(steps, rows, G n)``.
    """

    joined: Place
    steps: list[Place]


class Cell(ABC):
    """A recurrent cell of ``hidden`` units on inputs of size ``d_in``.

    ``gates`` is the number of pre-activation blocks of size n, ``keeps`` the index of the one whose bias makes the state
    last, ``writes`` that of a gate of its own for what is added to it; ``has_c`` says whether there is a state c beside h.
    """

    name: ClassVar[str]
    gates: ClassVar[int]
    keeps: ClassVar[int | None] = None
    writes: ClassVar[int | None] = None
    has_c: ClassVar[bool]

    def __init__(self, d_in: int, hidden: int) -> None:
        self.d_in = d_in
        self.hidden = hidden

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes by name; ``W`` joins W_x ``(G n, d_in)`` and W_h ``(G n, n)`` side by side."""
        g = self.gates * self.hidden
        return {"W": (g, self.d_in + self.hidden), "b": (g,)}

    def initialise(self, p: Views, generator: torch.Generator, forget_bias: float, input_scale: float) -> None:
        """W_h uniform in +-1/sqrt(n), W_x in +-``input_scale``; biases zero but for the gate that keeps the state.

        That gate's biases are uniform in 0 .. ``forget_bias``: units forget over anything from 2 to about
        exp(``forget_bias``) steps, so that the state tells how long ago something happened (after Tallec & Ollivier 2018,
        arXiv 1804.11188). A separate gate that writes gets their negatives, as there: a unit that hardly forgets and writes
        at every step winds up over a long blank, saturates, and can no longer answer.
        """
        bound = self.hidden**-0.5
        p["W"].uniform_(-bound, bound, generator=generator)
        p["W"][:, : self.d_in].uniform_(-input_scale, input_scale, generator=generator)
        p["b"].zero_()
        if self.keeps is not None and forget_bias > 0:
            gate = slice(self.keeps * self.hidden, (self.keeps + 1) * self.hidden)
            p["b"][gate].uniform_(0, forget_bias, generator=generator)
            if self.writes is not None:
                p["b"][self.writes * self.hidden : (self.writes + 1) * self.hidden] = -p["b"][gate]

    @abstractmethod
    def tape(self, steps: int, rows: int, like: Tensor) -> Tape:
        """Buffers for ``steps`` steps of ``rows`` rows, each of shape ``(steps, rows, ...)``."""

    def with_views(self, p: Views) -> Views:
        """``p`` and the views of it that every step needs: making one costs as much as a small operation."""
        return {**p, "W_t": p["W"].t(), "W_h": p["W"][:, self.d_in :]}

    @abstractmethod
    def places(self, tape: Tape) -> list[Place]:
        """The views of the tape that one step writes, for every step; made once for a tape that stays."""

    @abstractmethod
    def step(self, p: Views, xh: Tensor, c: Tensor, place: Place, h_hat: Tensor, c_next: Tensor) -> None:
        """One step: reads ``xh`` (rows, d_in+n) and ``c`` (rows, n), writes ``h_hat`` and ``c_next`` (rows, n)."""

    @abstractmethod
    def prepare(self, tape: Tape, xh: Tensor, c: Tensor, first: int, last: int) -> Local:
        """Local derivatives of steps ``first .. last-1``, all at once. ``xh``, ``c``: the states before each step."""

    @abstractmethod
    def vjp(self, p: Views, local: Local, t: int, dh: Tensor, dc: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One step back: credit on (h_hat, c) of step ``t`` (counted from ``first``) -> credit on (h_prev, c_prev)."""

    @abstractmethod
    def accumulate(self, g: Views, local: Local, xh: Tensor) -> None:
        """Adds the parameter gradient of all steps walked to ``g``; ``xh`` (steps, rows, d_in+n)."""

    def input_credit(self, p: Views, local: Local, out: Tensor) -> None:
        """Writes the credit on x of all steps walked to ``out`` (steps, rows, d_in), contiguous."""
        torch.mm(local.joined[0].flatten(0, 1), p["W"][:, : self.d_in], out=out.view(-1, self.d_in))


class LSTM(Cell):
    """Long short-term memory; gate order o, i, f, g (the three sigmoids side by side).

    c = f c_prev + i g,  h_hat = o tanh(c).
    """

    name = "lstm"
    gates = 4
    keeps = 2
    writes = 1
    has_c = True

    def tape(self, steps: int, rows: int, like: Tensor) -> Tape:
        n = self.hidden
        return {
            "gates": like.new_zeros(steps, rows, 4 * n),
            "tanh_c": like.new_zeros(steps, rows, n),
            "d_pre": like.new_zeros(steps, rows, 4 * n),
        }

    def places(self, tape: Tape) -> list[Place]:
        n = self.hidden
        gates = tape["gates"]
        parts = (gates, gates[..., : 3 * n], *gates.split(n, dim=2), tape["tanh_c"])
        return list(zip(*(part.unbind(0) for part in parts), strict=True))

    def step(self, p: Views, xh: Tensor, c: Tensor, place: Place, h_hat: Tensor, c_next: Tensor) -> None:
        gates, sigmoids, o, i, f, g, tanh_c = place
        torch.addmm(p["b"], xh, p["W_t"], out=gates)
        sigmoids.sigmoid_()
        g.tanh_()
        torch.mul(f, c, out=c_next)
        c_next.addcmul_(i, g)
        torch.tanh(c_next, out=tanh_c)
        torch.mul(o, tanh_c, out=h_hat)

    def prepare(self, tape: Tape, xh: Tensor, c: Tensor, first: int, last: int) -> Local:
        n = self.hidden
        gates, tanh_c = tape["gates"][first:last], tape["tanh_c"][first:last]
        o, i, f, g = gates.split(n, dim=2)
        sigmoids = gates[..., : 3 * n]
        s_o, s_i, s_f = (sigmoids - sigmoids * sigmoids).split(n, dim=2)
        d_pre = tape["d_pre"][first:last]
        by_gate = d_pre.unflatten(2, (4, n))
        torch.mul(tanh_c, s_o, out=by_gate[:, :, 0])
        torch.mul(g, s_i, out=by_gate[:, :, 1])
        torch.mul(c, s_f, out=by_gate[:, :, 2])
        torch.sub(i, i * g * g, out=by_gate[:, :, 3])
        c_of_h = o - o * tanh_c * tanh_c
        parts = (d_pre, by_gate[:, :, 0], by_gate[:, :, 1:], c_of_h, f)
        return Local((d_pre,), list(zip(*(part.unbind(0) for part in parts), strict=True)))

    def vjp(self, p: Views, local: Local, t: int, dh: Tensor, dc: Tensor | None) -> tuple[Tensor, Tensor | None]:
        assert dc is not None
        d_pre, d_o, d_ifg, c_of_h, f = local.steps[t]
        dc = torch.addcmul(dc, dh, c_of_h)
        d_o.mul_(dh)
        d_ifg.mul_(dc.unsqueeze(1))
        return d_pre @ p["W_h"], dc.mul_(f)

    def accumulate(self, g: Views, local: Local, xh: Tensor) -> None:
        d_pre = local.joined[0].flatten(0, 1)
        g["W"].addmm_(d_pre.t(), xh.flatten(0, 1))
        g["b"].add_(d_pre.sum(0))


class GRU(Cell):
    """Gated recurrent unit, gate order r, z, n, with the reset gate after the product as in torch and cuDNN.

    n_t = tanh(W_xn x + b_n + r (W_hn h_prev + b_hn)),  h_hat = (1 - z) n_t + z c_prev, with c = h_hat. ``b_n`` is the
    hidden-side bias b_hn. Without recall h_prev = c_prev and this is the usual GRU. With recall the gates and the
    candidate see h = h_hat + s, but what is carried over is h_hat, as an LSTM carries c: carrying h itself adds a
    summary at every step and grows without bound as soon as z > 1/2.
    """

    name = "gru"
    gates = 3
    keeps = 1
    has_c = True

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {**super().shapes(), "b_n": (self.hidden,)}

    def tape(self, steps: int, rows: int, like: Tensor) -> Tape:
        n = self.hidden
        return {
            "gates": like.new_zeros(steps, rows, 3 * n),
            "hidden_n": like.new_zeros(steps, rows, n),
            "d_x": like.new_zeros(steps, rows, 3 * n),
            "d_h": like.new_zeros(steps, rows, 3 * n),
        }

    def places(self, tape: Tape) -> list[Place]:
        n = self.hidden
        gates = tape["gates"]
        parts = (gates[..., : 2 * n], *gates.split(n, dim=2), tape["hidden_n"])
        return list(zip(*(part.unbind(0) for part in parts), strict=True))

    def step(self, p: Views, xh: Tensor, c: Tensor, place: Place, h_hat: Tensor, c_next: Tensor) -> None:
        n, d = self.hidden, self.d_in
        sigmoids, r, z, new, hidden_n = place
        sigmoids.copy_(torch.addmm(p["b"][: 2 * n], xh, p["W"][: 2 * n].t()).sigmoid_())
        hidden_n.copy_(torch.addmm(p["b_n"], xh[:, d:], p["W"][2 * n :, d:].t()))
        input_n = torch.addmm(p["b"][2 * n :], xh[:, :d], p["W"][2 * n :, :d].t())
        new.copy_(input_n.addcmul_(r, hidden_n).tanh_())
        torch.lerp(new, c, z, out=h_hat)
        c_next.copy_(h_hat)

    def prepare(self, tape: Tape, xh: Tensor, c: Tensor, first: int, last: int) -> Local:
        n = self.hidden
        gates, hidden_n = tape["gates"][first:last], tape["hidden_n"][first:last]
        r, z, new = gates.split(n, dim=2)
        d_x, d_h = tape["d_x"][first:last], tape["d_h"][first:last]
        slope_n = (1 - z) * (1 - new * new)
        d_x[..., 2 * n :] = slope_n
        d_x[..., :n] = slope_n * hidden_n * r * (1 - r)
        d_x[..., n : 2 * n] = (c - new) * z * (1 - z)
        d_h.copy_(d_x)
        d_h[..., 2 * n :].mul_(r)
        parts = (d_x.unflatten(2, (3, n)), d_h.unflatten(2, (3, n)), d_h, z)
        return Local((d_x, d_h), list(zip(*(part.unbind(0) for part in parts), strict=True)))

    def vjp(self, p: Views, local: Local, t: int, dh: Tensor, dc: Tensor | None) -> tuple[Tensor, Tensor | None]:
        assert dc is not None
        by_gate_x, by_gate_h, d_h, z = local.steps[t]
        dh = dh + dc
        by_gate_x.mul_(dh.unsqueeze(1))
        by_gate_h.mul_(dh.unsqueeze(1))
        return d_h @ p["W_h"], dh * z

    def accumulate(self, g: Views, local: Local, xh: Tensor) -> None:
        d_x, d_h = (part.flatten(0, 1) for part in local.joined)
        rows = xh.flatten(0, 1)
        g["W"][:, : self.d_in].addmm_(d_x.t(), rows[:, : self.d_in])
        g["W"][:, self.d_in :].addmm_(d_h.t(), rows[:, self.d_in :])
        g["b"].add_(d_x.sum(0))
        g["b_n"].add_(d_h[:, 2 * self.hidden :].sum(0))


class RNN(Cell):
    """Vanilla recurrent network: h_hat = tanh(W_x x + W_h h_prev + b)."""

    name = "rnn"
    gates = 1
    has_c = False

    def tape(self, steps: int, rows: int, like: Tensor) -> Tape:
        n = self.hidden
        return {"h_hat": like.new_zeros(steps, rows, n), "d_pre": like.new_zeros(steps, rows, n)}

    def places(self, tape: Tape) -> list[Place]:
        return [(row,) for row in tape["h_hat"].unbind(0)]

    def step(self, p: Views, xh: Tensor, c: Tensor, place: Place, h_hat: Tensor, c_next: Tensor) -> None:
        torch.tanh(torch.addmm(p["b"], xh, p["W_t"]), out=h_hat)
        place[0].copy_(h_hat)

    def prepare(self, tape: Tape, xh: Tensor, c: Tensor, first: int, last: int) -> Local:
        h_hat, d_pre = tape["h_hat"][first:last], tape["d_pre"][first:last]
        d_pre.copy_(1 - h_hat * h_hat)
        return Local((d_pre,), [(row,) for row in d_pre.unbind(0)])

    def vjp(self, p: Views, local: Local, t: int, dh: Tensor, dc: Tensor | None) -> tuple[Tensor, Tensor | None]:
        d_pre = local.steps[t][0].mul_(dh)
        return d_pre @ p["W_h"], dc

    def accumulate(self, g: Views, local: Local, xh: Tensor) -> None:
        d_pre = local.joined[0].flatten(0, 1)
        g["W"].addmm_(d_pre.t(), xh.flatten(0, 1))
        g["b"].add_(d_pre.sum(0))


CELLS: dict[str, type[Cell]] = {cell.name: cell for cell in (LSTM, GRU, RNN)}
