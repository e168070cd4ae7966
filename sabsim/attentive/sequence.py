"""One sequence of a network with self-attention: its steps, what they met and made, and the way back through all of it.

This is torch's, for every cell on every device; ``sabsim.native.attentive`` does the same with the same buffers in C.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..backend import Update
from ..optim import Optimizer
from .memory import AllStates
from .parameters import AttentiveParameters


class Sequence:
    """The steps of a sequence, of all streams side by side.

    Args:
        parameters: of cell, attention and readout.
        memory: what can be attended to; it belongs to this sequence from now on.
        rows: steps that are kept: all of a sequence for the way back, 1 where there is none.
        streams: B.
    """

    def __init__(self, parameters: AttentiveParameters, memory: AllStates, *, rows: int, streams: int) -> None:
        network, zeros = parameters.network, parameters.flat.new_zeros
        n, d = network.hidden, network.d_in
        self._parameters, self.memory, self.learning = parameters, memory, memory.steps > 0
        self.tape = parameters.cell.tape(rows, streams, parameters.flat)
        self._places = parameters.cell.places(self.tape)
        self.steps = {
            "xh": zeros(rows, streams, d + n),
            "c": zeros(rows + 1, streams, n),
            "h": zeros(rows, streams, n),
            "k": zeros(rows, streams, n),
            "q": zeros(rows, streams, n),
            "signal": zeros(rows, streams, network.d_out),
        }
        """what each step met and made: [x ; s], c before (and after), h, its key and query, dL/dy"""

    def row(self, t: int) -> int:
        """Where step ``t`` is kept: a sequence that is only played keeps the last one."""
        return t if self.learning else 0

    def begin(self) -> None:
        """Forgets everything."""
        self.memory.clear()
        self.steps["c"][0] = 0

    def step(self, t: int, x: Tensor) -> Tensor:
        """Step ``t``: x ``(streams, d_in)`` -> y ``(streams, d_out)``."""
        d, p, s, row = self._parameters.network.d_in, self._parameters.value, self.steps, self.row(t)
        xh, h = s["xh"][row], s["h"][row]
        if t == 0:
            xh[:, d:] = 0
        else:
            before = self.row(t - 1)
            torch.mm(s["xh"][before][:, d:], p["attention"]["V_a"].t(), out=s["q"][row])
            ctx = self.memory.attend(t, s["q"][row], p["attention"]["v"])
            xh[:, d:] = ctx.add_(s["h"][before]).mul_(0.5)
        xh[:, :d] = x
        c, c_next = s["c"][row], s["c"][row + 1]
        self._parameters.cell.step(p["cell"], xh, c, self._places[row], h, c_next)
        if not self.learning:
            c.copy_(c_next)
        torch.mm(h, p["attention"]["U_a"].t(), out=s["k"][row])
        self.memory.store(t, h, s["k"][row])
        return torch.addmm(p["readout"]["b"], h, p["readout"]["W"].t())

    def backward(self) -> None:
        """Adds the gradient of all signals of a whole sequence, back through its steps, to that of the parameters."""
        p, g, s, d = self._parameters.value, self._parameters.gradient, self.steps, self._parameters.network.d_in
        cell, steps = self._parameters.cell, len(s["h"])
        attention, g_attention = p["attention"], g["attention"]
        local = cell.prepare(self.tape, s["xh"], s["c"][:steps], 0, steps)
        on_h = s["signal"] @ p["readout"]["W"]
        on_k, on_q = torch.zeros_like(s["k"]), torch.zeros_like(s["q"])
        on_c: Tensor | None = torch.zeros_like(s["c"][0])
        with self.memory.going_back():
            for t in reversed(range(steps)):
                d_h, d_k = self.memory.unstore(t, s["h"], s["k"])
                torch.mul(d_k, attention["v"], out=on_k[t])
                on_h[t].add_(d_h).addmm_(on_k[t], attention["U_a"])
                on_s, on_c = cell.vjp(p["cell"], local, t, on_h[t], on_c)
                if t + 1 < steps:
                    on_s = torch.addmm(on_s, on_q[t + 1], attention["V_a"])
                if t:
                    on_s.mul_(0.5)
                    on_h[t - 1].add_(on_s)
                    on_q[t] = self.memory.attend_back(t, s["q"][t], attention["v"], on_s, g_attention["v"])
        cell.accumulate(g["cell"], local, s["xh"])
        signal, h = s["signal"].flatten(0, 1), s["h"].flatten(0, 1)
        g["readout"]["W"].addmm_(signal.t(), h)
        g["readout"]["b"].add_(signal.sum(0))
        g_attention["U_a"].addmm_(on_k.flatten(0, 1).t(), h)
        g_attention["V_a"].addmm_(on_q[1:].flatten(0, 1).t(), s["xh"][:-1, :, d:].flatten(0, 1))

    def update(self, optimizer: Optimizer) -> Update:
        """What does an update as ``optimizer`` describes."""
        return optimizer.update

    def arrays(self) -> dict[str, Tensor]:
        """What decides the steps to come within a sequence, and the way back; flat."""
        rooms = {"step": self.steps, "tape": self.tape, "memory": self.memory.arrays()}
        return {f"{room}.{name}": array for room, arrays in rooms.items() for name, array in arrays.items()}
