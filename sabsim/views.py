"""What there is to see of a learner: parameters, gradient, what was read, hidden states. Views, computed by nobody."""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor

from .credit import CreditRule
from .errors import ConfigError
from .familiar import FamiliarRange
from .macrostate import Macrostate
from .network import Network, Parameters
from .usual import UsualInput
from .window import Window


class ReadEvents(NamedTuple):
    """What the last step read: ``slot``, ``weight`` (0: not read) and ``source_step``, each ``(streams, K)``."""

    slot: Tensor
    weight: Tensor
    source_step: Tensor


class _InOneVector(Protocol):
    """Parameters and their gradient, each in one flat vector ``(size,)`` with views by name."""

    flat: Tensor
    grad: Tensor

    def named(self, flat: Tensor) -> dict[str, Tensor]: ...


Vector = TypeVar("Vector", bound=_InOneVector)


class LearnerViews(Generic[Vector]):
    """Of any learner whose parameters lie in one flat vector and whose optimiser keeps its state by name."""

    _parameters: Vector
    _optim: dict[str, Tensor]

    @property
    def flat(self) -> Tensor:
        """All parameters, ``(size,)``."""
        return self._parameters.flat

    @property
    def grad(self) -> Tensor:
        """The gradient of the last update (with trigger ``replay``: accumulated since the last one), ``(size,)``."""
        return self._parameters.grad

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Views of the parameters by name: changing one changes the learner."""
        return self._parameters.named(self.flat)

    @property
    def grads(self) -> dict[str, Tensor]:
        """Views of the gradient by the same names."""
        return self._parameters.named(self.grad)

    @property
    def learned(self) -> dict[str, Tensor]:
        """Views by name of all that an evaluation needs.

        Once there were updates, and if the optimiser keeps their average, these are the averaged parameters.
        """
        averaged = "average" in self._optim and int(self.updates) > 0
        return self._parameters.named(self._optim["average"]) if averaged else self.parameters

    @property
    def updates(self) -> Tensor:
        """Optimiser steps taken, 0-d int64."""
        return self._optim["updates"]

    @property
    def gradient_norm(self) -> Tensor:
        """Global norm, before the clip, of the gradient of the last optimiser step, 0-d."""
        return self._optim["norm"]


class StreamingViews(LearnerViews[Parameters]):
    """Of a ``StreamingLearner``: also its memory, what it read, its hidden states, and where in a block it is."""

    network: Network
    credit: CreditRule
    window: Window
    _memory: Macrostate | None
    _usual: UsualInput | None
    _familiar: FamiliarRange | None
    _position: int

    @property
    def learned(self) -> dict[str, Tensor]:
        """Views by name of all that an evaluation needs: parameters, usual input, familiar range, if there are such.

        Once there were updates, and if the optimiser keeps their average, these are the averaged parameters.
        """
        rooms = {"usual": self._usual, "familiar": self._familiar}
        more = {f"{at}.{name}": array for at, room in rooms.items() if room for name, array in room.arrays.items()}
        return super().learned | more

    @property
    def macrostate(self) -> Macrostate:
        """The memory. Raises ConfigError if the credit rule has none."""
        if self._memory is None:
            raise ConfigError(f"credit = {self.credit.name!r}: this rule recalls nothing and has no macrostate")
        return self._memory

    @property
    def macrostate_bytes(self) -> int:
        """Bytes of the macrostate, all streams."""
        return self._memory.nbytes if self._memory else 0

    @property
    def read(self) -> ReadEvents | None:
        """What the last step read; None without recall."""
        if self._memory is None:
            return None
        rings, last = self.window.rings, self._position - 1
        return ReadEvents(rings["index"][last], rings["weight"][last], rings["stamp"][last])

    @property
    def read_in_block(self) -> ReadEvents | None:
        """What each step of the block just ended read, ``(block, streams, K)``; None without recall."""
        if self._memory is None:
            return None
        rings, block = self.window.rings, slice(self.window.history, self.window.end)
        return ReadEvents(rings["index"][block], rings["weight"][block], rings["stamp"][block])

    @property
    def hidden_in_block(self) -> Tensor:
        """The hidden states h of the block just ended, ``(block, streams, hidden)``; valid as ``hidden`` is."""
        return self.window.rings["readout"][self.window.history : self.window.end, :, : self.network.hidden]

    @property
    def hidden(self) -> Tensor:
        """The hidden state h of the last step, ``(streams, hidden)``; valid until the next ``step`` or ``reset``."""
        return self.window.rings["readout"][self._position - 1][:, : self.network.hidden]

    @property
    def block_is_empty(self) -> bool:
        """Whether no step of the block under way was taken yet."""
        return self._position == self.window.history

    @property
    def block_is_full(self) -> bool:
        """Whether its last step was taken: the next ``reset`` or ``step`` offers its states and begins another."""
        return self._position == self.window.end
