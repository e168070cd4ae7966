"""What every environment promises, whatever it is about: parametrised over the registration table."""

from __future__ import annotations

import json
import os
import re
from typing import Any

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import gymnasium as gym
import numpy as np
import pytest
import sabsim.envs
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from minigrid.wrappers import ImgObsWrapper
from sabsim.envs import ENVIRONMENTS

IDS = [f"sabsim/{name}-v0" for name in ENVIRONMENTS]
HEADINGS = [
    "Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End", "Arguments",
    "Returns of scripted policies", "References", "Version History",
]  # fmt: skip
every_environment = pytest.mark.parametrize("env_id", IDS)


def play(env: gym.Env[Any, Any], steps: int, generator: np.random.Generator, share_optimal: float = 0.5) -> list[Any]:
    """``steps`` steps of a policy that is now optimal and now random: what came of each, episode after episode."""
    trace: list[Any] = []
    for _ in range(steps):
        if generator.random() < share_optimal:
            action = env.unwrapped.optimal_action()  # type: ignore[attr-defined]
        else:
            action = int(generator.integers(env.action_space.n))  # type: ignore[attr-defined]
        result = env.step(action)
        trace.append((action, *result))
        if result[2] or result[3]:
            trace.append(env.reset())
    return trace


@every_environment
def test_gymnasium_checks_it(env_id: str) -> None:
    check_env(gym.make(env_id).unwrapped, skip_render_check=False)


# A MiniGrid view of 7 x 7 cells is too small for stable-baselines3's default image network; nothing else may be amiss.
@pytest.mark.filterwarnings("ignore:The minimal resolution for an image is 36x36")
@every_environment
def test_stable_baselines3_checks_it(env_id: str) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env: gym.Env[Any, Any] = gym.make(env_id, render_mode="rgb_array").unwrapped
    if isinstance(env.observation_space, gym.spaces.Dict):  # it knows no text, so MiniGrid's mission has to go
        env = ImgObsWrapper(env)
    checker.check_env(env, warn=True, skip_render_check=False)


@every_environment
@pytest.mark.parametrize("share_optimal", [0.0, 0.5, 0.95])
def test_the_same_seed_gives_the_same_thousand_steps(env_id: str, share_optimal: float) -> None:
    traces = []
    for _ in range(2):
        env = gym.make(env_id)
        first = env.reset(seed=11)
        traces.append([first, *play(env, 1000, np.random.default_rng(5), share_optimal)])
    assert data_equivalence(traces[0], traces[1], exact=True)


@every_environment
def test_types_spaces_and_keys_of_every_step(env_id: str) -> None:
    env = gym.make(env_id).unwrapped
    observation, info = env.reset(seed=3)
    keys, clock, generator = set(info), 0, np.random.default_rng(0)
    assert {"phase", "causal_step"} <= keys
    assert observation in env.observation_space
    seen = set()
    for _ in range(1500):
        action = env.optimal_action() if generator.random() < 0.7 else int(generator.integers(env.action_space.n))  # type: ignore[attr-defined]
        observation, reward, terminated, truncated, info = env.step(action)
        clock += 1
        assert id(observation) not in seen, "an observation must be a fresh array"
        assert observation in env.observation_space
        assert type(reward) is float
        assert type(terminated) is bool
        assert type(truncated) is bool
        assert set(info) == keys
        assert all(type(value) in (int, float, str, bool) for value in info.values()), info
        assert -1 <= info["causal_step"] < clock
        if terminated or truncated:
            _, info = env.reset()
            clock = 0
            assert set(info) == keys
            assert info["causal_step"] == -1


@every_environment
def test_an_observation_is_never_changed_afterwards(env_id: str) -> None:
    env = gym.make(env_id)
    kept = [env.reset(seed=0)[0]]
    copies = [json.dumps(_plain(kept[0]))]
    for step in play(env, 200, np.random.default_rng(1)):
        kept.append(step[1] if len(step) == 6 else step[0])
        copies.append(json.dumps(_plain(kept[-1])))
    assert [json.dumps(_plain(k)) for k in kept] == copies


def _plain(value: Any) -> Any:
    """An observation as something JSON can hold."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


@every_environment
def test_a_saved_state_goes_on_bit_for_bit(env_id: str) -> None:
    env = gym.make(env_id)
    env.reset(seed=4)
    play(env, 137, np.random.default_rng(2))
    saved = json.loads(json.dumps(sabsim.envs.get_state(env)))
    copies = [gym.make(env_id) for _ in range(2)]
    for copy in copies:
        sabsim.envs.set_state(copy, saved)
    traces = [play(e, 200, np.random.default_rng(9)) for e in (env, *copies)]
    assert data_equivalence(traces[0], traces[1], exact=True)
    assert data_equivalence(traces[0], traces[2], exact=True)
    assert json.loads(json.dumps(saved)) == saved, "going on must not change what was saved"


@every_environment
def test_a_state_with_other_entries_is_refused(env_id: str) -> None:
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    state = env.get_state()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="state"):
        env.set_state({**state, "another": 1})  # type: ignore[attr-defined]


@every_environment
def test_it_renders_as_text_and_as_a_picture(env_id: str) -> None:
    drawn, written = gym.make(env_id, render_mode="rgb_array"), gym.make(env_id, render_mode="ansi")
    pictures, words = [], []
    for env, frames in ((drawn, pictures), (written, words)):
        generator = np.random.default_rng(0)
        env.reset(seed=0)
        for _ in range(60):
            frames.append(env.render())
            play(env, 1, generator, 0.9)
    assert all(isinstance(w, str) and w.strip() and w.count("\n") <= 12 for w in words)
    assert len({p.shape for p in pictures}) == 1, "all pictures of an environment have one size"
    assert pictures[0].dtype == np.uint8
    assert pictures[0].ndim == 3
    assert pictures[0].shape[2] == 3
    assert len({p.tobytes() for p in pictures}) > 1
    assert len(set(words)) > 1


@every_environment
def test_drawing_changes_nothing(env_id: str) -> None:
    traces = []
    for render_mode in (None, "rgb_array"):
        env = gym.make(env_id, render_mode=render_mode)
        env.reset(seed=1)
        generator, trace = np.random.default_rng(3), []
        for _ in range(100):
            trace += play(env, 1, generator)
            if render_mode:
                env.render()
        traces.append(trace)
    assert data_equivalence(*traces, exact=True)


@every_environment
def test_vectorised(env_id: str) -> None:
    envs = gym.make_vec(env_id, num_envs=3, vectorization_mode="sync")
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    _, info = envs.reset(seed=0)
    assert info["causal_step"].tolist() == [-1, -1, -1]
    singles = [gym.make(env_id) for _ in range(3)]
    for k, single in enumerate(singles):
        single.reset(seed=k)
    over = np.zeros(3, dtype=bool)
    generator = np.random.default_rng(0)
    for _ in range(300):
        actions = generator.integers(envs.single_action_space.n, size=3)  # type: ignore[attr-defined]
        _, rewards, terminated, truncated, _ = envs.step(actions)
        for k, single in enumerate(singles):
            if over[k]:
                single.reset()
                expected = (0.0, False, False)
            else:
                expected = single.step(actions[k])[1:4]  # type: ignore[assignment]
            assert (rewards[k], terminated[k], truncated[k]) == expected
        over = terminated | truncated
    envs.close()


@every_environment
@pytest.mark.parametrize("action", [-1, 99, 0.5, "left", None])
def test_a_bad_action_is_refused(env_id: str, action: Any) -> None:
    env = gym.make(env_id, disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        env.step(action)


@every_environment
def test_a_step_after_the_end_is_refused(env_id: str) -> None:
    env = gym.make(env_id, max_episode_steps=-1, disable_env_checker=True).unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)


@every_environment
def test_bad_arguments_are_refused(env_id: str) -> None:
    with pytest.raises(ValueError, match=r"render_mode is 'hologram'; it must be"):
        gym.spec(env_id).make(render_mode=None, disable_env_checker=True).unwrapped.__class__(render_mode="hologram")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        gym.make(env_id, no_such_argument=1)
    with pytest.raises(TypeError):
        type(gym.make(env_id).unwrapped)(10)  # type: ignore[call-arg]


@every_environment
def test_rendering_without_a_mode_only_warns(env_id: str) -> None:
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render"):
        assert env.render() is None


@every_environment
def test_the_docstring_has_the_fixed_headings(env_id: str) -> None:
    doc = type(gym.make(env_id).unwrapped).__doc__ or ""
    assert re.findall(r"^\s*## (.+)$", doc, flags=re.MULTILINE) == HEADINGS


@every_environment
def test_what_is_registered(env_id: str) -> None:
    spec, entry = gym.spec(env_id), ENVIRONMENTS[env_id.removeprefix("sabsim/").removesuffix("-v0")]
    assert spec.max_episode_steps == entry.max_episode_steps
    assert not spec.nondeterministic
    assert type(gym.make(f"sabsim.envs:{env_id}").unwrapped).__module__.startswith("sabsim.envs.")


def test_registering_again_changes_nothing() -> None:
    before = dict(gym.registry)
    sabsim.envs.register_all()
    assert dict(gym.registry) == before
