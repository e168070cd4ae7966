"""Evaluation: what was learned plays episodes it was never trained on; nothing is learned and training is not touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from sabsim.errors import ConfigError

from .agent import Agent
from .arena import Make
from .config import AgentConfig
from .episodes import Tally
from .options import SignalOptions
from .success import pays_success

MOST_STREAMS = 64
"""Episodes played side by side, at most."""
LONGEST = 100_000
"""Steps after which an episode is taken to have no end."""


FAR_FROM_ONE = 10.0
"""What lies ahead of an untrained agent, at most, where its rewards need no scale: see ``advice``."""


class Episode(NamedTuple):
    """One episode: the seed its environment began with, the sum of rewards, steps, and whether it went well (or None)."""

    seed: int
    total: float
    length: int
    success: bool | None


@dataclass(frozen=True)
class Evaluation:
    """Episodes in the order of their seeds."""

    episodes: list[Episode]

    @property
    def returns(self) -> NDArray[np.float64]:
        """Sums of rewards, ``(episodes,)``."""
        return np.array([episode.total for episode in self.episodes])

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Steps, ``(episodes,)``."""
        return np.array([episode.length for episode in self.episodes], dtype=np.float64)

    @property
    def judged(self) -> int:
        """Episodes of which the environment tells whether they went well."""
        return sum(episode.success is not None for episode in self.episodes)

    @property
    def successes(self) -> int:
        """Episodes that went well."""
        return sum(episode.success is True for episode in self.episodes)

    @property
    def success(self) -> float | None:
        """Share of the judged episodes that went well; None where none was judged."""
        return self.successes / self.judged if self.judged else None

    @property
    def measure(self) -> float:
        """What ``stop_at`` looks at: success, or the mean return where the environment tells none."""
        return float(self.returns.mean()) if self.success is None else self.success

    def worth(self, gamma: float) -> float:
        """About how much reward lies ahead of a moment, discounted by ``gamma``.

        The mean per step, over 1/(1 - gamma) steps, or over the mean length where episodes end before that.
        """
        length = float(self.lengths.mean())
        ahead = length if gamma == 1 else min(length, 1 / (1 - gamma))
        return float(self.returns.mean()) / length * ahead

    def worst(self, count: int) -> list[Episode]:
        """The episodes that went least well: failures first, then the least returns, then the longest."""
        return sorted(self.episodes, key=lambda e: (e.success is True, e.total, -e.length))[:count]


def advice(untrained: Evaluation, signal: SignalOptions) -> str | None:
    """What would let this task be learned, where an evaluation before any training shows that its rewards are large."""
    ahead = untrained.worth(signal.gamma)
    if signal.scale_reward or abs(ahead) <= FAR_FROM_ONE:
        return None
    return (
        f"what lies ahead is worth {ahead:.0f} on average, far from 1: the value's error may drown the policy's gradient; "
        "--scale-reward mends that"
    )


def sends_nothing(untrained: Evaluation, config: AgentConfig) -> str | None:
    """Why action credit would never send anything, where no episode is as long as the lags that it is for."""
    if config.learner.action_credit == "none":
        return None
    least, longest = 1 / (1 - config.signal.gamma), float(untrained.lengths.max())
    if longest > least + 1:
        return None
    return (
        f"action credit sends value over lags of more than {least:.0f} steps, 1/(1 - gamma), and none of these episodes "
        f"was longer than {longest:.0f}: it will send nothing; a smaller --gamma shortens these lags"
    )


def evaluate(
    agent: Agent,
    config: AgentConfig,
    make: Make,
    *,
    episodes: int,
    seed: int,
    greedy: bool = False,
    after_window: Callable[[int], None] | None = None,
) -> Evaluation:
    """Plays ``episodes`` episodes that begin with the seeds from ``seed`` on.

    Each begins with a seed of its own and each stream has its share beforehand, so that short episodes are not
    counted more often than long ones.

    Args: ``agent``: whose learning is played; it is not touched. ``make``: makes one environment. ``greedy``: whether the
    likeliest action is taken, instead of one drawn from the policy. ``after_window`` hears how many episodes are done.

    Raises ConfigError: for fewer than 1 episode, or one without an end. NonFiniteError: if NaN or infinity was met.
    """
    if episodes < 1:
        raise ConfigError(f"episodes = {episodes}: must be at least 1")
    streams = min(episodes, MOST_STREAMS)
    arena = agent.arena.another(lambda: _Seeded(make(), streams), streams=streams, seed=seed)
    player = agent.evaluator(arena, seed=seed, greedy=greedy)
    tally = Tally(streams, pays=pays_success(arena.environments[0]))
    found: dict[int, Episode] = {}
    played = [0] * streams
    since = 0
    while len(found) < episodes:
        ended = tally.take(player.window())
        since = 0 if ended else since + player.steps
        if since > LONGEST:
            raise ConfigError(
                f"env = {config.env!r}: no episode has ended in {LONGEST} steps, so none can be evaluated; give it a "
                "limit, as in --env-args max_episode_steps=1000"
            )
        for stream, _, total, length, success, _ in ended:
            number = stream + streams * played[stream]
            played[stream] += 1
            if number < episodes:
                found[number] = Episode(seed + number, total, length, success)
        if after_window is not None:
            after_window(len(found))
    player.learner.check()
    arena.close()
    return Evaluation([found[number] for number in range(episodes)])


class _Seeded(gym.Wrapper[Any, Any, Any, Any]):
    """Every episode begins with a seed of its own: the first with the one given, each other with one ``stride`` on."""

    def __init__(self, environment: gym.Env[Any, Any], stride: int) -> None:
        super().__init__(environment)
        self._seed, self._stride = 0, stride

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._seed = self._seed + self._stride if seed is None else seed
        return self.env.reset(seed=self._seed, options=options)
