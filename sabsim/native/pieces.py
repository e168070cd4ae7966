"""The native counterparts of a learner's parts: the same buffers and methods, the work done by one C call each."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import offering
from ..backend import Backend, BackendName, Update
from ..credits import Credits
from ..exploration import Exploration
from ..macrostate import Macrostate
from ..network import Parameters
from ..optim import Adam, Optimizer
from ..replay import Replay, ReplayEvents
from ..retention import Novelty, Retention
from ..salience import Cosine
from ..sparsify import Sparsifier
from ..usual import UsualInput
from ..window import Window
from .adam import NativeAdam
from .bindings import Calls, ready
from .exploration import NativeExploration
from .following import NativeFamiliar, NativeUsual, NativeWatch

LAZY_FROM = 4_000
"""From this many slots on keys may be older than the parameters, with exact ones where it matters (``keys.c``)."""
EXACT_KEYS = 1_024
"""Room for exact keys beside older ones, a stream and block; where more are in doubt at a step, all become exact."""


class NativeBackend(Backend):
    """Makes the native parts of one learner, which share one C struct."""

    name: BackendName = "native"

    def __init__(self, library: ctypes.CDLL, parameters: Parameters) -> None:
        super().__init__()
        calls = self._calls = Calls(library, parameters.flat)
        self.window = partial(NativeWindow, calls)
        self.macrostate = partial(NativeMacrostate, calls)
        self.replay = partial(NativeReplay, calls)
        self.usual = partial(NativeUsual, calls)
        self.familiar = partial(NativeFamiliar, calls)
        self.watch = partial(NativeWatch, calls)
        self.exploration = partial(NativeExploration, calls)
        self.score_block = partial(score_block, calls)
        self.place_block = partial(place_block, calls)

    def update(self, optimizer: Optimizer) -> Update:
        return NativeAdam(self._calls, optimizer).update if type(optimizer) is Adam else optimizer.update


class NativeWindow(Window):
    """The main chain: the step, the signal, the chain's VJP and the keys."""

    def __init__(self, calls: Calls, parameters: Parameters, sparsifier: Sparsifier | None, **sizes: Any) -> None:
        super().__init__(parameters, sparsifier, **sizes)
        self._calls = calls
        network, d, n = parameters.network, parameters.network.d_in, parameters.network.hidden
        streams, slots, o = sizes["streams"], sizes["slots"], network.d_out
        reads, k = sparsifier.reads if sparsifier else 0, self.k_trunc
        calls.learner.set(
            streams=streams, d_in=d, n=n, d_out=o, slots=slots, reads=reads,
            history=self.history, block=self.block, k_trunc=k, taught_until=Cosine.TAUGHT_UNTIL,
        )  # fmt: skip
        value, gradient = parameters.value, parameters.gradient
        for room, name, field in (
            ("cell", "W", "W"),
            ("cell", "b", "b"),
            ("salience", "W_q", "W_q"),
            ("salience", "W_k", "W_k"),
            ("salience", "g", "sharpness"),
            ("readout", "W", "W_out"),
            ("readout", "b", "b_out"),
        ):
            if name in value[room]:
                calls.learner.bind(**{field: value[room][name], f"d{field}": gradient[room][name]})
        trace = {name: self.trace[name] for name in ("q", "q_norm", "dq") if name in self.trace}
        rings = dict(self.rings)
        if (observation := rings.pop("observation", None)) is not None:
            raw = observation.view(torch.uint8)  # C copies bytes, of whatever type they are
            calls.learner.bind(observation=raw)
            calls.learner.set(observed=raw.shape[2])
        if self.carried is not None:
            calls.learner.bind(carried_now=self.carried)
        calls.learner.bind(**rings, **self.tape, **trace, y=self.y, age=self.age)
        width, row_steps, size = self.rings["readout"].shape[2], k * streams, calls.packed_size
        calls.scratch(packed_W=(size(4 * n, d + n),), packed_W_out=(size(o, width),))
        calls.scratch(packed_back_W_h=(size(n, 4 * n),), packed_back_W_q=(size(n, n),))
        calls.scratch(dy=(self.block, streams, width), dh=(streams, n), dc=(streams, n))
        if not self.feeds_h:
            calls.scratch(passing=(streams, n))
        if sparsifier is not None:
            self.keys = self.y.new_zeros(streams, slots, n)
            best = self.y.new_full((streams, slots), -1.0)
            when = self.age.new_full((streams, slots), self.history + self.block - k)
            credit, best, when = self._left = Credits(torch.zeros_like(self.keys), best, when)
            calls.learner.bind(keys=self.keys, credit=credit, best=best, when=when)
            calls.scratch(packed_W_q=(size(n, n),), packed_W_k=(size(n, n),), score=(2 * reads,))
            lazy, exact = slots >= LAZY_FROM, min(slots, EXACT_KEYS)
            calls.learner.set(lazy=lazy, room=exact)
            if lazy:
                calls.scratch(base_W_k=(n, n), packed_base=(size(n, n),), drift=(2,), spent=(1,), stretch=(streams, slots))
                calls.scratch(exact=(streams, exact, n), exact_slot=(streams, exact), exact_count=(streams,))
                calls.scratch(exact_at=(streams, slots), plain=(streams,))
            calls.scratch(key_stamp=(streams, slots), key_norm=(streams, slots), key_sharpness=(1,), bound=(slots,))
            calls.scratch(filled=(streams,), touched=(streams, k * reads), touches=(streams,))
            calls.scratch(offered=(self.block, streams))
            calls.scratch(ds=(row_steps, n), da=(row_steps, reads), which=(row_steps, reads))
            held = row_steps * reads
            calls.scratch(held_stamp=(held,), held_slot=(held,), held_norm=(held,), held_turn=(held,))
            calls.scratch(**{f"held_{name}": (held, n) for name in ("m", "k", "dk", "dm")})
        self._packings = self._writes = -1  # of what parameters and what memory the keys were made
        self._x, self._signal, self._row = (streams, d), (streams, o), (streams,)
        self._x_block = (self.block, streams, d)

    def refresh(self, memory: Macrostate | None) -> None:
        if memory is not None:
            # How often weights were packed, and what torch has written; what C has written shows in the slots' stamps.
            packings, writes = self._calls.pack(), memory.arrays["m"]._version
            self._calls.refresh(self._calls.at, packings != self._packings, writes != self._writes)
            self._packings, self._writes = packings, writes

    def drop(self, mask: Tensor) -> None:
        super().drop(mask)
        self._calls.learner.bind(mask=mask)
        self._calls.scratch(masked=(self.block, *mask.shape))

    def step(
        self,
        position: int,
        x: Tensor,
        memory: Macrostate | None,
        exploration: Exploration | None = None,
        *,
        masked: bool = False,
    ) -> Tensor:
        self._calls.pack()
        x = ready(x, self._x, self.y.dtype)
        self._calls.step(self._calls.at, position, x.data_ptr(), exploration is not None, masked)
        return self.y

    def steps(
        self, x: Tensor, memory: Macrostate | None, exploration: Exploration | None = None, *, masked: bool = False
    ) -> Tensor:
        self._calls.pack()
        x = ready(x, self._x_block, self.y.dtype)
        self._calls.steps(self._calls.at, x.data_ptr(), exploration is not None, masked, self.y_block.data_ptr())
        return self.y_block

    def take(self, position: int, signal: Tensor, loss: Tensor | None) -> None:
        signal = ready(signal, self._signal, self.y.dtype)
        if loss is not None:
            loss = ready(loss, self._row, self.y.dtype)
        self._calls.take(self._calls.at, position, signal.data_ptr(), None if loss is None else loss.data_ptr())

    def take_block(self, signal: Tensor, loss: Tensor | None) -> None:
        if loss is not None:
            super().take_block(signal, loss)
            return
        # By C, step by step: torch's norms may differ in the last digit.
        for position, step in enumerate(signal, self.history):
            self.take(position, step, None)

    def cut(self, position: int, done: Tensor) -> None:
        done = ready(done, self._row, torch.bool)
        self._calls.cut(self._calls.at, position, done.data_ptr())

    def backward(self, memory: Macrostate | None) -> Credits | None:
        # Keys serve the VJP too, unless somebody has changed parameters or memory within the block.
        fresh = memory is not None and (self._calls.pack(), memory.arrays["m"]._version) == (self._packings, self._writes)
        credit = self.input_credit
        self._calls.backward(self._calls.at, None if credit is None else credit.data_ptr(), fresh)
        return None if memory is None else self._left

    def settle(self, position: int) -> None:
        if self.sparsifier is not None:
            self._calls.settle(self._calls.at, position)

    def advance(self) -> None:
        self._calls.advance(self._calls.at)
        self.origin.add_(self.block)


class NativeMacrostate(Macrostate):
    """The memory; what it is offered is written straight from the window's rings, see ``place_block``."""

    def __init__(self, calls: Calls, **sizes: Any) -> None:
        super().__init__(**sizes)
        self._calls = calls
        arrays = dict(self.arrays)
        if "observation" in arrays:
            arrays["observation"] = arrays["observation"].view(torch.uint8)
        calls.learner.bind(**{f"slot_{name}": array for name, array in arrays.items()})
        calls.scratch(standing=(self.slots,), order=(self.slots,))

    def clear(self, done: Tensor) -> None:
        done = ready(done, (self.streams,), torch.bool)
        self._calls.clear(self._calls.at, done.data_ptr())


def score_block(
    calls: Calls, window: Window, retention: Retention, *, k_att: int, draws: torch.Generator, usual: UsualInput | None
) -> Tensor:
    """See ``sabsim.offering.score_block``: novelty is native, and of offered states only."""
    if type(retention) is not Novelty:
        return offering.score_block(window, retention, k_att=k_att, draws=draws, usual=usual)
    calls.pack()
    calls.novelty(calls.at, k_att, 0.0 if usual is None else retention.input_effect)
    return calls.learner.tensors["offered"]


def place_block(calls: Calls, window: Window, memory: Macrostate, retention: Retention, score: Tensor, k_att: int) -> None:
    """See ``sabsim.offering.place_block``: choice and copies are native."""
    now = int(window.origin) + window.history + window.block - 1
    offered = calls.learner.tensors["offered"]
    if score is not offered:
        offered.copy_(score)  # a copy: the choice crosses out what it has taken
    calls.offer(calls.at, now, now - retention.protected * k_att, k_att, window.stores_h)


class NativeReplay(Replay):
    """Segments of the greatest credit, run again and walked back."""

    def __init__(self, calls: Calls, parameters: Parameters, **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self._calls = calls
        rows, n = settings["streams"] * self.budget, parameters.network.hidden
        calls.learner.set(budget=self.budget)
        room = self.segments
        calls.learner.bind(seg_xh=room.xh, seg_c=room.c, seg_h=room.h_hat[0])
        calls.learner.bind(**{f"seg_{name}": buffer for name, buffer in room.tape.items()})
        calls.scratch(rows=(rows,), seg_dh=(rows, n), seg_dc=(rows, n))

    def choose(self, credits: Credits) -> tuple[Tensor, Tensor]:
        shape = (credits.weight.shape[0], self.budget)
        slot, norm = credits.position.new_empty(shape), credits.weight.new_empty(shape)
        self._calls.choose(self._calls.at, self.negligible, slot.data_ptr(), norm.data_ptr())
        return slot, norm

    def backward(self, credits: Credits, slot: Tensor, norm: Tensor, memory: Macrostate) -> Tensor:
        length = torch.empty_like(slot)
        at, places = self._calls.at, (slot.data_ptr(), norm.data_ptr(), length.data_ptr())
        if self.encoding is None:
            self._calls.replay(at, *places, None, None)
            return length
        rows = memory.rows(slot)[norm > 0]  # in the order in which C takes them
        x = self.encoding.again(memory.arrays["observation"].index_select(0, rows)).contiguous()
        self._calls.replay(at, *places, x.data_ptr(), self.encoding.segment_credit(len(rows)).data_ptr())
        return length

    def describe(
        self, window: Window, memory: Macrostate, credits: Credits, slot: Tensor, norm: Tensor, length: Tensor
    ) -> ReplayEvents:
        whole, numbers = slot.new_empty(3, *slot.shape), norm.new_empty(2, *norm.shape)
        at, origin = self._calls.at, int(window.origin)
        self._calls.describe(at, slot.data_ptr(), origin, whole.data_ptr(), numbers.data_ptr())
        (step, source_step, lag), (weight, loss) = whole.unbind(0), numbers.unbind(0)
        return ReplayEvents(step, source_step, lag, weight, norm, loss, length, norm > 0)
