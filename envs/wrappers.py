"""Wrappers for agents with memory: the previous action and reward, one-hot codes, and time limits told or marked.

Those that Gymnasium and MiniGrid have are used from there: ``minigrid.wrappers.ImgObsWrapper``,
``OneHotPartialObsWrapper``, ``ViewSizeWrapper`` and others; ``gymnasium.wrappers.TransformReward``, ``RescaleAction``
and others.
"""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from ._base import check_flag, check_integer

AnyEnv = gym.Env[Any, Any]
StepResult = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]


class PreviousActionReward(gym.Wrapper[Any, int, Any, int], RecordConstructorArgs):
    """Tells the agent what it did last (one-hot, all 0 after a reset) and the reward of that (0 after a reset).

    A Box observation of shape ``(d,)`` becomes float32 of shape ``(d + actions + 1,)``; a Dict gains the entries
    ``previous_action`` of shape ``(actions,)`` and ``previous_reward`` of shape ``(1,)``.
    """

    def __init__(self, env: AnyEnv, *, reward_range: tuple[float, float] = (-np.inf, np.inf)) -> None:
        """The reward told is clipped to ``reward_range`` (low, high), which also bounds the observation space.

        Raises ``ValueError`` unless actions are Discrete and observations a Box of one dimension or a Dict.
        """
        low, high = reward_range
        if not low < high:
            raise ValueError(f"reward_range is {reward_range}; it must be (low, high) with low < high")
        if not isinstance(env.action_space, Discrete):
            raise ValueError(f"the action space is {env.action_space}; PreviousActionReward needs a Discrete one")
        RecordConstructorArgs.__init__(self, reward_range=reward_range)
        gym.Wrapper.__init__(self, env)
        self.reward_range = (float(low), float(high))
        self.first, self.actions = int(env.action_space.start), int(env.action_space.n)
        self.previous_action, self.previous_reward = -1, 0.0
        space = env.observation_space
        told = Box(np.float32(low), np.float32(high), (1,), np.float32)
        did = Box(0.0, 1.0, (self.actions,), np.float32)
        if isinstance(space, Dict):
            self.observation_space = Dict({**space.spaces, "previous_action": did, "previous_reward": told})
        elif isinstance(space, Box) and len(space.shape) == 1:
            ends = [np.concatenate([getattr(s, end) for s in (space, did, told)]) for end in ("low", "high")]
            self.observation_space = Box(ends[0].astype(np.float32), ends[1].astype(np.float32), dtype=np.float32)
        else:
            raise ValueError(f"the observation space is {space}; it must be a Dict or a Box of one dimension")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Nothing has been done and nothing received yet."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.previous_action, self.previous_reward = -1, 0.0
        return self._tell(observation), info

    def step(self, action: int) -> StepResult:
        """The observation tells ``action`` and the reward that this step returns."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        low, high = self.reward_range
        self.previous_action = int(action) - self.first
        self.previous_reward = min(max(float(reward), low), high)
        return self._tell(observation), reward, terminated, truncated, info

    def _tell(self, observation: Any) -> Any:
        tail = np.zeros(self.actions + 1, dtype=np.float32)
        if self.previous_action >= 0:
            tail[self.previous_action] = 1.0
        tail[-1] = self.previous_reward
        if isinstance(observation, dict):
            return {**observation, "previous_action": tail[:-1], "previous_reward": tail[-1:]}
        return np.concatenate([np.asarray(observation, dtype=np.float32), tail])

    def get_wrapper_state(self) -> dict[str, Any]:
        """What it remembers, for ``sabsim.envs.get_state``."""
        return {"previous_action": self.previous_action, "previous_reward": self.previous_reward}

    def set_wrapper_state(self, state: dict[str, Any]) -> None:
        """The opposite of ``get_wrapper_state``."""
        self.previous_action, self.previous_reward = int(state["previous_action"]), float(state["previous_reward"])


class OneHot(gym.ObservationWrapper[NDArray[np.float32], int, Any], RecordConstructorArgs):
    """A Discrete observation as a one-hot code of shape ``(n,)``; MultiDiscrete as the codes one after the other.

    float32, where Gymnasium's ``FlattenObservation`` keeps int64.
    """

    def __init__(self, env: AnyEnv) -> None:
        """Raises ``ValueError`` unless observations are Discrete or MultiDiscrete."""
        space = env.observation_space
        if isinstance(space, Discrete):
            sizes, starts = [int(space.n)], [int(space.start)]
        elif isinstance(space, MultiDiscrete):
            sizes, starts = [int(n) for n in space.nvec.flat], [int(n) for n in space.start.flat]
        else:
            raise ValueError(f"the observation space is {space}; OneHot needs a Discrete or MultiDiscrete one")
        RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        self.shifts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) - np.asarray(starts, dtype=np.int64)
        self.observation_space = Box(0.0, 1.0, (sum(sizes),), np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        """The code of ``observation``."""
        code = np.zeros(self.observation_space.shape or (), dtype=np.float32)
        code[np.asarray(observation, dtype=np.int64).reshape(-1) + self.shifts] = 1.0
        return code

    def get_wrapper_state(self) -> dict[str, Any]:
        """Nothing is remembered."""
        return {}

    def set_wrapper_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class TimeLimitAware(gym.Wrapper[Any, int, Any, int], RecordConstructorArgs):
    """A time limit of ``max_steps``, in one of the two ways that leave values right (Pardo et al. 2018, arXiv 1712.00378).

    ``told=False``: the limit is no part of the task. It truncates, unless the step terminates by itself (Gymnasium's
    ``TimeLimit`` then reports both), so that ``truncated`` alone says: bootstrap from this observation.
    ``told=True``: the limit is part of the task. The share of time left (1 after a reset, 0 at the end) is appended
    to a Box observation of one dimension, or is the entry ``time_left`` of a Dict, and the end is a termination: do
    not bootstrap.

    ``info["time_limit"]`` is True where the limit ended the episode. Make the environment with
    ``max_episode_steps=-1`` if its registered limit is not to apply as well.
    """

    def __init__(self, env: AnyEnv, *, max_steps: int, told: bool = False) -> None:
        """Raises ``ValueError`` for a limit below 1, or, if ``told``, for observations it cannot be told with."""
        self.max_steps, self.told = check_integer("max_steps", max_steps, 1), check_flag("told", told)
        RecordConstructorArgs.__init__(self, max_steps=max_steps, told=told)
        gym.Wrapper.__init__(self, env)
        self.elapsed = 0
        space = env.observation_space
        if not self.told:
            return
        if isinstance(space, Dict):
            self.observation_space = Dict({**space.spaces, "time_left": Box(0.0, 1.0, (1,), np.float32)})
        elif isinstance(space, Box) and len(space.shape) == 1:
            low, high = np.append(space.low, 0.0).astype(np.float32), np.append(space.high, 1.0).astype(np.float32)
            self.observation_space = Box(low, high, dtype=np.float32)
        else:
            raise ValueError(f"the observation space is {space}; telling the time needs a Dict or a Box of one dimension")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """All the time is left."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.elapsed = 0
        return self._tell(observation), {**info, "time_limit": False}

    def step(self, action: int) -> StepResult:
        """One step less is left."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.elapsed += 1
        ended = self.elapsed >= self.max_steps and not terminated
        terminated = terminated or (ended and self.told)
        truncated = (truncated or ended) and not terminated
        return self._tell(observation), reward, terminated, truncated, {**info, "time_limit": ended}

    def _tell(self, observation: Any) -> Any:
        if not self.told:
            return observation
        left = np.float32(max(0.0, 1.0 - self.elapsed / self.max_steps))
        if isinstance(observation, dict):
            return {**observation, "time_left": np.array([left], dtype=np.float32)}
        return np.append(np.asarray(observation, dtype=np.float32), left)

    def get_wrapper_state(self) -> dict[str, Any]:
        """What it remembers, for ``sabsim.envs.get_state``."""
        return {"elapsed": self.elapsed}

    def set_wrapper_state(self, state: dict[str, Any]) -> None:
        """The opposite of ``get_wrapper_state``."""
        self.elapsed = int(state["elapsed"])
