"""What a film shows: plain data of one episode. ``sabsim.agents.watch`` returns it; anything else of this shape will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""RGB, ``(height, width, 3)``."""


class Reminding(Protocol):
    """Step ``step`` read what step ``source`` left, with the recall weight ``weight``."""

    @property
    def step(self) -> int: ...
    @property
    def source(self) -> int: ...
    @property
    def weight(self) -> float: ...


class Replay(Reminding, Protocol):
    """After window ``window``, ``credit`` went to step ``source`` and ``length - 1`` steps before it."""

    @property
    def window(self) -> int: ...
    @property
    def credit(self) -> float: ...
    @property
    def length(self) -> int: ...


class Episode(Protocol):
    """One episode, or its beginning if not ``over``.

    ``first``: the step that the first of the ``frames`` shows; ``thumbnails``: small ones of every step from 0 on, as are
    ``action``, ``reward``, ``value`` and ``td_error``, ``(steps,)``. ``window``: steps between two updates. ``recalls``,
    ``replays``: whether the learner can. ``success``: whether it went well, None where nobody tells.
    """

    @property
    def first(self) -> int: ...
    @property
    def frames(self) -> Sequence[Picture]: ...
    @property
    def thumbnails(self) -> Sequence[Picture]: ...
    @property
    def action(self) -> NDArray[np.int64]: ...
    @property
    def action_names(self) -> Mapping[int, str]: ...
    @property
    def reward(self) -> NDArray[np.float64]: ...
    @property
    def value(self) -> NDArray[np.float64]: ...
    @property
    def td_error(self) -> NDArray[np.float64]: ...
    @property
    def window(self) -> int: ...
    @property
    def recalls(self) -> bool: ...
    @property
    def replays(self) -> bool: ...
    @property
    def recalled(self) -> Sequence[Reminding]: ...
    @property
    def replayed(self) -> Sequence[Replay]: ...
    @property
    def over(self) -> bool: ...
    @property
    def success(self) -> bool | None: ...
