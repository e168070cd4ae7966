"""A block graph: equal to plain calls bit for bit, captured or not, and it says why where there is no graph.

There is no CUDA graph without a CUDA device, so here ``capture`` is replaced by what it promises: calls that compute, and
change nothing of the learner but its tensors. The tests at the end need a device.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import sabsim.graph
from sabsim import SAB, TBPTT, Adam, Block, BlockGraph, ConfigError, CreditRule, Immediate, Network, StreamingLearner
from sabsim.retention import All, Novelty, Recent, Relevancy, Reservoir, Retention, Surprise

STREAMS, D_IN, D_OUT, HIDDEN, SLOTS, BLOCKS = 3, 3, 2, 4, 5, 30
NETWORK = Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN)
ADAM = Adam(lr=0.01, warmup_updates=0)
cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@dataclass(frozen=True)
class Case:
    credit: CreditRule
    retention: Retention
    network: Network = NETWORK
    backend: str = "torch"
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    def __str__(self) -> str:
        parts = [self.credit.name, str(self.credit.block), self.retention.name, self.network.cell, self.backend]
        left_out = [name for name in ("dropout", "recurrent_dropout") if getattr(self, name)]
        return "-".join([*parts, *left_out])

    def learner(self, *, seed: int = 0, **keywords: Any) -> StreamingLearner:
        return StreamingLearner(
            self.network, credit=self.credit, retention=self.retention, optimizer=ADAM, streams=STREAMS, seed=seed,
            dropout=self.dropout, recurrent_dropout=self.recurrent_dropout,
            **({"backend": self.backend, "dtype": torch.float64} | keywords),
        )  # fmt: skip


RULE = SAB(k_top=3, k_trunc=4, replays=2, explore=2.0, negligible=0.05)
CASES = [
    *(
        Case(RULE, kind(slots=SLOTS), backend=backend)
        for backend in ("torch", "native")
        for kind in (Novelty, Recent, Relevancy, Reservoir, Surprise)
    ),
    Case(RULE, Recent(slots=SLOTS), dropout=0.3),
    Case(RULE, Recent(slots=SLOTS), recurrent_dropout=0.3),
    Case(replace(RULE, k_att=2, update_every=1), Novelty(slots=SLOTS), replace(NETWORK, cell="gru")),
    Case(replace(RULE, update_every=3, trigger="replay"), All(slots=90)),
    Case(TBPTT(k_trunc=4, update_every=2), Recent()),
    Case(Immediate(), Recent()),
]
FEW = [CASES[0], CASES[3], CASES[-4], CASES[-2]]
"""Of every kind one, for what does not depend on the details."""


class Data(NamedTuple):
    """Of all blocks: x (blocks, block, B, d_in), begins (blocks, block, B), target (blocks, block, B, d_out)."""

    x: Tensor
    begins: Tensor
    target: Tensor


def data(learner: StreamingLearner) -> Data:
    """Sequences of 7 to 19 steps, so that they begin anywhere in a block; in the third stream of one block's steps."""
    steps = BLOCKS * learner.credit.block
    generator = torch.Generator().manual_seed(1)
    t = torch.arange(steps)
    begins = torch.stack([t % 7 == 5, t % 19 == 9, t < learner.credit.block], dim=1)
    x, target = (torch.randn(steps, STREAMS, d, generator=generator, dtype=torch.float64) for d in (D_IN, D_OUT))
    parts = (part.unflatten(0, (BLOCKS, -1)).to(learner.device) for part in (x.to(learner.dtype), begins, target))
    return Data(*parts)


def signal(y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Of the squared error."""
    error = y - target.to(y.dtype)
    return error, error.square().sum(1)


def by_hand(learner: StreamingLearner, given: Data, block: int) -> list[Tensor]:
    """One block by plain calls: y and loss of every step, and the replays at its end."""
    ys, losses, events = [], [], None
    for x, begins, target in zip(*(part[block] for part in given), strict=True):
        if begins.any():
            learner.reset(begins)
        y = learner.step(x)
        dL_dy, loss = signal(y, target)
        ys.append(y.clone())
        losses.append(loss)
        events = learner.learn(dL_dy, loss)
    return [torch.stack(ys), torch.stack(losses), *(events or ())]


def parts(block: Block) -> list[Tensor]:
    return [block.y.clone(), block.loss.clone(), *(part.clone() for part in block.events or ())]


def play(graph: BlockGraph, given: Data, block: int) -> list[Tensor]:
    return parts(graph.play(*(part[block] for part in given)))


def graph_of(learner: StreamingLearner) -> BlockGraph:
    return BlockGraph(learner, signal, target=torch.zeros(STREAMS, D_OUT, dtype=torch.float64))


def everything(learner: StreamingLearner) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value).clone() for name, value in learner.state_dict().items()}


def require_same(a: list[Tensor], b: list[Tensor]) -> None:
    assert len(a) == len(b)
    assert all(torch.equal(mine, its) for mine, its in zip(a, b, strict=True))


def require_same_state(a: StreamingLearner, b: StreamingLearner) -> None:
    mine, its = everything(a), everything(b)
    assert mine.keys() == its.keys()
    assert [name for name in mine if not torch.equal(mine[name], its[name])] == []


Pretend = Callable[..., BlockGraph]


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Makes the graph of a learner as on a CUDA device, with a stand-in for the capture; it may end in an ``error``."""

    def make(learner: StreamingLearner, error: Exception | None = None) -> BlockGraph:
        def capture(call: Callable[[], Any], device: torch.device, generator: torch.Generator) -> Any:
            before = learner.state_dict()
            kept = call()  # where the graph leaves its events
            if error is not None:
                raise error
            learner.load_state_dict(before)
            learner.clock += 1000  # the host's side of a capture, to be undone

            def again() -> None:
                clock = learner.clock
                for place, event in zip(kept or (), call() or (), strict=True):
                    place.copy_(event)
                learner.clock = clock

            return again, kept

        monkeypatch.setattr(sabsim.graph, "capture", capture)
        monkeypatch.setattr(sabsim.graph, "warm_up", lambda call, device: [call() for _ in range(2)])
        learner.device = torch.device("cuda")
        graph = graph_of(learner)
        learner.device = torch.device("cpu")
        return graph

    return make


@pytest.mark.parametrize("case", CASES, ids=str)
def test_played_blocks_equal_plain_calls(case: Case) -> None:
    plain, played = case.learner(), case.learner()
    graph, given = graph_of(played), data(plain)
    assert (graph.captured, graph.reason) == (False, "the device is cpu")
    for block in range(BLOCKS):
        require_same(by_hand(plain, given, block), play(graph, given, block))
        require_same_state(plain, played)
    assert int(played.updates) > BLOCKS // 4
    assert played.clock == BLOCKS * case.credit.block


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_state_saved_between_blocks_continues_equally(case: Case) -> None:
    whole, copy = case.learner(), case.learner(seed=7)
    first, second, given = graph_of(whole), graph_of(copy), data(whole)
    for block in range(11):
        play(first, given, block)
        play(second, given, BLOCKS - 1 - block)  # a past of its own
    copy.load_state_dict(whole.state_dict())
    for block in range(11, 20):
        require_same(play(first, given, block), play(second, given, block))
    require_same_state(whole, copy)


@pytest.mark.parametrize("case", FEW, ids=str)
@pytest.mark.parametrize("begun", [0, 3])
def test_a_capture_changes_nothing_and_its_replays_equal_plain_calls(case: Case, begun: int, captured: Pretend) -> None:
    plain, played, given = case.learner(), case.learner(), data(case.learner())
    for block in range(begun):
        by_hand(plain, given, block)
        by_hand(played, given, block)
    graph = captured(played)
    assert (graph.captured, graph.reason) == (True, None)
    require_same_state(plain, played)
    for block in range(begun, 12):
        # Plain calls in between, and a state that is loaded, do not disturb it.
        ours = by_hand(played, given, block) if block == 8 else play(graph, given, block)
        require_same(by_hand(plain, given, block), ours)
        if block == 9:
            played.load_state_dict(played.state_dict())
        require_same_state(plain, played)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_what_cannot_be_captured_is_played_and_the_reason_logged(
    case: Case, captured: Pretend, caplog: pytest.LogCaptureFixture
) -> None:
    plain, played, given = case.learner(), case.learner(), data(case.learner())
    with caplog.at_level(logging.INFO, logger="sabsim"):
        graph = captured(played, RuntimeError("operation not permitted when stream is capturing\nmore about it"))
    assert not graph.captured
    assert graph.reason == "it cannot be captured: operation not permitted when stream is capturing"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"no CUDA graph, steps are queued one by one: {graph.reason}"
    require_same_state(plain, played)
    for block in range(12):
        require_same(by_hand(plain, given, block), play(graph, given, block))
    require_same_state(plain, played)


def test_mistakes() -> None:
    learner = FEW[0].learner()
    graph, given = graph_of(learner), data(learner)
    x, begins, target = (part[0] for part in given)
    for wrong, words in (
        ((x[:2], begins, target), "x has shape (2, 3, 3): must be (4, 3, 3)"),
        ((x, begins[:, :1], target), "begins has shape (4, 1): must be (4, 3)"),
        ((x, begins, target[..., 0]), "target has shape (4, 3): must be (4, 3, 2)"),
    ):
        with pytest.raises(ConfigError) as error:
            graph.play(*wrong)
        assert words in str(error.value)
    assert learner.clock == 0
    learner.step(x[0])
    for inside in (lambda: graph.play(x, begins, target), lambda: graph_of(learner)):
        with pytest.raises(ConfigError, match="inside a block of 4 steps"):
            inside()
    with pytest.raises(ConfigError, match="learning = False"):
        graph_of(learner.evaluator())


def test_buffers_can_be_filled_in_place_and_a_reset_between_blocks_counts() -> None:
    plain, played = FEW[0].learner(), FEW[0].learner()
    graph, given = graph_of(played), data(plain)
    for block in range(6):
        if block == 4:
            done = torch.tensor([True, False, True])
            plain.reset(done)
            played.reset(done)
        for buffer, part in zip((graph.x, graph.begins, graph.target), given, strict=True):
            buffer.copy_(part[block])
        require_same(by_hand(plain, given, block), parts(graph.play(graph.x, graph.begins, graph.target)))
    require_same_state(plain, played)


# On a CUDA device

ON_CUDA = [pytest.param(case, marks=cuda, id=str(case)) for case in CASES if case.backend == "torch"]


@pytest.mark.parametrize("case", ON_CUDA)
def test_cuda_captured_equals_one_by_one(case: Case) -> None:
    """To rounding: sums by atomic additions come in any order. Both draw the same random numbers."""
    plain, played = case.learner(device="cuda"), case.learner(device="cuda")
    graph, given = graph_of(played), data(plain)
    assert graph.captured, graph.reason
    require_same_state(plain, played)
    for block in range(BLOCKS):
        for mine, its in zip(by_hand(plain, given, block), play(graph, given, block), strict=True):
            torch.testing.assert_close(its, mine, rtol=1e-9, atol=1e-9)
    for name, mine in everything(plain).items():
        torch.testing.assert_close(everything(played)[name], mine, rtol=1e-8, atol=1e-8)
    played.check()


@pytest.mark.parametrize("case", ON_CUDA)
def test_cuda_a_state_saved_between_replays_continues_equally(case: Case) -> None:
    whole, copy = case.learner(device="cuda"), case.learner(seed=7, device="cuda")
    first, second, given = graph_of(whole), graph_of(copy), data(whole)
    for block in range(11):
        play(first, given, block)
        play(second, given, BLOCKS - 1 - block)
    copy.load_state_dict(whole.state_dict())
    for block in range(11, 20):
        for mine, its in zip(play(first, given, block), play(second, given, block), strict=True):
            torch.testing.assert_close(its, mine, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", [pytest.param(case, marks=cuda, id=str(case)) for case in FEW])
def test_cuda_replays_allocate_nothing(case: Case) -> None:
    learner = case.learner(device="cuda", backend="torch")
    graph, given = graph_of(learner), data(learner)
    for block in range(2):
        graph.play(*(part[block] for part in given))
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for _ in range(1000):
        graph.play(graph.x, graph.begins, graph.target)
    torch.cuda.synchronize()
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == held


@pytest.mark.parametrize("case", [pytest.param(FEW[0], marks=cuda, id=str(FEW[0]))])
def test_cuda_a_signal_that_waits_is_refused_with_the_reason(case: Case) -> None:
    def waiting(y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        dL_dy, loss = signal(y, target)
        return dL_dy * float(loss.sum()) ** 0, loss

    plain, played = case.learner(device="cuda"), case.learner(device="cuda")
    given = data(plain)
    graph = BlockGraph(played, waiting, target=torch.zeros(STREAMS, D_OUT, dtype=torch.float64))
    assert not graph.captured
    assert graph.reason is not None
    for block in range(6):
        for mine, its in zip(by_hand(plain, given, block), play(graph, given, block), strict=True):
            torch.testing.assert_close(its, mine, rtol=1e-9, atol=1e-9)
