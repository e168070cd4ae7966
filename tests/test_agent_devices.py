"""Agents whose learner computes on another device than the CPU, tried with a stand-in for one; the last tests need CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sabsim.agents import (
    AgentConfig,
    AgentLearnerOptions,
    AgentOptimizerOptions,
    AgentRunOptions,
    SignalOptions,
    load_agent,
    read_agent_config,
    rtu,
    train_agent,
)
from sabsim.agents.agent import Agent
from sabsim.agents.build import build_agent
from sabsim.agents.loop import AgentLoop
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

import sabsim.parts
from sabsim import ConfigError
from sabsim.runs import RunFolder, load_checkpoint, read_rows

cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
ELSEWHERE = torch.device("cuda")

PLAIN = AgentConfig(
    env="sabsim/MemoryChain-v0",
    env_args={"memory_length": 6},
    learner=AgentLearnerOptions(hidden=6, slots=4, k_top=2, replays=2, window=3),
    run=AgentRunOptions(
        streams=3, steps=54, eval_every=1_000, eval_episodes=2, final_episodes=2, record_every=1, record_hidden=True,
        backend="torch",
    ),
)  # fmt: skip
ALONE = replace(PLAIN.run, streams=1, steps=20)


def changed(**learner: Any) -> AgentConfig:
    return replace(PLAIN, learner=replace(PLAIN.learner, **learner))


CASES = {
    "sab": PLAIN,
    "tbptt": changed(credit="tbptt"),
    "rtu": changed(credit="rtu"),
    "gru, surprise": changed(cell="gru", retention="surprise"),
    "rewards scaled, cut off": replace(
        PLAIN,
        env="CartPole-v1",
        env_args={"max_episode_steps": 7},
        signal=SignalOptions(scale_reward=True),
        learner=replace(PLAIN.learner, credit="no-replay"),
    ),
    "action credit": replace(changed(action_credit="recall"), signal=SignalOptions(gamma=0.5)),
    "action credit at random": replace(changed(action_credit="random"), signal=SignalOptions(gamma=0.5)),
    "traces": replace(
        PLAIN,
        learner=replace(PLAIN.learner, window=1, k_trunc=3),
        signal=SignalOptions(traces=True),
        optimizer=AgentOptimizerOptions(optimizer="obgd"),
        run=ALONE,
    ),
    "traces by Adam": replace(
        PLAIN, learner=replace(PLAIN.learner, window=1, k_trunc=3), signal=SignalOptions(traces=True), run=ALONE
    ),
    "pictures": replace(changed(encoder="cnn", features=4), env="MiniGrid-Empty-5x5-v0", env_args={}),
}


class Elsewhere(TorchFunctionMode):
    """A device that is none: its tensors are marked, say that they are there, and meet none of the host's.

    Exceptions as on a CUDA device: single numbers, copies, and indices. What comes out of an operation is where what went
    in was, unless a device was named.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if func == Tensor.device.__get__:
            return ELSEWHERE if _marked(args[0]) else func(*args)
        if func in (Tensor.is_cpu.__get__, Tensor.is_cuda.__get__):
            return _marked(args[0]) is (func == Tensor.is_cuda.__get__)
        if name == "cpu" and _marked(args[0]):
            return args[0].clone()
        if name in ("numpy", "__array__") and _marked(args[0]):
            raise TypeError("can't convert a tensor that is elsewhere to numpy")
        named = [each for each in (*args, *kwargs.values()) if isinstance(each, str | torch.device)]
        asked = [torch.device(each) for each in named if str(each) in ("cpu", "cuda")]
        args, kwargs = tree_map_only(torch.device, lambda _: torch.device("cpu"), (args, kwargs))
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        there = any(map(_marked, given))
        if name in ("copy_", "__getitem__", "to"):
            there = _marked(args[0])
        elif there and any(each.dim() and not _marked(each) for each in given):
            raise RuntimeError(f"{name}: tensors of two devices")
        out = func(*args, **kwargs)
        if name == "to" and asked and out is args[0]:
            out = out.clone()
        if asked[0] == ELSEWHERE if asked else there:
            tree_map_only(Tensor, _mark, out)
        return out


def _marked(tensor: Any) -> bool:
    return hasattr(tensor, "_elsewhere")


def _mark(tensor: Tensor) -> Tensor:
    tensor._elsewhere = True  # type: ignore[attr-defined]
    return tensor


def _module_to(real: Any) -> Any:
    """Modules move by a way that no mode sees."""

    def to(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        moved: torch.nn.Module = real(self, *args, **kwargs)
        if kwargs.get("device") == ELSEWHERE:
            for tensor in (*moved.parameters(), *moved.buffers()):
                _mark(tensor)
        return moved

    return to


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, generators_of_the_host: None) -> Iterator[None]:
    for module in (sabsim.parts, sabsim.agents.build, rtu):
        monkeypatch.setattr(module, "choose_device", torch.device)
    monkeypatch.setattr(torch.nn.Module, "to", _module_to(torch.nn.Module.to))
    with Elsewhere():
        yield


def rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    tables = ("events", "steps", "episodes", "metrics")
    return {table: read_rows(folder / "run.sqlite", f"SELECT * FROM {table}") for table in tables}


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in CASES.items()])
def test_elsewhere_a_run_is_the_same(config: AgentConfig, tmp_path: Path, elsewhere: None) -> None:
    """But for rounding; nothing of the host is met there, nothing read without a copy."""
    train_agent(config, out=tmp_path / "here")
    there = replace(config, run=replace(config.run, device="cuda"))
    parts = build_agent(there)
    assert parts.config.run.device == parts.agent.learner.device.type == "cuda"
    train_agent(there, out=tmp_path / "there")
    mine, its = rows(tmp_path / "here"), rows(tmp_path / "there")
    assert mine["steps"]
    for table in mine:
        assert len(mine[table]) == len(its[table])
        for row, other in zip(mine[table], its[table], strict=True):
            for value, there_too in zip(row, other, strict=True):
                near = pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value
                assert there_too == near
    learners = [load_checkpoint(RunFolder(tmp_path / name)).states["learner"] for name in ("here", "there")]
    torch.testing.assert_close(
        *({name: torch.as_tensor(value) for name, value in one.items()} for one in learners), rtol=1e-3, atol=1e-5
    )


def without_sending(self: Agent, array: Any) -> Tensor:
    return torch.from_numpy(array)


def without_fetching(self: Agent, x: Any) -> Any:
    return self.learner.peek(self._input(x)).numpy()[:, self.arena.actions]


@pytest.mark.parametrize(
    ("name", "mistake", "seen"),
    [("_send", without_sending, "tensors of two devices"), ("_value", without_fetching, "elsewhere to numpy")],
)
def test_elsewhere_a_planted_mistake_is_seen(
    name: str, mistake: Any, seen: str, elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = build_agent(replace(PLAIN, run=replace(PLAIN.run, device="cuda"))).agent
    agent.window()
    monkeypatch.setattr(Agent, name, mistake)
    with pytest.raises((RuntimeError, TypeError), match=seen):
        agent.window()


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("gpu", "device = 'gpu': must be one of auto, cpu, cuda"),
        pytest.param(
            "cuda",
            "device = 'cuda': no CUDA device here; use cpu or auto",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_a_device_that_there_is_not(device: str, words: str, tmp_path: Path, mistake: Callable[..., str]) -> None:
    out = tmp_path / "run"
    assert words in mistake("agent", "sabsim/MemoryChain-v0", "--device", device, "--out", str(out))
    assert not out.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_run_of_a_gpu_is_played_on_a_cpu(tmp_path: Path) -> None:
    """But not gone on with: its last digits would be others."""
    train_agent(PLAIN, out=tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    parts, _ = load_agent(RunFolder(tmp_path))
    assert (parts.config.run.device, parts.agent.learner.device.type) == ("cpu", "cpu")
    further = replace(PLAIN, run=replace(PLAIN.run, steps=60, device="auto"))
    with pytest.raises(ConfigError, match="no CUDA device here"):
        train_agent(further, out=tmp_path, resume=True)


def test_auto_is_told_as_what_it_was(tmp_path: Path) -> None:
    config = replace(PLAIN, run=replace(PLAIN.run, device="auto"))
    train_agent(config, out=tmp_path)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    assert read_agent_config(RunFolder(tmp_path)).run.device == found
    train_agent(replace(config, run=replace(config.run, steps=60)), out=tmp_path, resume=True)


# On a CUDA device


@pytest.mark.parametrize("config", [pytest.param(config, marks=cuda, id=name) for name, config in CASES.items()])
def test_cuda_a_window_is_that_of_the_cpu(config: AgentConfig) -> None:
    here, there = (build_agent(replace(config, run=replace(config.run, device=device))).agent for device in ("cpu", "cuda"))
    for _ in range(6):
        mine, its = here.window(), there.window()
        assert (mine.action == its.action).all()
        for name in ("value", "td_error", "entropy"):
            assert getattr(its, name) == pytest.approx(getattr(mine, name), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("config", [pytest.param(config, marks=cuda, id=name) for name, config in CASES.items()])
def test_cuda_a_run_resumed_equals_one_unbroken(
    config: AgentConfig, tmp_path: Path, killed_at: Any, same_run: Callable[..., None]
) -> None:
    config = replace(config, run=replace(config.run, device="cuda", checkpoint_every=18))
    train_agent(config, out=tmp_path / "whole")
    with killed_at(AgentLoop, "_advance", 4):
        train_agent(config, out=tmp_path / "killed")
    train_agent(config, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed")
