"""Episodes as they end: return, length and success, counted over windows of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from .agent import Played
from .success import succeeded


class Ended(NamedTuple):
    """An episode that has just ended: in which stream, with which step of the window, and how."""

    stream: int
    step: int
    total: float
    length: int
    success: bool | None
    terminated: bool


class Tally:
    """Follows the episodes of ``streams`` streams. ``pays``: what ``success.pays_success`` says of the environment."""

    def __init__(self, streams: int, *, pays: bool) -> None:
        self._pays = pays
        self._total = np.zeros(streams)
        self._length = np.zeros(streams, dtype=np.int64)

    def take(self, played: Played) -> list[Ended]:
        """The episodes that ended in this window, in the order of their ends."""
        over = played.terminated | played.truncated
        if not over.any():
            self._total += played.reward.sum(0)
            self._length += len(over)
            return []
        found = []
        for t, now in enumerate(over):
            self._total += played.reward[t]
            self._length += 1
            for stream in np.flatnonzero(now).tolist():
                terminated = bool(played.terminated[t, stream])
                reward = float(played.reward[t, stream])
                success = succeeded(played.infos[t][stream], terminated=terminated, reward=reward, pays=self._pays)
                total, length = float(self._total[stream]), int(self._length[stream])
                found.append(Ended(stream, t, total, length, success, terminated))
            self._total[now], self._length[now] = 0, 0
        return found

    def begin(self) -> None:
        """All streams begin an episode; those under way are forgotten."""
        self._total[:], self._length[:] = 0, 0

    def state(self) -> dict[str, Any]:
        """As JSON can hold it, exactly."""
        return {"total": self._total.tolist(), "length": self._length.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """The opposite of ``state``."""
        self._total[:], self._length[:] = state["total"], state["length"]


@dataclass
class Figures:
    """Sums over training since the last evaluation, all streams together."""

    episodes: int = 0
    total: float = 0.0
    length: int = 0
    judged: int = 0
    successes: int = 0
    steps: int = 0
    td_error: float = 0.0
    entropy: float = 0.0
    replays: int = 0

    def add(self, played: Played, ended: Sequence[Ended]) -> None:
        """Takes in a window and the episodes that ended in it."""
        self.steps += played.td_error.size
        self.td_error += float(np.abs(played.td_error).sum())
        self.entropy += float(played.entropy.sum())
        if played.events is not None:
            self.replays += int(played.events.valid.sum())
        for episode in ended:
            self.episodes += 1
            self.total += episode.total
            self.length += episode.length
            if episode.success is not None:
                self.judged += 1
                self.successes += episode.success

    def state(self) -> dict[str, Any]:
        """As JSON can hold it, exactly."""
        return asdict(self)
