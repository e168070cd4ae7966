"""Running means and deviations (Welford 1962; by batches, Chan, Golub & LeVeque 1983), of observations and rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

CLIP = 8.0
"""Standard deviations from the mean beyond which an observation is cut off."""
_LEAST = 1e-4
"""A number whose standard deviation is below this has not varied: it is centred, not blown up."""


class Running:
    """Mean and variance of ``size`` numbers, over all rows met."""

    def __init__(self, size: int) -> None:
        self.count = 0.0
        self.mean, self.squares = np.zeros(size), np.zeros(size)

    def meet(self, rows: Array) -> None:
        """Takes in ``rows`` (any, size)."""
        count = len(rows)
        mean = rows.mean(0, dtype=np.float64)
        apart = mean - self.mean
        total = self.count + count
        self.squares += np.square(rows - mean).sum(0) + apart * apart * (self.count * count / total)
        self.mean += apart * (count / total)
        self.count = total

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Standard deviations ``(size,)``; 1 where nothing has varied."""
        found = np.sqrt(self.squares / max(self.count, 1.0))
        return np.where(found < _LEAST, 1.0, found)

    def state(self) -> dict[str, Any]:
        """As JSON can hold it, exactly."""
        return {"count": self.count, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """The opposite of ``state``."""
        self.count = float(state["count"])
        self.mean[:], self.squares[:] = state["mean"], state["squares"]


class Normaliser:
    """Observations to mean 0 and standard deviation 1 over all that was met, cut off at ``CLIP``.

    The scale is renewed after every ``meet``; between them it is constant.
    """

    def __init__(self, size: int) -> None:
        self.running = Running(size)
        self._renew()

    def meet(self, rows: Array) -> None:
        """Takes in observations ``(any, size)``, and renews the scale."""
        self.running.meet(rows)
        self._renew()

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """``rows`` (any, size) on the common scale, as a new array."""
        return np.clip((rows - self._mean) * self._factor, -CLIP, CLIP)

    def _renew(self) -> None:
        self._mean = self.running.mean.astype(np.float32)
        self._factor = (1 / self.running.deviation).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """As JSON can hold it, exactly."""
        return self.running.state()

    def restore(self, state: dict[str, Any]) -> None:
        """The opposite of ``state``."""
        self.running.restore(state)
        self._renew()


class RewardScale:
    """What rewards are divided by: the standard deviation of the discounted sum of each stream's rewards so far.

    Engstrom et al. 2020 (arXiv 2005.12729), section 3: the scale of values then does not depend on the task's.
    """

    def __init__(self, streams: int, gamma: float) -> None:
        self._gamma, self._sums = gamma, np.zeros(streams)
        self._running = Running(1)

    def __call__(self, reward: Array, over: NDArray[np.bool_]) -> Array:
        """Rewards ``(streams,)`` of one step scaled; ``over``: where the episode ended with it."""
        self._sums = self._gamma * self._sums + reward
        self._running.meet(self._sums[:, None])
        self._sums[over] = 0
        return reward / self._running.deviation[0]

    def follow(self, state: dict[str, Any]) -> None:
        """Takes over what another one of that ``state`` has met, but not its streams' sums."""
        self._running.restore(state["running"])

    def state(self) -> dict[str, Any]:
        """As JSON can hold it, exactly."""
        return {"sums": self._sums.tolist(), "running": self._running.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """The opposite of ``state``."""
        self._sums[:] = state["sums"]
        self._running.restore(state["running"])
