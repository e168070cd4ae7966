"""What every credit rule is: frozen settings, and a backward pass over the window that has just closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..errors import ConfigError
from ..macrostate import Macrostate
from ..replay import Replay, ReplayEvents
from ..window import Window

Trigger = Literal["clock", "replay"]


@dataclass(frozen=True, kw_only=True)
class CreditRule(ABC):
    """Settings every rule answers for.

    ``recalls``: whether there is a memory to read; ``k_top`` microstates are read per step; every ``k_att``-th state is
    offered to memory; credit runs ``k_trunc`` steps along the main chain; an update comes every ``block`` steps;
    at most ``budget`` segments per stream and update; ``whole_sequences``: whether streams must be in phase and of known
    length; ``forgets``: whether every step starts from the zero state; ``attends``: whether it is a rule of an
    `AttentiveLearner`, no streaming one; ``keeps``: name of the retention that such a rule needs.
    """

    name: ClassVar[str]
    recalls: ClassVar[bool] = False
    whole_sequences: ClassVar[bool] = False
    forgets: ClassVar[bool] = False
    attends: ClassVar[bool] = False
    keeps: ClassVar[str | None] = None

    k_trunc: int = 5

    def __post_init__(self) -> None:
        if self.k_trunc < 1:
            raise ConfigError(f"k_trunc = {self.k_trunc}: must be at least 1")

    @property
    def block(self) -> int:
        """Steps between two updates."""
        return self.k_trunc

    @property
    def k_top(self) -> int:
        """Microstates read per step."""
        return 0

    @property
    def k_att(self) -> int:
        """Every k_att-th hidden state is offered to the macrostate."""
        return 1

    @property
    def budget(self) -> int:
        """Segments replayed per stream and update, at most."""
        return 0

    @property
    def negligible(self) -> float:
        """Credits below this fraction of the update's greatest are not replayed."""
        return 0.0

    @property
    def replay_threshold(self) -> float:
        """Credits below this multiple of the usual one are not replayed; 0 where that does not matter."""
        return 0.0

    @property
    def replay_share(self) -> float:
        """Of the replays of all streams together, the part that an update may have."""
        return 1.0

    @property
    def explore(self) -> float:
        """Temperature at which recall explores while learning; 0 where it does not."""
        return 0.0

    @property
    def explore_fades(self) -> bool:
        """Whether fewer sequences explore the better recall does without; otherwise half of them do."""
        return False

    @property
    def trigger(self) -> Trigger:
        """What makes an update due: the end of every block, or a block that replays much."""
        return "clock"

    @abstractmethod
    def backward(self, window: Window, memory: Macrostate | None, replay: Replay | None) -> ReplayEvents | None:
        """Adds the gradient of the block's learning signals to the flat gradient; returns what was replayed."""
