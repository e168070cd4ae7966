"""A recurrent network with self-attention behind the calls of a streaming learner: ``step``, ``learn``, ``reset``.

Kerg et al. 2020 (arXiv 2006.09471), as in their released code; h_i are the states of the sequence that memory holds:

    e_i = v · tanh(V_a s_{t-1} + U_a h_i)    alpha = softmax(e)    ctx_t = sum_i alpha_i h_i
    s_t = (h_{t-1} + ctx_t) / 2              h_t, c_t = cell(x_t, s_t, c_{t-1})              y_t = W h_t + b

with s_0 = 0. Signals are kept until the sequence ends; then credit goes back through all of it, recurrence and attention,
and the parameters are updated. There is no tape of autograd's: the way back is written out (``sequence.py``, and in C), and
what it needs is in buffers made once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..backend import BackendName, library_for, native_lacks
from ..credit import FullAttention
from ..devices import choose_device
from ..errors import ConfigError, NonFiniteError
from ..network import Network
from ..optim import Optimizer
from ..replay import ReplayEvents
from ..retention import Relevancy, Retention
from ..views import LearnerViews, ReadEvents
from .memory import AllStates, ScreenedStates
from .parameters import AttentiveParameters
from .sequence import Sequence


class AttentiveLearner(LearnerViews[AttentiveParameters]):
    """MemLSTM and MemRNN (credit ``FullAttention``), RelLSTM and RelRNN (``ScreenedAttention``), by the network's cell.

    Learning keeps the whole sequence, O(length (n + S)) for each stream, with S the slots. Playing (see ``evaluator``)
    keeps the slots alone: bounded with ``ScreenedAttention``, all states of the sequence with ``FullAttention``.

    Args:
        network: cell, sizes and initial weights.
        credit: ``FullAttention`` or ``ScreenedAttention``, with the length of a sequence.
        retention: ``All`` with at least as many slots as a sequence has steps, or ``Relevancy``.
        optimizer: e.g. ``RMSprop(lr=1e-3)``.
        streams: B; they begin their sequences together.
        seed: of the initial parameters.
        device, dtype: as of ``StreamingLearner``.
        learning: False for one that only plays.
        backend: native (a C kernel, of LSTM on a CPU), torch, or auto: native where it serves and can be compiled.

    Raises ConfigError: for settings that do not fit each other.
    """

    def __init__(
        self,
        network: Network,
        *,
        credit: FullAttention,
        retention: Retention,
        optimizer: Optimizer,
        streams: int = 1,
        seed: int = 0,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        learning: bool = True,
        backend: str = "auto",
    ) -> None:
        if streams < 1:
            raise ConfigError(f"streams = {streams}: must be at least 1")
        if dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"dtype = {dtype}: must be torch.float32 or torch.float64")
        self.network, self.credit, self.retention, self.optimizer = network, credit, retention, optimizer
        self.streams, self.seed, self.learning = streams, seed, learning
        self.device, self.dtype = choose_device(device), dtype
        self.length = credit.k_trunc
        self._parameters = AttentiveParameters(network, dtype=dtype, device=self.device)
        self._parameters.initialise(seed)
        self._optim = optimizer.state(self.flat)
        library = library_for(backend, native_lacks(network, credit, self.device), dtype)
        self.backend: BackendName = "torch" if library is None else "native"
        room: dict[str, Any] = {"rows": self.length if learning else 1, "streams": streams}
        if library is None:
            self._sequence = Sequence(self._parameters, self._remember(), **room)
        else:
            from ..native import NativeSequence

            self._sequence = NativeSequence(library, self._parameters, self._remember(), **room)
        self._update = self._sequence.update(optimizer)
        self._fault = torch.full((), -1, dtype=torch.int64, device=self.device)
        self._y_block: Tensor | None = None
        self._position = self._last = self.clock = 0

    def _remember(self) -> AllStates:
        """The memory that credit and retention ask for. Raises ConfigError: if they do not fit each other."""
        slots, keeps = self.retention.slots, self.credit.keeps
        if self.retention.name != keeps:
            raise ConfigError(f"retention = {self.retention.name!r}: credit {self.credit.name} needs {keeps!r}")
        steps = self.length if self.learning else 0
        size: dict[str, Any] = {"streams": self.streams, "slots": slots, "hidden": self.network.hidden, "steps": steps}
        if isinstance(self.retention, Relevancy):
            return ScreenedStates(**size, buffer=self.retention.protected, like=self.flat)
        if slots < self.length:
            raise ConfigError(f"slots = {slots}: credit {self.credit.name} keeps every state, here {self.length}")
        return AllStates(**size, like=self.flat)

    # What there is to see

    @property
    def macrostate_bytes(self) -> int:
        """Bytes of the states that can be attended to, and their keys, all streams."""
        return self.memory.nbytes

    @property
    def memory(self) -> AllStates:
        """What can be attended to."""
        return self._sequence.memory

    @property
    def hidden(self) -> Tensor:
        """The hidden state h of the last step, ``(streams, hidden)``; valid until the next ``step``."""
        return self._sequence.steps["h"][self._sequence.row(self._last)]

    @property
    def read(self) -> ReadEvents:
        """What the last step attended to, of every slot."""
        return self._read(self._sequence.row(self._last))

    @property
    def read_in_block(self) -> ReadEvents:
        """The same of each step kept, those of the sequence so far or the last one, ``(steps, streams, slots)``."""
        return self._read(slice(None))

    def _read(self, rows: int | slice) -> ReadEvents:
        weight, held = self.memory.alpha[rows], self.memory.held[rows]
        slot = torch.arange(self.memory.slots, device=self.device).expand_as(held)
        begun = self.clock - 1 - self._last
        return ReadEvents(slot, weight, torch.where(held >= 0, held + begun, -1))

    @property
    def hidden_in_block(self) -> Tensor:
        """The hidden states h of the steps kept, ``(steps, streams, hidden)``; valid as ``hidden`` is."""
        return self._sequence.steps["h"]

    @property
    def block_is_empty(self) -> bool:
        """Whether a sequence has begun, and no step of it was taken."""
        return self._position == 0

    @property
    def block_is_full(self) -> bool:
        """Whether a sequence is over: ``reset`` comes next."""
        return not 0 <= self._position < self.length

    # The three calls

    @torch.no_grad()
    def reset(self, done: Tensor) -> None:
        """All streams begin a new sequence if ``done`` ``(streams,)`` bool says so of all; nothing happens if of none.

        Raises ConfigError: if it says so of some only, or, while learning, before the sequence is over.
        """
        count = int(done.sum())
        if count == 0:
            return
        if count < self.streams:
            raise ConfigError(
                f"reset of {count} of {self.streams} streams: with credit {self.credit.name} all must begin their "
                "sequences together (stagger = False)"
            )
        if self.learning and self._position > 0:
            raise ConfigError(
                f"reset after {self._position} of {self.length} steps: credit {self.credit.name} learns whole sequences"
            )
        self._sequence.begin()
        self._position = 0

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """One step forward: x ``(streams, d_in)`` -> y ``(streams, d_out)``. O(slots).

        Raises ConfigError: for an input of another shape, or after the sequence's end without a ``reset``.
        """
        network, t = self.network, self._position
        if x.shape != (self.streams, network.d_in):
            raise ConfigError(f"x has shape {tuple(x.shape)}: must be (streams, d_in) = {self.streams, network.d_in}")
        if not 0 <= t < self.length:
            raise ConfigError(f"step after the last one of a sequence of {self.length} steps: reset comes first")
        y = self._sequence.step(t, x)
        self._last = t
        self._position += 1
        self.clock += 1
        return y

    def step_block(self, x: Tensor) -> Tensor:
        """The steps of a whole sequence, one by one: x ``(length, streams, d_in)`` -> y ``(length, streams, d_out)``.

        y is valid until the next call. Raises ConfigError: for an input of another shape, or within a sequence.
        """
        if not self.block_is_empty:
            raise ConfigError(f"step_block at step {self._position} of a sequence of {self.length}: reset comes first")
        if len(x) != self.length:
            raise ConfigError(f"x has {len(x)} steps: must be a sequence's {self.length}")
        if self._y_block is None:
            self._y_block = self.flat.new_zeros(self.length, self.streams, self.network.d_out)
        for t, x_t in enumerate(x):
            self._y_block[t] = self.step(x_t)
        return self._y_block

    @torch.no_grad()
    def learn_block(self, dL_dy: Tensor, loss: Tensor | None = None) -> ReplayEvents | None:
        """Takes the learning signals of a whole sequence at its end, ``(length, streams, d_out)``, and updates.

        In place of ``learn`` at each of its steps. Raises ConfigError: for a signal of another shape, or within a sequence.
        """
        wanted = (self.length, self.streams, self.network.d_out)
        if dL_dy.shape != wanted:
            raise ConfigError(f"dL_dy has shape {tuple(dL_dy.shape)}: must be (length, streams, d_out) = {wanted}")
        if self._position != self.length:
            raise ConfigError(f"learn_block after {max(self._position, 0)} of a sequence's {self.length} steps")
        if self.learning:
            self._sequence.steps["signal"].copy_(dL_dy)
            self._update_after_sequence()
        return None

    @torch.no_grad()
    def learn(self, dL_dy: Tensor, loss: Tensor | None = None) -> ReplayEvents | None:
        """Takes the learning signal of the last step, (streams, d_out); after a sequence's last step, an update.

        ``loss`` is not used, and nothing is ever replayed. Raises ConfigError: for a signal of another shape.
        """
        wanted = (self.streams, self.network.d_out)
        if dL_dy.shape != wanted:
            raise ConfigError(f"dL_dy has shape {tuple(dL_dy.shape)}: must be (streams, d_out) = {wanted}")
        if not self.learning:
            return None
        self._sequence.steps["signal"][self._last] = dL_dy
        if self._position == self.length:
            self._update_after_sequence()
        return None

    def _update_after_sequence(self) -> None:
        self.grad.zero_()
        self._sequence.backward()
        finite = self._update(self.flat, self.grad, self._optim, None, self._parameters.attention_part(), None)
        self._fault.copy_(torch.where((self._fault < 0) & ~finite, self.clock - 1, self._fault))
        self._position = -1

    def check(self) -> None:
        """Raises NonFiniteError if a gradient met so far was NaN or infinite."""
        step = int(self._fault)
        if step >= 0:
            raise NonFiniteError(f"gradient is not finite in the update after step {step}, summed over streams")

    def evaluator(
        self, *, streams: int | None = None, seed: int = 0, learned: Mapping[str, Tensor] | None = None
    ) -> AttentiveLearner:
        """A copy of what was learned (or of ``learned``) with a fresh memory; it never learns, this one is not touched."""
        other = AttentiveLearner(
            self.network,
            credit=self.credit,
            retention=self.retention,
            optimizer=self.optimizer,
            streams=self.streams if streams is None else streams,
            seed=seed,
            device=self.device,
            dtype=self.dtype,
            learning=False,
            backend=self.backend,
        )
        source = self.learned if learned is None else learned
        for name, value in other.parameters.items():
            value.copy_(source[name])
        return other

    def state_dict(self) -> dict[str, Tensor | int]:
        """Everything: parameters, gradient, optimiser, clocks, and within a sequence what it has been so far; flat."""
        state: dict[str, Tensor | int] = {name: array.clone() for name, array in self._saved().items()}
        if self._position > 0:
            state |= {name: array.clone() for name, array in self._sequence.arrays().items()}
        return state | {"clock": self.clock, "position": self._position, "last": self._last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what ``state_dict`` returned, exactly.

        Raises ConfigError: if it is of a learner of other sizes. KeyError: if something is missing.
        """
        mine = self._saved() | (self._sequence.arrays() if int(state["position"]) > 0 else {})
        for name, array in mine.items():
            if array.shape != state[name].shape:
                there, here = tuple(state[name].shape), tuple(array.shape)
                raise ConfigError(f"state of another learner: {name} has shape {there}, here {here}")
        for name, array in mine.items():
            array.copy_(state[name])
        self.clock, self._position, self._last = (int(state[name]) for name in ("clock", "position", "last"))

    def _saved(self) -> dict[str, Tensor]:
        saved = {"flat": self.flat, "grad": self.grad, "fault": self._fault}
        return saved | {f"optimizer.{name}": array for name, array in self._optim.items()}
