"""The rivals without recall: memoryless, immediate credit, whole episodes; against autograd, on both backends."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sabsim.agents.agent import ActorCritic, Agent
from sabsim.agents.arena import Arena
from sabsim.envs.memory_chain import MemoryChain
from torch import Tensor

from sabsim import SGD, TBPTT, Adam, ConfigError, CreditRule, Immediate, Memoryless, Network, Recent, StreamingLearner
from sabsim import whole_episodes as whole
from sabsim.native import library_or_none

STREAMS, HIDDEN, D_IN, D_OUT, STEPS = 3, 5, 4, 3, 30
RESETS = {0: [0, 1, 2], 7: [1], 8: [1], 10: [0, 2], 15: [1, 2], 17: [0, 1], 25: [0, 1, 2]}
compiled = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")
SIDES = [
    *(pytest.param(cell, "torch", id=cell) for cell in ("lstm", "gru", "rnn")),
    pytest.param("lstm", "native", marks=compiled, id="native"),
]
States = tuple[Tensor, Tensor]


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learner_of(cell: str, credit: CreditRule, backend: str) -> StreamingLearner:
    """A learner with every parameter drawn at random and never changed."""
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN, cell=cell),  # type: ignore[arg-type]
        credit=credit, retention=Recent(slots=1), optimizer=SGD(lr=0.0, clip=0.0), streams=STREAMS, dtype=torch.float64,
        backend=backend,  # type: ignore[arg-type]
    )  # fmt: skip
    learner.flat.copy_(0.6 * draw(5, *learner.flat.shape))
    return learner


def cell_of(cell: str, p: dict[str, Tensor], x: Tensor, h: Tensor, c: Tensor) -> States:
    """One step of a cell as its textbook has it."""
    from_x, from_h = x @ p["cell.W_x"].T + p["cell.b"], h @ p["cell.W_h"].T
    if cell == "rnn":
        return torch.tanh(from_x + from_h), c
    if cell == "lstm":
        o, i, f, g = (from_x + from_h).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
    (r, z, new), (h_r, h_z, h_n) = from_x.chunk(3, 1), from_h.chunk(3, 1)
    z = (z + h_z).sigmoid()
    h = (1 - z) * torch.tanh(new + (r + h_r).sigmoid() * (h_n + p["cell.b_n"])) + z * c
    return h, h


def autograd(cell: str, learner: StreamingLearner, before: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs and gradients over all steps, `before` being applied to h and c before each step."""
    p = {name: value.clone().requires_grad_() for name, value in learner.parameters.items()}
    h = c = torch.zeros(STREAMS, HIDDEN, dtype=torch.float64)
    outputs = []
    for t, x in enumerate(draw(6, STEPS, STREAMS, D_IN)):
        keep = torch.ones(STREAMS, 1, dtype=torch.float64)
        keep[RESETS.get(t, [])] = 0
        h, c = cell_of(cell, p, x, before(h * keep), before(c * keep))
        outputs.append(h @ p["readout.W_h"].T + p["readout.b"])
    y = torch.stack(outputs)
    (y * draw(7, STEPS, STREAMS, D_OUT)).sum().backward()
    return y.detach(), {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in p.items()}


def play(learner: StreamingLearner, peeks: bool = False) -> tuple[Tensor, Tensor]:
    """Outputs and the sum of all updates' gradients; `peeks`: looks at another input before every step and update."""
    signal, total, outputs = draw(7, STEPS, STREAMS, D_OUT), torch.zeros_like(learner.flat), []
    for t, x in enumerate(draw(6, STEPS, STREAMS, D_IN)):
        done = torch.zeros(STREAMS, dtype=torch.bool)
        done[RESETS.get(t, [])] = True
        learner.reset(done)
        if peeks:
            learner.peek(draw(t, STREAMS, D_IN))
            seen = learner.peek(x).clone()
        outputs.append(learner.step(x).clone())
        if peeks:
            assert torch.equal(outputs[-1], seen)
            learner.peek(draw(t, STREAMS, D_IN))
        if learner.block_is_full:
            block = learner.credit.block
            learner.learn_block(signal[t + 1 - block : t + 1])
            total += learner.grad
    return torch.stack(outputs), total


Expected = tuple[Tensor, dict[str, Tensor]]


def assert_equal(learner: StreamingLearner, expected: Expected, *, zero: tuple[str, ...] = ()) -> None:
    y, total = play(learner)
    torch.testing.assert_close(y, expected[0], rtol=1e-12, atol=1e-12)
    learner.grad.copy_(total)
    for name, gradient in expected[1].items():
        scale = gradient.abs().max()
        assert (scale == 0) == (name in zero), name
        assert (learner.grads[name] - gradient).abs().max() <= 1e-9 * scale, name
    peeking, summed = play(learner, peeks=True)
    assert torch.equal(peeking, y)
    assert torch.equal(summed, total)


@pytest.mark.parametrize("credit", [Memoryless(k_trunc=5), Memoryless(k_trunc=1), Memoryless(k_trunc=4, update_every=2)])
@pytest.mark.parametrize(("cell", "backend"), SIDES)
def test_without_memory_it_is_a_feed_forward_network(cell: str, backend: str, credit: CreditRule) -> None:
    learner = learner_of(cell, credit, backend)
    assert learner.backend == backend
    assert_equal(learner, autograd(cell, learner, torch.zeros_like), zero=("cell.W_h",))


@pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=compiled)])
def test_without_memory_what_came_before_changes_nothing(backend: str) -> None:
    learner = learner_of("lstm", Memoryless(k_trunc=3), backend)
    x = draw(1, STREAMS, D_IN)
    first = learner.step(x).clone()
    for t in range(8):
        learner.step(draw(t, STREAMS, D_IN))
        torch.testing.assert_close(learner.peek(x), first, rtol=1e-12, atol=1e-12)
        if learner.block_is_full:
            learner.learn_block(torch.ones(3, STREAMS, D_OUT, dtype=torch.float64))
    torch.testing.assert_close(learner.step(x), first, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("every", [None, 2, 5])
@pytest.mark.parametrize(("cell", "backend"), SIDES)
def test_immediate_credit_is_backpropagation_through_no_time(cell: str, backend: str, every: int | None) -> None:
    learner = learner_of(cell, Immediate(update_every=every), backend)
    assert learner.credit.block == (every or 1)
    assert_equal(learner, autograd(cell, learner, Tensor.detach))


@pytest.mark.parametrize("every", [None, 1, 3, 5])
@pytest.mark.parametrize(("cell", "backend"), SIDES)
def test_whole_episodes_are_backpropagated_through(cell: str, backend: str, every: int | None) -> None:
    """Episodes of 1 to 10 steps; credit and updates as if each had been unrolled whole."""
    learner = learner_of(cell, whole(longest=10, update_every=every), backend)
    assert_equal(learner, autograd(cell, learner, Tensor.clone))


def test_a_chain_of_fewer_steps_than_an_episode_truncates_it() -> None:
    learner = learner_of("lstm", whole(longest=9, update_every=1), "torch")
    _, total = play(learner)
    learner.grad.copy_(total)
    _, expected = autograd("lstm", learner, Tensor.clone)
    assert (learner.grads["cell.W_x"] - expected["cell.W_x"]).abs().max() > 1e-6 * expected["cell.W_x"].abs().max()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Immediate(k_trunc=3), "k_trunc = 3"),
        (lambda: Immediate(update_every=0), "update_every = 0"),
        (lambda: Memoryless(k_trunc=0), "k_trunc = 0"),
        (lambda: Memoryless(k_trunc=2, update_every=3), "update_every = 3"),
        (lambda: whole(longest=None), "longest = None"),
        (lambda: whole(longest=0), "longest = 0"),
        (lambda: whole(longest=5, update_every=0), "update_every = 0"),
    ],
)
def test_a_setting_out_of_range_is_named(make: Callable[[], CreditRule], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def agent_of(credit: CreditRule, backend: str = "auto") -> Agent:
    arena = Arena(lambda: MemoryChain(memory_length=4), streams=4, seed=0)
    learner = StreamingLearner(
        Network(d_in=arena.size, d_out=arena.actions + 1, hidden=8),
        credit=credit, retention=Recent(slots=1), optimizer=Adam(lr=1e-3), streams=4, backend=backend,  # type: ignore[arg-type]
    )  # fmt: skip
    return Agent(arena, learner, ActorCritic(), window=5, seed=1)


RIVALS = [Memoryless(k_trunc=5), Immediate(update_every=5), whole(longest=4, update_every=5), TBPTT(k_trunc=5)]


@pytest.mark.parametrize("credit", RIVALS, ids=lambda credit: f"{credit.name}-{credit.k_trunc}")
def test_an_agent_can_be_saved_in_mid_episode(credit: CreditRule) -> None:
    agent = agent_of(credit)
    for _ in range(7):
        agent.window()
    saved = [agent.learner.state_dict(), agent.state(), agent.arena.state()]
    expected = [agent.window().value for _ in range(5)]
    other = agent_of(credit)
    other.learner.load_state_dict(saved[0])
    other.restore(saved[1])
    other.arena.restore(saved[2])
    assert all(np.array_equal(other.window().value, value) for value in expected)
    other.learner.check()
    x = torch.zeros(2, agent.arena.size)
    judge = agent.learner.evaluator(streams=2)
    seen = judge.step(x).clone()
    assert torch.equal(judge.step(x), seen) == isinstance(credit, Memoryless)
