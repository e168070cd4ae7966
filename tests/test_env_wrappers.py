"""The wrappers, what they save, and what a truncation says about bootstrapping."""

from __future__ import annotations

import json
import os
from typing import Any

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import gymnasium as gym
import numpy as np
import pytest
import sabsim.envs
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from gymnasium.utils.env_checker import check_env, data_equivalence
from sabsim.envs import OneHot, PreviousActionReward, TimeLimitAware


class Count(gym.Env[Any, Any]):
    """Counts its steps and terminates at ``end``; the observation is a value of ``space`` that shows the count."""

    def __init__(self, space: Any, end: int = 5, actions: int = 3, start: int = 0) -> None:
        self.observation_space, self.action_space = space, Discrete(actions, start=start)
        self.end, self.count = end, 0

    def _observe(self) -> Any:
        if isinstance(self.observation_space, Discrete):
            return int(self.observation_space.start) + self.count
        if isinstance(self.observation_space, MultiDiscrete):
            return np.array([self.count % 2, self.count % 3])
        if isinstance(self.observation_space, Dict):
            return {"x": np.array([self.count], dtype=np.float32)}
        return np.array([self.count], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return self._observe(), self.count / 2, self.count == self.end, False, {}

    def get_state(self) -> dict[str, Any]:
        return {"count": self.count}

    def set_state(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


BOX = Box(0, 10, (1,), np.float32)


def test_previous_action_and_reward_are_appended() -> None:
    env = PreviousActionReward(Count(BOX, start=4))
    assert env.observation_space.shape == (5,)
    assert env.reset()[0].tolist() == [0, 0, 0, 0, 0]
    assert env.step(6)[0].tolist() == [1, 0, 0, 1, 0.5]
    assert env.step(4)[0].tolist() == [2, 1, 0, 0, 1.0]
    observation, _ = env.reset()
    assert observation.tolist() == [0, 0, 0, 0, 0], "nothing of the last episode is told"
    assert observation.dtype == np.float32


def test_previous_action_and_reward_of_a_dict() -> None:
    env = PreviousActionReward(Count(Dict({"x": BOX})))
    env.reset()
    observation = env.step(1)[0]
    assert observation in env.observation_space
    assert {k: v.tolist() for k, v in observation.items()} == {
        "x": [1.0], "previous_action": [0.0, 1.0, 0.0], "previous_reward": [0.5]
    }  # fmt: skip


@pytest.mark.parametrize(("reward_range", "told"), [((-1.0, 0.75), 0.75), ((1.25, 2.0), 1.25)])
def test_the_told_reward_is_clipped_and_the_paid_one_is_not(reward_range: tuple[float, float], told: float) -> None:
    env = PreviousActionReward(Count(BOX), reward_range=reward_range)
    env.reset()
    env.step(0)
    observation, reward, *_ = env.step(0)
    assert (observation[-1], reward) == (told, 1.0)
    assert observation in env.observation_space


def test_one_hot() -> None:
    env = OneHot(Count(Discrete(6, start=-2)))
    codes = [env.reset()[0], env.step(0)[0], env.step(0)[0]]
    assert [c.tolist() for c in codes] == np.eye(6)[:3].tolist()
    assert all(c.dtype == np.float32 and c in env.observation_space for c in codes)
    env = OneHot(Count(MultiDiscrete([2, 3])))
    assert env.reset()[0].tolist() == [1, 0, 1, 0, 0]
    assert env.step(0)[0].tolist() == [0, 1, 0, 1, 0]


def ends(env: gym.Env[Any, Any], steps: int) -> list[tuple[bool, bool, bool]]:
    env.reset()
    results = [env.step(0) for _ in range(steps)]
    return [(r[2], r[3], r[4]["time_limit"]) for r in results]


def test_a_limit_that_is_not_told_truncates() -> None:
    assert ends(TimeLimitAware(Count(BOX), max_steps=3), 3) == [(False, False, False)] * 2 + [(False, True, True)]


def test_a_limit_that_is_told_terminates() -> None:
    env = TimeLimitAware(Count(BOX), max_steps=4, told=True)
    assert ends(env, 4) == [(False, False, False)] * 3 + [(True, False, True)]
    told = [env.reset()[0], *(env.step(0)[0] for _ in range(4))]
    assert [float(o[-1]) for o in told] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert all(o in env.observation_space for o in told)
    env = TimeLimitAware(Count(Dict({"x": BOX})), max_steps=4, told=True)
    env.reset()
    assert env.step(0)[0]["time_left"].tolist() == [0.75]


@pytest.mark.parametrize("told", [False, True])
def test_a_step_that_terminates_by_itself_is_not_truncated(told: bool) -> None:
    """Gymnasium's TimeLimit reports both there; a learner that bootstraps on ``truncated`` would then be wrong."""
    assert ends(TimeLimitAware(Count(BOX, end=3), max_steps=3, told=told), 3)[-1] == (True, False, False)
    plain = gym.wrappers.TimeLimit(Count(BOX, end=3), 3)
    plain.reset()
    assert [plain.step(0)[2:4] for _ in range(3)][-1] == (True, True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PreviousActionReward(Count(Discrete(3))), "the observation space is"),
        (lambda: PreviousActionReward(Count(BOX), reward_range=(1.0, 1.0)), "reward_range is"),
        (lambda: OneHot(Count(BOX)), "the observation space is"),
        (lambda: TimeLimitAware(Count(BOX), max_steps=0), "max_steps is 0; it must be an integer of at least 1"),
        (lambda: TimeLimitAware(Count(Discrete(3)), max_steps=3, told=True), "the observation space is"),
        (lambda: TimeLimitAware(Count(BOX), max_steps=3, told=2), "told is 2; it must be True or False"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def wrapped() -> gym.Env[Any, Any]:
    env = gym.make("sabsim/LinearTrack-v0", length=4, laps_per_epoch=2)
    return PreviousActionReward(TimeLimitAware(env, max_steps=61, told=True), reward_range=(0.0, 4.0))


def test_gymnasium_checks_a_wrapped_environment() -> None:
    with pytest.warns(UserWarning, match="wrapped"):
        check_env(wrapped(), skip_render_check=True)


def test_a_wrapped_environment_is_saved_with_its_wrappers() -> None:
    env = wrapped()
    env.reset(seed=3)
    generator = np.random.default_rng(0)
    for action in generator.integers(3, size=40):
        env.step(action)
    saved = json.loads(json.dumps(sabsim.envs.get_state(env)))
    assert [name for name, _ in saved["wrappers"]][:3] == ["PreviousActionReward", "TimeLimitAware", "TimeLimit"]
    copy = wrapped()
    sabsim.envs.set_state(copy, saved)
    actions = generator.integers(3, size=200)
    traces = []
    for one in (env, copy):
        trace: list[Any] = []
        for action in actions:
            trace.append(one.step(action))
            if trace[-1][2] or trace[-1][3]:
                trace.append(one.reset())
        traces.append(trace)
    assert data_equivalence(*traces, exact=True)


def test_what_cannot_be_saved_says_so() -> None:
    with pytest.raises(ValueError, match="CartPoleEnv cannot be saved"):
        sabsim.envs.get_state(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="RecordEpisodeStatistics cannot be saved"):
        sabsim.envs.get_state(gym.wrappers.RecordEpisodeStatistics(Count(BOX)))
    saved = sabsim.envs.get_state(TimeLimitAware(Count(BOX), max_steps=3))
    with pytest.raises(ValueError, match="saved state has the wrapper TimeLimitAware"):
        sabsim.envs.set_state(Count(BOX), saved)
    with pytest.raises(ValueError, match="which the saved state has not"):
        sabsim.envs.set_state(TimeLimitAware(Count(BOX), max_steps=3), sabsim.envs.get_state(Count(BOX)))


def test_around_minigrid() -> None:
    pytest.importorskip("minigrid")
    env = PreviousActionReward(TimeLimitAware(gym.make("MiniGrid-MemoryS7-v0"), max_steps=20, told=True))
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"image", "direction", "mission", "previous_action", "previous_reward", "time_left"}
    assert env.step(2)[0] in env.observation_space
