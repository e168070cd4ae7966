"""Properties of what an agent sees: any observation space as a row of numbers, environments side by side, scales."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.agents import Arena
from sabsim.agents.normalise import CLIP, Normaliser, RewardScale, Running
from sabsim.agents.observations import LARGEST, WORDS, Translator
from sabsim.agents.success import succeeded

from sabsim.errors import ConfigError

Space = spaces.Space[Any]


def boxes() -> st.SearchStrategy[Space]:
    """Boxes of up to three dimensions."""
    shapes = st.lists(st.integers(1, 4), max_size=3)
    return st.builds(
        lambda shape, kind: spaces.Box(0, 9, tuple(shape), kind), shapes, st.sampled_from([np.float32, np.uint8, np.int64])
    )


def leaves() -> st.SearchStrategy[Space]:
    """Every kind of space that has no parts."""
    sizes = st.lists(st.integers(1, 5), min_size=1, max_size=3)
    return st.one_of(
        boxes(),
        st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 6), st.integers(-3, 3)),
        sizes.map(spaces.MultiDiscrete),
        st.integers(1, 6).map(spaces.MultiBinary),
        st.just(spaces.Text(12, charset="ab cd")),
    )


def nested() -> st.SearchStrategy[Space]:
    """Spaces of any kind, in Dicts and Tuples as well."""
    names = st.text("abcxyz", min_size=1, max_size=3)
    return st.recursive(
        leaves(),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: spaces.Tuple(tuple(parts))),
            st.dictionaries(names, inner, min_size=1, max_size=3).map(spaces.Dict),
        ),
        max_leaves=5,
    )


def flat_size(space: Space) -> int:
    """How many numbers a space becomes, found in another way."""
    if isinstance(space, spaces.Dict):
        return sum(flat_size(part) for part in space.spaces.values())
    if isinstance(space, spaces.Tuple):
        return sum(flat_size(part) for part in space.spaces)
    return WORDS if isinstance(space, spaces.Text) else spaces.flatdim(space)


def without_text(space: Space) -> bool:
    """Whether Gymnasium's own ``flatten`` says the same."""
    if isinstance(space, spaces.Dict):
        return all(without_text(part) for part in space.spaces.values())
    if isinstance(space, spaces.Tuple):
        return all(without_text(part) for part in space.spaces)
    return not isinstance(space, spaces.Text)


@settings(max_examples=80, deadline=None)
@given(nested(), st.integers(0, 10_000))
def test_a_row_says_all_that_gymnasiums_flat_vector_says(space: Space, seed: int) -> None:
    space.seed(seed)
    translator = Translator(space)
    assert translator.size == flat_size(space)
    # What was in the row before does not matter.
    rows = np.full((2, translator.size), np.nan, dtype=np.float32)
    rows[1] = 7
    observation = space.sample()
    for row in rows:
        translator.write(observation, row)
    assert np.isfinite(rows).all()
    assert (rows[0] == rows[1]).all()
    if without_text(space):
        assert np.array_equal(rows[0], np.asarray(spaces.flatten(space, observation), dtype=np.float32))


@given(st.lists(st.sampled_from(["red", "blue", "door", "the"]), max_size=8))
def test_a_text_is_its_words_counted(words: list[str]) -> None:
    translator, row = Translator(spaces.Text(60)), np.zeros(WORDS, dtype=np.float32)
    translator.write(" ".join(words), row)
    again = np.zeros_like(row)
    translator.write("  ".join(reversed(words)).upper(), again)
    assert row.sum() == len(words)
    assert (row == again).all()


def test_what_cannot_be_translated() -> None:
    with pytest.raises(ConfigError, match=f"{LARGEST + 1} numbers, at most {LARGEST} are taken"):
        Translator(spaces.Box(0, 1, (LARGEST + 1,)))
    with pytest.raises(ConfigError, match=r"observation space\['g'\] Graph.*: must be a Box"):
        Translator(spaces.Dict({"g": spaces.Graph(spaces.Box(0, 1, (1,)), None)}))


class Coded(gym.Env[Any, Any]):
    """Whose every number says what happened: shows ``100 episode + step``, pays ``step``; actions begin at ``start``."""

    observation_space = spaces.Box(0, 1e6, (1,), np.float64)

    def __init__(self, length: int, actions: int, start: int) -> None:
        self.length, self.clock, self.episode = length, 0, -1
        self.action_space = spaces.Discrete(actions, start=start)
        self.taken: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.clock, self.episode = 0, self.episode + 1
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        self.taken.append(int(action))
        over = self.clock == self.length
        return self._seen(), float(self.clock), over, over and self.length % 2 == 0, {}

    def _seen(self) -> Any:
        return np.array([100.0 * self.episode + self.clock])

    def get_state(self) -> dict[str, Any]:
        """As the environments of sabsim."""
        return {"clock": self.clock, "episode": self.episode}

    def set_state(self, state: dict[str, Any]) -> None:
        """As the environments of sabsim."""
        self.clock, self.episode = state["clock"], state["episode"]


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    actions=st.integers(1, 4),
    start=st.integers(-2, 2),
    told=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 100),
)
def test_an_arena_shows_each_environment_as_it_is(
    lengths: list[int], actions: int, start: int, told: tuple[bool, bool], seed: int
) -> None:
    waiting = iter(lengths)
    streams = len(lengths)
    arena = Arena(
        lambda: Coded(next(waiting), actions, start),
        streams=streams,
        seed=seed,
        sees_action=told[0],
        sees_reward=told[1],
    )
    assert arena.size == 1 + actions * told[0] + told[1]
    draw, steps, episodes = np.random.default_rng(seed), [0] * streams, [0] * streams
    saved: dict[str, Any] | None = None
    for moment in range(12):
        chosen = draw.integers(0, actions, streams)
        arena.step(chosen.tolist())
        for s, length in enumerate(lengths):
            steps[s] += 1
            over = steps[s] == length
            assert arena.terminated[s] == over
            assert not arena.truncated[s]  # both at once is a termination
            assert arena.begins[s] == over
            assert arena.reward[s] == steps[s]
            last = [100 * episodes[s] + steps[s]]
            last += (np.arange(actions) == chosen[s]).tolist() if told[0] else []
            last += [steps[s]] if told[1] else []
            if over:
                episodes[s], steps[s] = episodes[s] + 1, 0
                assert arena.final[s].tolist() == last
                last = [100 * episodes[s], *[0] * (arena.size - 1)]
            assert arena.x[s].tolist() == last
        if moment == 5:
            saved = json.loads(json.dumps(arena.state()))
    taken = [environment.taken for environment in arena.environments]  # type: ignore[attr-defined]
    assert all(start <= action < start + actions for each in taken for action in each)
    assert saved is not None
    arena.restore(saved)
    assert arena.state() == saved


numbers = st.floats(-1e3, 1e3, allow_nan=False)


@given(st.lists(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6), min_size=1, max_size=6))
def test_running_moments_are_those_of_all_rows(batches: list[list[tuple[float, float]]]) -> None:
    running = Running(2)
    for batch in batches:
        running.meet(np.array(batch))
    rows = np.array([row for batch in batches for row in batch])
    assert np.allclose(running.mean, rows.mean(0), atol=1e-9)
    deviation = rows.std(0)
    assert np.allclose(running.deviation, np.where(deviation < 1e-4, 1, deviation), rtol=1e-6, atol=1e-6)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8), st.tuples(numbers, numbers))
def test_the_normaliser_clips_and_comes_back(rows: list[tuple[float, float]], seen: tuple[float, float]) -> None:
    one, other = Normaliser(2), Normaliser(2)
    one.meet(np.array(rows))
    x = np.array([seen], dtype=np.float32)
    assert (np.abs(one(x)) <= CLIP).all()
    other.restore(json.loads(json.dumps(one.state())))
    assert (one(x) == other(x)).all()
    one.meet(x)
    other.meet(x)
    assert one.state() == other.state()


@given(st.lists(st.tuples(numbers, st.booleans()), min_size=2, max_size=10))
def test_the_reward_scale_comes_back(steps: list[tuple[float, bool]]) -> None:
    one, other = RewardScale(1, 0.9), RewardScale(1, 0.9)
    half = len(steps) // 2
    for reward, over in steps[:half]:
        one(np.array([reward]), np.array([over]))
    other.restore(json.loads(json.dumps(one.state())))
    for reward, over in steps[half:]:
        assert one(np.array([reward]), np.array([over])) == other(np.array([reward]), np.array([over]))


@pytest.mark.parametrize(
    ("info", "terminated", "reward", "pays", "expected"),
    [
        ({"success": 1.0}, True, 0.0, False, True),
        ({"success": 0}, True, 1.0, True, False),
        ({"correct": -1}, False, 0.0, False, None),
        ({"correct": 0}, True, 0.0, False, False),
        ({"passed": 1.0}, True, 1.0, False, True),
        ({"is_success": np.True_}, True, 1.0, False, True),
        ({}, True, 1.0, False, None),
        ({}, True, 0.5, True, True),
        ({}, True, 0.0, True, False),
        ({}, False, 0.5, True, False),
    ],
)
def test_success(info: dict[str, Any], terminated: bool, reward: float, pays: bool, expected: bool | None) -> None:
    assert succeeded(info, terminated=terminated, reward=reward, pays=pays) is expected
