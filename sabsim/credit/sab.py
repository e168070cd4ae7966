"""Sparse Attentive Backtracking with one hop (Ke et al. 2017, sections 3 and 7.2), in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from ..macrostate import Macrostate
from ..replay import Replay, ReplayEvents
from ..window import Window
from ._base import CreditRule, Trigger


@dataclass(frozen=True, kw_only=True)
class SAB(CreditRule):
    """Credit flows ``k_trunc`` steps along the main chain, jumps to recalled microstates, and is replayed around them.

    Args (symbol, unit):
        k_top: microstates recalled per step.
        k_trunc: steps of the main chain and of a segment.
        k_att: every k_att-th hidden state is offered to the macrostate.
        replays: segments per stream and update at most, those of greatest credit; None means k_top; 0 is recall without
            replay.
        update_every: steps between updates, 1 .. k_trunc; None means k_trunc.
        explore: temperature of recall in every other sequence (at random) while learning, never in evaluation: saliences
            are divided by it, and the k_top are drawn by them with Gumbel noise; 0 is off. Only the softmax sparsifier
            draws, the others choose by score alone.
        explore_fades: fewer and fewer sequences explore as recall learns to do better than they do (see Fading); otherwise
            it is always every other one.
        negligible: credits whose norm is below this fraction of the update's greatest are not replayed.
        replay_threshold: credits whose norm is below this multiple of the usual greatest one (a running root mean square
            over updates) are not replayed: updates with little to tell the past then replay nothing; 0 is off.
        replay_share: of streams * ``replays`` segments an update replays at most this part (rounded up), those of greatest
            credit of all: for many streams with rare signals, where a replay costs the same with and without credit.
        trigger: ``clock`` updates after every block; ``replay`` only after a block whose replayed credit exceeds its
            running mean, the gradients of the blocks between being accumulated.

    Raises ConfigError: for a value out of range.
    """

    name: ClassVar[str] = "sab"
    recalls: ClassVar[bool] = True

    k_top: int = 5
    k_att: int = 1
    replays: int | None = None
    update_every: int | None = None
    explore: float = 10.0
    explore_fades: bool = True
    negligible: float = 0.02
    replay_threshold: float = 0.0
    replay_share: float = 1.0
    trigger: Trigger = "clock"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, least in (("k_top", self.k_top, 1), ("k_att", self.k_att, 1), ("replays", self.budget, 0)):
            if value < least:
                raise ConfigError(f"{name} = {value}: must be at least {least}")
        if not 1 <= self.block <= self.k_trunc:
            raise ConfigError(f"update_every = {self.update_every}: must be between 1 and k_trunc = {self.k_trunc}")
        if self.explore < 0:
            raise ConfigError(f"explore = {self.explore}: must be 0 (off) or more")
        if not 0 <= self.negligible <= 1:
            raise ConfigError(f"negligible = {self.negligible}: must be between 0 and 1")
        if self.replay_threshold < 0:
            raise ConfigError(f"replay_threshold = {self.replay_threshold}: must be 0 (off) or more")
        if not 0 < self.replay_share <= 1:
            raise ConfigError(f"replay_share = {self.replay_share}: must be above 0 and at most 1")
        if self.trigger not in ("clock", "replay"):
            raise ConfigError(f"trigger = {self.trigger!r}: must be clock or replay")

    @property
    def budget(self) -> int:
        return self.k_top if self.replays is None else self.replays

    @property
    def block(self) -> int:
        return self.k_trunc if self.update_every is None else self.update_every

    def backward(self, window: Window, memory: Macrostate | None, replay: Replay | None) -> ReplayEvents | None:
        credits = window.backward(memory)
        if replay is None or memory is None or credits is None:
            return None
        slot, norm = replay.choose(credits)
        norm = replay.admit(norm)
        length = replay.backward(credits, slot, norm, memory)
        return replay.describe(window, memory, credits, slot, norm, length)
