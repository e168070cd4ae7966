"""Full backpropagation through time over whole sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import ConfigError
from ._base import CreditRule
from .tbptt import TBPTT


@dataclass(frozen=True, kw_only=True)
class BPTT(TBPTT):
    """One update per sequence of ``length`` steps, credit through all of it; memory grows with ``length``.

    Streams must begin their sequences together. Raises ConfigError: if ``length`` is missing, as for an endless stream.
    """

    name: ClassVar[str] = "bptt"
    whole_sequences: ClassVar[bool] = True
    length: int | None = None

    def __post_init__(self) -> None:
        if self.length is None:
            raise ConfigError("credit = 'bptt' needs the sequence's length: an endless stream cannot be unrolled")
        if self.length < 1:
            raise ConfigError(f"length = {self.length}: must be at least 1")
        object.__setattr__(self, "k_trunc", self.length)
        object.__setattr__(self, "update_every", self.length)
        CreditRule.__post_init__(self)


def whole_episodes(*, longest: int | None, update_every: int | None = None) -> TBPTT:
    """Truncated backpropagation that never truncates: credit through whole episodes of at most ``longest`` steps.

    Episodes may differ in length and begin in each stream when they like; the chain is cut where they begin. A signal
    reaches back ``longest`` steps, its own included, and an update comes every ``update_every`` steps (default:
    ``longest``), so the chain has longest + update_every - 1 steps: memory and the work of an update grow with them.

    With frozen parameters the sum of an episode's gradients is that of backpropagation through the whole of it. What it
    cannot do: an episode that outlasts ``longest`` is truncated like any other chain; and where parameters changed during
    an episode, steps of earlier blocks keep the Jacobians of the parameters that they were taken with.

    Raises ConfigError: for no ``longest`` (endless episodes cannot be unrolled), or one or ``update_every`` below 1.
    """
    if longest is None or longest < 1:
        raise ConfigError(f"longest = {longest}: must be at least 1, the steps of the longest episode")
    block = longest if update_every is None else update_every
    if block < 1:
        raise ConfigError(f"update_every = {block}: must be at least 1")
    return TBPTT(k_trunc=longest + block - 1, update_every=block)
