"""The encoder of pictures: what it is given, what it makes of it, its gradient, and agents that have one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from sabsim.agents import (
    AgentConfig,
    AgentLearnerOptions,
    AgentOptimizerOptions,
    AgentRunOptions,
    SignalOptions,
    build_agent,
    load_agent,
    loop,
    train_agent,
)
from sabsim.agents.observations import LARGEST, Translator
from sabsim.agents.pictures import SMALLEST, Picture, PictureEncoder, build_encoder
from torch import Tensor

from sabsim import SAB, SGD, Encoder, Network, Novelty, StreamingLearner
from sabsim.errors import ConfigError
from sabsim.native import library_or_none
from sabsim.reference import ReferenceLearner
from sabsim.runs import RunFolder

TOLERANCE = 1e-9
compiled = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")
SMALL = AgentConfig(
    env="MiniGrid-DoorKey-5x5-v0",
    env_args={"max_steps": 20},
    learner=AgentLearnerOptions(hidden=8, slots=8, k_top=3, encoder="cnn", features=6),
    run=AgentRunOptions(streams=2, steps=100, eval_every=100, eval_episodes=2, final_episodes=2),
)


class Gallery(gym.Env[Any, Any]):
    """Shows a picture of ``shape``, white where the rewarded action is 1 and black where it is 0, and numbers beside it."""

    def __init__(self, shape: tuple[int, ...] = (84, 84, 3)) -> None:
        self.observation_space = spaces.Dict(
            {"picture": spaces.Box(0, 255, shape, np.uint8), "beside": spaces.Box(-1, 1, (2,), np.float32)}
        )
        self.action_space = spaces.Discrete(2)
        self.clock, self.right = 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.clock = 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward, self.clock = float(action == self.right), self.clock + 1
        return self._shown(), reward, self.clock == 10, False, {}

    def _shown(self) -> dict[str, Any]:
        self.right = int(self.np_random.integers(2))
        picture: Any = self.observation_space["picture"]  # type: ignore[index]
        return {
            "picture": np.full(picture.shape, 255 * self.right, np.uint8),
            "beside": np.zeros(2, np.float32),
        }


gym.register(id="test/Gallery-v0", entry_point=Gallery)


@pytest.fixture(autouse=True)
def quick_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at here does not need 200 episodes."""
    monkeypatch.setattr(loop, "FINAL_EPISODES", 2)


# Where pictures are


def parts() -> st.SearchStrategy[spaces.Space[Any]]:
    sides = st.integers(SMALLEST, 6)
    picture = st.tuples(sides, sides, st.integers(1, 3)).map(lambda shape: spaces.Box(0, 255, shape, np.uint8))
    first = st.tuples(st.integers(1, 3), sides, sides).map(lambda shape: spaces.Box(0, 255, shape, np.uint8))
    others = st.sampled_from(
        [
            spaces.Discrete(3),
            spaces.MultiDiscrete([2, 3]),
            spaces.Text(9),
            spaces.Box(-1, 1, (2, 5)),
            spaces.Box(-1, 1, (2, 2, 2)),  # too small for a picture
        ]
    )
    leaf = st.one_of(picture, first, others)
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3).map(spaces.Dict),
            st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
        ),
        max_leaves=5,
    )


def pictures_in(space: spaces.Space[Any], seen: Any) -> list[Any]:
    """The pictures of an observation, in the order of sorted keys."""
    if isinstance(space, spaces.Dict):
        return [picture for key in sorted(space.spaces) for picture in pictures_in(space[key], seen[key])]
    if isinstance(space, spaces.Tuple):
        return [picture for part, value in zip(space.spaces, seen, strict=True) for picture in pictures_in(part, value)]
    large = isinstance(space, spaces.Box) and len(space.shape) == 3 and space.shape != (2, 2, 2)
    return [seen] if large else []


@settings(max_examples=60, deadline=None)
@given(parts(), st.integers(0, 1000))
def test_pictures_are_found_where_they_are_written(space: spaces.Space[Any], seed: int) -> None:
    space.seed(seed)
    translator, seen = Translator(space), space.sample()
    row = np.zeros(translator.size, dtype=np.float32)
    translator.write(seen, row)
    expected = pictures_in(space, seen)
    assert len(translator.pictures) == len(expected)
    for picture, shown in zip(translator.pictures, expected, strict=True):
        assert np.array_equal(row[picture.start : picture.end].reshape(picture.shape), shown)


@pytest.mark.parametrize(
    ("shape", "channels", "sides"),
    [((7, 7, 20), 20, (7, 7)), ((84, 84, 1), 1, (84, 84)), ((4, 84, 64), 4, (84, 64)), ((5, 4, 5), 5, (5, 4))],
)
def test_which_axis_is_that_of_the_channels(shape: tuple[int, ...], channels: int, sides: tuple[int, int]) -> None:
    assert (Picture(0, shape).channels, Picture(0, shape).sides) == (channels, sides)


# What is made of them


@pytest.mark.parametrize("shape", [(4, 4, 3), (7, 7, 20), (16, 20, 3), (36, 40, 1), (3, 36, 36), (84, 84, 4)])
def test_a_row_is_its_pictures_features_and_the_rest(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    picture, size = Picture(2, shape), 2 + int(np.prod(shape)) + 3
    encoder = PictureEncoder(size, [picture], 9)
    rows = torch.randn(2, size)
    x = encoder(rows)
    assert x.shape == (2, encoder.width) == (2, 9 + 5)
    for row, found in zip(rows, x, strict=True):
        shown = row[2:-3].reshape(shape)
        shown = shown if shape[0] < min(shape[1:]) else shown.permute(2, 0, 1)
        expected = torch.cat([encoder.layers[0](shown[None])[0], row[:2], row[-3:]])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    x.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_a_seed_is_an_encoder_and_draws_from_no_other_generator() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()

    def flat(seed: int) -> Tensor:
        made = build_encoder("cnn", size=150, pictures=[Picture(0, (7, 7, 3))], features=4, seed=seed)
        assert made is not None
        return torch.cat([parameter.detach().flatten() for parameter in made.module.parameters()])

    assert torch.equal(flat(1), flat(1))
    assert not torch.equal(flat(1), flat(2))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=compiled)])
def test_its_gradient_equals_the_oracle(backend: Any) -> None:
    """Every parameter's, chain and replays, in float64; rows are kept as float32, as agents see them."""
    picture, size, streams = Picture(1, (5, 4, 1)), 23, 2
    torch.manual_seed(0)
    module = PictureEncoder(size, [picture], 3).double()
    learner = StreamingLearner(
        Network(d_in=module.width, d_out=2, hidden=5),
        credit=SAB(k_top=3, k_trunc=3, replays=6, explore=0.0, negligible=0.0),
        retention=Novelty(slots=6),
        optimizer=SGD(lr=0.0, clip=0.0),
        encoder=Encoder(module=module, shape=(size,), dtype=torch.float32),
        streams=streams,
        dtype=torch.float64,
        backend=backend,
    )
    learner.flat.add_(0.2 * torch.randn(learner.flat.shape, dtype=torch.float64))

    def one(p: dict[str, Tensor], observation: Tensor) -> Tensor:
        own = {name.removeprefix("encoder."): value for name, value in p.items() if name.startswith("encoder.")}
        found: Tensor = torch.func.functional_call(module, own, (observation[None],))
        return found[0]

    oracle = ReferenceLearner(learner.parameters, streams=streams, k_top=3, k_trunc=3, slots=6, replays=6, encoder=one)
    compared = 0
    for t in range(9):
        done = torch.tensor([t == 0, t in (0, 5)])
        seen, signal = torch.randn(streams, size), torch.randn(streams, 2, dtype=torch.float64)
        for side in (learner, oracle):
            side.reset(done)
        birth = learner.macrostate.birth.clone()
        y = learner.step(seen)
        assert (y - oracle.step(seen, birth)).abs().max() < TOLERANCE
        learner.learn(signal)
        if (expected := oracle.learn(signal)) is not None:
            for name, gradient in expected.items():
                scale = max(float(gradient.abs().max()), 1e-6)
                assert float((learner.grads[name] - gradient).abs().max()) < TOLERANCE * scale, name
            compared += sum(name.startswith("encoder.layers") for name in expected)
    assert compared == 3 * 10


# Agents that have one


def test_an_agent_learns_what_a_picture_says(tmp_path: Path) -> None:
    """The picture has too many numbers to be taken without an encoder."""
    learner = AgentLearnerOptions(hidden=16, slots=4, k_top=2, encoder="cnn", features=16, replays=0)
    config = AgentConfig(
        env="test/Gallery-v0",
        env_args={"shape": [40, 40, 3]},
        learner=learner,
        run=AgentRunOptions(streams=8, steps=3000, eval_every=4000, eval_episodes=16, final_episodes=16, record_streams=0),
        signal=SignalOptions(gamma=0.0),  # what follows an action does not depend on it
        optimizer=AgentOptimizerOptions(lr=0.01),
    )
    with pytest.raises(ConfigError, match=f"4802 numbers, at most {LARGEST} are taken; use --encoder cnn, or a wrapper"):
        build_agent(replace(config, learner=replace(learner, encoder="none")))
    assert train_agent(config, out=tmp_path)["evaluation"]["return"]["estimate"] > 8  # chance is 5
    parts, _ = load_agent(RunFolder(tmp_path))
    again = build_agent(config)
    names = [name for name in parts.agent.learner.parameters if name.startswith("encoder.")]  # type: ignore[attr-defined]
    assert len(names) == 10
    for name in names:
        now, then = (one.agent.learner.parameters[name] for one in (parts, again))  # type: ignore[attr-defined]
        assert not torch.equal(now, then), name


@pytest.mark.parametrize("credit", ["sab", "no-replay", "tbptt", "immediate", "memoryless"])
def test_every_rule_of_the_streaming_learner_takes_it(credit: str, tmp_path: Path) -> None:
    train_agent(replace(SMALL, learner=replace(SMALL.learner, credit=credit)), out=tmp_path)


def test_along_a_trace(tmp_path: Path) -> None:
    config = replace(
        SMALL,
        learner=replace(SMALL.learner, window=1, k_trunc=4),
        signal=SignalOptions(traces=True),
        optimizer=AgentOptimizerOptions(optimizer="obgd"),
        run=replace(SMALL.run, streams=1),
    )
    before = build_agent(config).agent.learner.parameters  # type: ignore[attr-defined]
    train_agent(config, out=tmp_path)
    after = load_agent(RunFolder(tmp_path))[0].agent.learner.parameters  # type: ignore[attr-defined]
    assert not torch.equal(before["encoder.layers.0.0.weight"], after["encoder.layers.0.0.weight"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learner": {"encoder": "cmn"}}, r"encoder = 'cmn': must be one of none, cnn \(did you mean cnn"),
        ({"learner": {"credit": "rtu"}}, "encoder = 'cnn': credit rtu does without; leave it out"),
        ({"learner": {"action_credit": "recall"}}, "action_credit: .*leave out --encoder"),
        ({"learner": {"features": 0}}, "features = 0: must be at least 1"),
        ({"env": "sabsim/TMaze-v0", "env_args": {}}, "encoder = 'cnn': the observation shows no picture"),
    ],
)
def test_what_does_not_fit(changed: dict[str, Any], message: str) -> None:
    learner = changed.pop("learner", {})
    with pytest.raises(ConfigError, match=message):
        build_agent(replace(SMALL, learner=replace(SMALL.learner, **learner), **changed))
