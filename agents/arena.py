"""Environments side by side in one process: stepped together, each begun anew when its episode ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from sabsim.envs import get_state, set_state

from sabsim.errors import ConfigError, NonFiniteError

from .observations import LARGEST, Translator
from .pictures import Picture

Make = Callable[[], gym.Env[Any, Any]]


class Arena:
    """``streams`` environments, and what an agent sees of them: the observation, its last action and its last reward.

    Args: ``make``: makes one environment, the same each time. ``seed``: environment number i is begun with ``seed`` + i.
    ``sees_action``, ``sees_reward``: whether the last action (one-hot) and reward are part of x; both are 0 when an
    episode begins. ``largest``: numbers of an observation at most.

    ``x`` (streams, size) float32: what is seen now; ``begins`` (streams,) bool: whether that begins an episode. Of the last
    step: ``reward``, ``terminated``, ``truncated`` (streams,), ``final`` (streams, size), what was seen at the end where an
    episode ended, and ``infos``; ``here``: the infos that came with what is seen now, which differ where an episode begins.

    Raises ConfigError: for actions that are not Discrete, or observations that cannot be translated.
    """

    def __init__(
        self,
        make: Make,
        *,
        streams: int,
        seed: int,
        sees_action: bool = True,
        sees_reward: bool = True,
        largest: int = LARGEST,
    ) -> None:
        self.environments = [make() for _ in range(streams)]
        first = self.environments[0]
        if not isinstance(first.action_space, Discrete):
            raise ConfigError(f"action space {first.action_space}: must be Discrete")
        self.actions, self._start = int(first.action_space.n), int(first.action_space.start)
        self._translator = Translator(first.observation_space, largest=largest)
        self._seen = self._translator.size
        for other in self.environments[1:]:
            actions, size = other.action_space, Translator(other.observation_space, largest=largest).size
            if actions != first.action_space or size != self._seen:
                raise ConfigError(
                    f"environments side by side must be alike: {first.action_space} and {self._seen} numbers seen by one, "
                    f"{actions} and {size} by another"
                )
        self.sees_action, self.sees_reward, self.largest = sees_action, sees_reward, largest
        self.size = self._seen + self.actions * sees_action + sees_reward
        self.streams = streams
        self.x, self.final = np.zeros((2, streams, self.size), dtype=np.float32)
        self.begins = np.ones(streams, dtype=bool)
        self.reward = np.zeros(streams)
        self.terminated, self.truncated = np.zeros((2, streams), dtype=bool)
        self.infos: list[dict[str, Any]] = [{} for _ in range(streams)]
        self.here = self.infos.copy()
        self.reset(seed)

    def another(self, make: Make, *, streams: int, seed: int) -> Arena:
        """An arena of other environments that shows of them what this one shows."""
        return Arena(
            make,
            streams=streams,
            seed=seed,
            sees_action=self.sees_action,
            sees_reward=self.sees_reward,
            largest=self.largest,
        )

    @property
    def pictures(self) -> list[Picture]:
        """Where x shows pictures."""
        return self._translator.pictures

    def reset(self, seed: int) -> None:
        """Begins an episode in each, with seeds from ``seed`` on."""
        self.begins[:] = True
        for stream, environment in enumerate(self.environments):
            observation, self.here[stream] = environment.reset(seed=seed + stream)
            self._show(self.x[stream], observation, None, 0.0)

    def step(self, actions: list[int]) -> None:
        """One step of each; those whose episode ends begin another at once.

        Raises NonFiniteError: for an observation or reward that is NaN or infinite.
        """
        for stream, (environment, action) in enumerate(zip(self.environments, actions, strict=True)):
            seen, reward, terminated, truncated, info = environment.step(self._start + action)
            self.infos[stream] = self.here[stream] = info
            paid = float(reward)
            self.reward[stream] = paid
            self.terminated[stream], self.truncated[stream] = terminated, truncated and not terminated
            self.begins[stream] = over = terminated or truncated
            if over:
                self._show(self.final[stream], seen, action, paid)
                seen, self.here[stream] = environment.reset()
                self._show(self.x[stream], seen, None, 0.0)
            else:
                self._show(self.x[stream], seen, action, paid)
        if not all(np.isfinite(array).all() for array in (self.reward, self.x, self.final)):
            self._complain()

    def _show(self, row: NDArray[np.float32], observation: Any, action: int | None, reward: float) -> None:
        seen = self._seen
        self._translator.write(observation, row[:seen])
        if self.sees_action:
            row[seen : seen + self.actions] = 0
            if action is not None:
                row[seen + action] = 1
        if self.sees_reward:
            row[-1] = reward

    def _complain(self) -> None:
        for name, array in (("reward", self.reward[:, None]), ("observation", self.x), ("observation", self.final)):
            bad = ~np.isfinite(array).all(1)
            if bad.any():
                raise NonFiniteError(f"{name} is not finite in stream {int(bad.argmax())}")

    def render(self, stream: int = 0) -> Any:
        """The picture of one environment, as it draws itself."""
        return self.environments[stream].render()

    def close(self) -> None:
        """Closes all environments."""
        for environment in self.environments:
            environment.close()

    def state(self) -> dict[str, Any]:
        """Everything, environments included, as JSON can hold it.

        Raises ValueError: if an environment cannot be saved.
        """
        return {
            "environments": [get_state(environment) for environment in self.environments],
            "x": self.x.tolist(),
            "begins": self.begins.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The opposite of ``state``."""
        for environment, saved in zip(self.environments, state["environments"], strict=True):
            set_state(environment, saved)
        self.x[:], self.begins[:] = state["x"], state["begins"]
