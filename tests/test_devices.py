"""One learner on every device: fixed shapes and no wait for the host where a graph could be captured, and equal numbers."""

import inspect
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import sabsim.parts
from sabsim import SAB, SGD, TBPTT, Adam, BlockGraph, CreditRule, Immediate, Network, StreamingLearner
from sabsim.macrostate import Macrostate
from sabsim.replay import Replay
from sabsim.retention import Novelty, Recent, Relevancy, Reservoir, Retention, Surprise

STREAMS, D_IN, D_OUT, HIDDEN, SLOTS = 3, 3, 2, 4, 5
ON_CPU = 'rows.device.type == "cpu"'  # what chooses the shortcut; everything else is common to all devices
RECENT = Recent(slots=SLOTS)
cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration; `network` holds keywords of Network."""

    credit: CreditRule
    retention: Retention = RECENT
    network: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return "-".join([self.credit.name, self.retention.name, *(str(value) for _, value in self.network)])

    def learner(self, *, lr: float = 0.02, **keywords: Any) -> StreamingLearner:
        return StreamingLearner(
            Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN, **dict(self.network)), credit=self.credit,
            retention=self.retention, optimizer=SGD(lr=lr, clip=0.5), streams=STREAMS, seed=2,
            backend="torch", **({"dtype": torch.float64} | keywords),
        )  # fmt: skip


CASES = [
    Case(credit=SAB(k_top=3, k_trunc=4, replays=2, explore=0.0, negligible=0.0)),
    Case(
        credit=SAB(k_top=3, k_trunc=4, replays=SLOTS, explore=1.0), retention=Novelty(slots=SLOTS),
        network=(("cell", "gru"),),
    ),
    Case(
        credit=SAB(k_top=2, k_trunc=3, k_att=2, update_every=1, negligible=0.5), retention=Relevancy(slots=SLOTS),
        network=(("cell", "rnn"), ("salience", "mlp"), ("sparsify", "dense")),
    ),
    Case(
        credit=SAB(k_top=2, k_trunc=4, update_every=2, trigger="replay"), retention=Reservoir(slots=SLOTS),
        network=(("salience", "affine"), ("sparsify", "relu"), ("readout", "weights"), ("stores", "h")),
    ),
    Case(
        credit=SAB(k_top=5, k_trunc=2, replays=1), retention=Surprise(slots=SLOTS),
        network=(("salience", "tanh"), ("sparsify", "normalised")),
    ),
    Case(
        credit=SAB(k_top=3, k_trunc=4, replays=3, replay_share=0.4, negligible=0.0, explore=0.0),
        network=(("feeds", "h_hat"),),
    ),
    Case(credit=TBPTT(k_trunc=4, update_every=2)),
    Case(credit=Immediate()),
]  # fmt: skip


def with_fixed_shapes(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method as it runs on any device but the CPU."""
    source = textwrap.dedent(inspect.getsource(method))
    assert ON_CPU in source
    names: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + source.replace(ON_CPU, "False"), method.__globals__, names)
    return names[method.__name__]


@pytest.fixture
def fixed_shapes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def patch() -> None:
        monkeypatch.setattr(Macrostate, "_write", with_fixed_shapes(Macrostate._write))
        monkeypatch.setattr(Replay, "backward", with_fixed_shapes(Replay.backward))

    return patch


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drive(learner: StreamingLearner, steps: int) -> Iterator[Tensor]:
    """Steps with resets inside blocks, and signals that are now and then zero; yields the outputs."""
    like = learner.flat
    for t in range(steps):
        learner.reset(torch.tensor([t % 13 == 6, t % 17 == 9, False]).to(like.device))
        y = learner.step(draw(t, STREAMS, D_IN).to(like))
        signal = draw(t + 5000, STREAMS, D_OUT).to(like) * (t % 5 > 1)
        learner.learn(signal, signal.norm(dim=1))
        yield y


def play(learner: StreamingLearner, steps: int) -> None:
    """What ``drive`` does, as a block graph."""
    block, like = learner.credit.block, learner.flat
    graph = BlockGraph(learner, lambda y, target: (target, target.norm(dim=1)), target=like.new_zeros(STREAMS, D_OUT))
    t = torch.arange(steps)
    begins = torch.stack([t % 13 == 6, t % 17 == 9, t < 0], dim=1)
    x = torch.stack([draw(i, STREAMS, D_IN) for i in range(steps)])
    signal = torch.stack([draw(i + 5000, STREAMS, D_OUT) * (i % 5 > 1) for i in range(steps)])
    for first in range(0, steps, block):
        graph.play(*(part[first : first + block].to(like.device) for part in (x, begins, signal)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fixed_shapes_and_the_shortcut_agree(case: Case, fixed_shapes: Callable[[], None]) -> None:
    """Outputs, gradient and memory of both branches, in every step of an online run."""
    histories = []
    for fixed in (False, True):
        if fixed:
            fixed_shapes()
        learner, history = case.learner(), []
        for y in drive(learner, 40):
            state = [y.clone(), learner.grad.clone(), learner.flat.clone()]
            if case.credit.recalls:
                memory = learner.macrostate
                state += [memory.birth.clone(), memory.m * memory.occupied.unsqueeze(2)]
            history.append(state)
        histories.append(history)
        assert learner.updates > 3
    for ours, theirs in zip(*histories, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


WAITS = {"_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "_unique2", "is_nonzero", "equal"}


class Recorder(TorchDispatchMode):
    """Notes the shapes of every operation's results, and which operations would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[str, tuple[int, ...]]] = []
        self.waits: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        chosen = [i for a in args if isinstance(a, list | tuple) for i in a if isinstance(i, Tensor)]
        if name in WAITS or (name.startswith("index") and any(i.dtype == torch.bool for i in chosen)):
            self.waits.add(name)
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.shapes.append((name, tuple(out.shape)))
        return out


def test_the_recorder_sees_a_wait() -> None:
    x = torch.ones(3)
    for wait in (lambda: bool(x.sum() > 2), lambda: x[x > 0], lambda: float(x[0]), lambda: x.nonzero()):
        with Recorder() as seen:
            wait()
        assert seen.waits


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_waits_for_the_host(case: Case, fixed_shapes: Callable[[], None]) -> None:
    """No value decides what the host does next: no operation that must wait, and the same ones on other data."""
    fixed_shapes()
    recorders = []
    for scale in (1.0, 0.0):
        learner = case.learner()
        with Recorder() as seen:
            for t in range(13):
                learner.reset(torch.full((STREAMS,), t % 5 == int(scale)))
                learner.step(scale * torch.ones(STREAMS, D_IN, dtype=torch.float64))
                learner.learn(scale * torch.ones(STREAMS, D_OUT, dtype=torch.float64))
        assert not seen.waits
        recorders.append(seen)
    assert recorders[0].shapes == recorders[1].shapes


# A block as a graph would hold it


def squared_error(y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return y - target, (y - target).square().sum(1)


def waiting(y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """A planted mistake."""
    dL_dy, loss = squared_error(y, target)
    return dL_dy / max(1.0, float(loss.mean())), loss


def choosing(y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Another: how many are chosen depends on the data."""
    dL_dy, loss = squared_error(y, target)
    return dL_dy, loss - loss[loss > 0].sum()


def from_the_host(y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """And a third: a number that is made on the host and copied for every block."""
    dL_dy, loss = squared_error(y, target)
    return dL_dy, loss + torch.tensor(1.0).to(loss.device)


def graph_of(learner: StreamingLearner, signal: Any = squared_error) -> BlockGraph:
    return BlockGraph(learner, signal, target=torch.zeros(STREAMS, D_OUT))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_block_does_the_same_whatever_the_data(case: Case, fixed_shapes: Callable[[], None]) -> None:
    """No operation waits, and every block is the same operations on the same shapes."""
    fixed_shapes()
    learner = case.learner()
    graph = graph_of(learner)
    graph.play(graph.x, graph.begins, graph.target)
    shapes = []
    for block in range(4):
        graph.x.copy_(draw(block, *graph.x.shape) * block)
        graph.begins.copy_(draw(block + 50, *graph.begins.shape) > block - 1)
        with Recorder() as seen:
            graph.play(graph.x, graph.begins, graph.target)
        assert not seen.waits
        shapes.append(seen.shapes)
    assert all(each == shapes[0] for each in shapes)
    learner.check()


@pytest.mark.parametrize("mistake", [waiting, choosing])
def test_a_planted_wait_is_seen(mistake: Any, fixed_shapes: Callable[[], None]) -> None:
    fixed_shapes()
    graph = graph_of(CASES[0].learner(), mistake)
    with Recorder() as seen:
        graph.play(graph.x, graph.begins, graph.target)
    assert seen.waits


class NoDevice(TorchDispatchMode):
    """Stands for a device: meta tensors have shapes and types only, so that nothing can depend on a value.

    Notes the operations that touch two devices; draws nothing. A wait for a value raises RuntimeError or its subclass
    NotImplementedError.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mixed: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("generator") is not None:
            kwargs["generator"] = None
            if func.overloadpacket.__name__.endswith("_"):
                return args[0]
        out = func(*args, **kwargs)
        devices = {each.device for each in tree_leaves((args, kwargs, out)) if isinstance(each, Tensor)}
        if len(devices) > 1:
            self.mixed.append(str(func))
        return out


@pytest.fixture
def no_device(monkeypatch: pytest.MonkeyPatch, generators_of_the_host: None) -> Iterator[NoDevice]:
    monkeypatch.setattr(sabsim.parts, "choose_device", torch.device)
    with NoDevice() as mode:
        yield mode


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_block_needs_no_value_and_one_device(case: Case, no_device: NoDevice) -> None:
    """Not one operation of a block reads a value, has a shape that depends on one, or takes anything from the host."""
    learner = case.learner(device="meta")
    assert (learner.backend, learner.flat.device.type) == ("torch", "meta")
    graph = graph_of(learner)
    no_device.mixed.clear()  # the parameters were drawn on the host
    for _ in range(3):
        graph.play(graph.x, graph.begins, graph.target)
    assert not no_device.mixed
    assert learner.clock == 3 * case.credit.block


@pytest.mark.parametrize("mistake", [waiting, choosing, from_the_host])
def test_a_planted_mistake_is_seen_without_values(mistake: Any, no_device: NoDevice) -> None:
    graph = graph_of(CASES[0].learner(device="meta"), mistake)
    no_device.mixed.clear()
    refused = True
    with suppress(RuntimeError):
        graph.play(graph.x, graph.begins, graph.target)
        refused = False
    assert refused or no_device.mixed


# On a CUDA device


def test_waiting_is_an_error_only_within(
    waiting_is_an_error: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch warns when the mode is set, and a warning is an error here: the mode must not stay for the tests to come."""
    modes = ["default"]

    def as_torch_does(mode: str) -> None:
        modes.append(mode)
        if mode == "error":
            warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", as_torch_does)
    with suppress(RuntimeError), waiting_is_an_error():
        assert modes[-1] == "error"
        raise RuntimeError
    assert modes[-1] == "default"


@pytest.mark.parametrize("case", [pytest.param(case, marks=cuda, id=str(case)) for case in CASES])
def test_cuda_never_waits_for_the_host(case: Case, waiting_is_an_error: Callable[[], AbstractContextManager[None]]) -> None:
    learner = case.learner(device="cuda", dtype=torch.float32)
    done = [torch.full((STREAMS,), t % 5 == 0, device="cuda") for t in range(13)]
    x, signal = (torch.ones(STREAMS, width, device="cuda") for width in (D_IN, D_OUT))
    with waiting_is_an_error():
        for t in range(13):
            learner.reset(done[t])
            learner.step(x)
            learner.learn(signal)
    learner.check()


AGREE = [
    Case(credit=SAB(k_top=3, k_trunc=2, explore=0.0, negligible=0.0), network=(("cell", cell), ("salience", salience)))
    for cell, salience in (("lstm", "dot"), ("gru", "mlp"), ("rnn", "tanh"))
]


def after_100_updates(case: Case, *, graph: bool = False, **keywords: Any) -> StreamingLearner:
    learner = case.learner(lr=0.1, **keywords)
    if graph:
        play(learner, 200)
    else:
        for _ in drive(learner, 200):
            pass
    learner.check()
    assert learner.updates == 100
    return learner


def gap(learner: StreamingLearner, other: StreamingLearner) -> float:
    """Difference of the parameters relative to how far they have come."""
    a, b = learner.flat.double().cpu(), other.flat.double().cpu()
    start = StreamingLearner(
        learner.network, credit=learner.credit, retention=learner.retention, optimizer=learner.optimizer,
        streams=learner.streams, seed=learner.seed, dtype=torch.float64,
    ).flat  # fmt: skip
    return float((a - b).norm() / (a - start).norm())


@pytest.mark.parametrize("case", AGREE, ids=str)
def test_single_and_double_precision_agree(case: Case) -> None:
    assert gap(after_100_updates(case, dtype=torch.float64), after_100_updates(case, dtype=torch.float32)) < 1e-4


@pytest.mark.parametrize("case", AGREE, ids=str)
def test_played_as_blocks_the_parameters_are_the_same(case: Case) -> None:
    by_hand, played = (after_100_updates(case, graph=graph) for graph in (False, True))
    assert torch.equal(by_hand.flat, played.flat)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)], ids=str)
@pytest.mark.parametrize("case", [pytest.param(case, marks=cuda, id=str(case)) for case in AGREE])
@pytest.mark.parametrize("graph", [False, True], ids=["one-by-one", "graph"])
def test_cuda_agrees_with_the_cpu(case: Case, dtype: torch.dtype, tolerance: float, graph: bool) -> None:
    cpu, gpu = (after_100_updates(case, dtype=dtype, device=device, graph=graph) for device in ("cpu", "cuda"))
    assert gpu.flat.device.type == "cuda"
    assert gap(cpu, gpu) < tolerance


@pytest.mark.parametrize("case", [pytest.param(case, marks=cuda, id=str(case)) for case in CASES])
def test_cuda_repeats_and_restores(case: Case) -> None:
    first, second = (case.learner(device="cuda") for _ in range(2))
    for a, b in zip(drive(first, 31), drive(second, 31), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    second.load_state_dict(first.state_dict())
    for a, b in zip(drive(first, 31), drive(second, 31), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("device", ["cpu", "auto", pytest.param("cuda", marks=cuda)])
def test_a_device_is_chosen(device: str) -> None:
    case = CASES[0]
    learner = case.learner(device=device)
    wanted = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    assert learner.flat.device.type == learner.macrostate.m.device.type == wanted
    assert learner.evaluator().flat.device.type == wanted


def test_one_seed_is_one_network_in_any_precision() -> None:
    single, double = (CASES[0].learner(dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert torch.equal(single.flat, double.flat.float())
    assert Adam().state(single.flat)["mean"].dtype == torch.float32
