"""A sequence of an LSTM with self-attention in C: the same buffers and methods as torch's, one call a step."""

from __future__ import annotations

import ctypes

from torch import Tensor

from ..attentive.memory import AllStates, ScreenedStates
from ..attentive.parameters import AttentiveParameters
from ..attentive.sequence import Sequence
from ..backend import Update
from ..optim import Adam, Optimizer
from .adam import NativeAdam
from .bindings import Calls, Struct, ready


class NativeSequence(Sequence):
    """Steps and the way back by the native kernel.

    Args:
        library: for numbers of the parameters' type.
        parameters, memory, rows, streams: as of ``Sequence``; the cell is an LSTM.
    """

    def __init__(
        self, library: ctypes.CDLL, parameters: AttentiveParameters, memory: AllStates, *, rows: int, streams: int
    ) -> None:
        super().__init__(parameters, memory, rows=rows, streams=streams)
        network, calls = parameters.network, Calls(library, parameters.flat)
        n, d, o, slots = network.hidden, network.d_in, network.d_out, memory.slots
        self._calls, self._packings, self._x = calls, -1, (streams, d)
        self._y = parameters.flat.new_zeros(streams, o)
        value, gradient, size = parameters.value, parameters.gradient, calls.packed_size
        calls.learner.set(streams=streams, d_in=d, n=n, d_out=o, block=rows, k_trunc=rows)
        for room, suffix in (("cell", ""), ("readout", "_out")):
            for name in ("W", "b"):
                field = name + suffix
                calls.learner.bind(**{field: value[room][name], f"d{field}": gradient[room][name]})
        steps = {name: self.steps[name] for name in ("xh", "c", "signal")}
        calls.learner.bind(**steps, **self.tape, y=self._y)
        calls.scratch(packed_W=(size(4 * n, d + n),), packed_W_out=(size(o, n),), packed_back_W_h=(size(n, 4 * n),))
        calls.scratch(dh=(streams, n), dc=(streams, n))
        self._struct = Struct("Attentive", parameters.flat.dtype)
        self._struct.set(learning=self.learning, steps=rows, slots=slots)
        for name, weight in value["attention"].items():
            self._struct.bind(**{name: weight, f"d{name}": gradient["attention"][name]})
        self._struct.bind(**{name: self.steps[name] for name in ("h", "k", "q")})
        self._struct.bind(slot_h=memory.h, slot_k=memory.k, born=memory.born, alpha=memory.alpha)
        if isinstance(memory, ScreenedStates):
            choices = {name: memory.arrays()[name] for name in ("place", "ousted", "accepted", "relevance", "held")}
            self._struct.set(buffer=memory.buffer)
            self._struct.bind(**choices)
        self._scratch(packed_V_a=(size(n, n),), packed_U_a=(size(n, n),), grown_q=(n,))
        self._scratch(slot_grown=(streams, slots, n))
        self._writes = -1  # what torch has written of the keys
        if self.learning:
            self._scratch(**{f"on_{name}": (rows, streams, n) for name in ("h", "k", "q")})
            self._scratch(**{f"credit_{name}": (streams, slots, n) for name in ("h", "k")}, d_e=(slots,))

    def _scratch(self, **shapes: tuple[int, ...]) -> None:
        like = self._calls.like
        self._struct.bind(**{name: like.new_zeros(shape) for name, shape in shapes.items()})

    def step(self, t: int, x: Tensor) -> Tensor:
        calls, packings = self._calls, self._calls.pack()
        if packings != self._packings:
            calls.attentive_pack(calls.at, self._struct.address)
            self._packings = packings
        if self._writes != self.memory.k._version:
            calls.attentive_refresh(calls.at, self._struct.address)
            self._writes = self.memory.k._version
        x = ready(x, self._x, self._y.dtype)
        calls.attentive_step(calls.at, self._struct.address, t, x.data_ptr())
        return self._y

    def backward(self) -> None:
        self._calls.attentive_backward(self._calls.at, self._struct.address)

    def update(self, optimizer: Optimizer) -> Update:
        return NativeAdam(self._calls, optimizer).update if type(optimizer) is Adam else optimizer.update
