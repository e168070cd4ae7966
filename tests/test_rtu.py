"""Recurrent trace units against backpropagation through the whole sequence, in the paper's real arithmetic."""

import math

import numpy as np
import pytest
import torch
from sabsim.agents.agent import ActorCritic, Agent
from sabsim.agents.arena import Arena
from sabsim.agents.rtu import RTULearner
from sabsim.agents.rtu_parameters import RTU
from sabsim.envs.memory_chain import MemoryChain
from torch import Tensor

from sabsim import SGD, Adam, ConfigError, NonFiniteError, Optimizer

STREAMS, UNITS, D_IN, D_OUT, STEPS = 3, 5, 4, 3, 30
RESETS = {0: [0], 7: [1], 8: [1], 10: [0], 15: [1], 17: [0, 1], 29: [1]}


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learner_of(block: int = 5, hidden: int = 0, optimizer: Optimizer | None = None) -> RTULearner:
    rule = SGD(lr=0.0, clip=0.0) if optimizer is None else optimizer
    network = RTU(d_in=D_IN, d_out=D_OUT, units=UNITS, hidden=hidden, max_phase=math.pi)
    learner = RTULearner(network, optimizer=rule, block=block, streams=STREAMS, seed=1, dtype=torch.float64)
    for name, value in learner.parameters.items():
        if name.endswith("W"):
            value.copy_(0.6 * draw(len(name), *value.shape))
    return learner


def resets(t: int) -> Tensor:
    done = torch.zeros(STREAMS, dtype=torch.bool)
    done[RESETS.get(t, [])] = True
    return done


def autograd(learner: RTULearner) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs and the gradient through all steps; equations 3 and 4 of the paper for real and imaginary parts."""
    p = {name: value.clone().requires_grad_() for name, value in learner.parameters.items()}
    r, theta = torch.exp(-torch.exp(p["unit.nu"])), torch.exp(p["unit.theta"])
    g, phi, gamma = r * torch.cos(theta), r * torch.sin(theta), torch.sqrt(1 - r * r)
    W_1, W_2 = p["unit.W"][::2], p["unit.W"][1::2]
    h_1 = h_2 = torch.zeros(STREAMS, UNITS, dtype=torch.float64)
    one, outputs = torch.ones(STREAMS, 1, dtype=torch.float64), []
    for t, x in enumerate(draw(6, STEPS, STREAMS, D_IN)):
        keep = 1.0 - resets(t).double().unsqueeze(1)
        h_1, h_2, x_1 = h_1 * keep, h_2 * keep, torch.cat([x, one], 1)
        h_1, h_2 = g * h_1 - phi * h_2 + gamma * (x_1 @ W_1.T), g * h_2 + phi * h_1 + gamma * (x_1 @ W_2.T)
        f = torch.tanh(torch.stack([h_1, h_2], 2)).flatten(1)
        if "hidden.W" in p:
            f = torch.tanh(torch.cat([f, one], 1) @ p["hidden.W"].T)
        outputs.append(torch.cat([f, one], 1) @ p["readout.W"].T)
    y = torch.stack(outputs)
    (y * draw(7, STEPS, STREAMS, D_OUT)).sum().backward()
    found = {name: value.grad for name, value in p.items() if value.grad is not None}
    assert found.keys() == p.keys()
    return y.detach(), found


def play(learner: RTULearner, first: int = 0, last: int = STEPS, *, peeks: bool = False) -> tuple[Tensor, Tensor]:
    """Outputs and the sum of the gradients of all updates."""
    signal, total, outputs = draw(7, STEPS, STREAMS, D_OUT), torch.zeros_like(learner.flat), []
    xs = draw(6, STEPS, STREAMS, D_IN)
    for t in range(first, last):
        learner.reset(resets(t))
        if peeks:
            seen = learner.peek(xs[t]).clone()
            learner.peek(draw(t, STREAMS, D_IN))
        outputs.append(learner.step(xs[t]).clone())
        assert not peeks or torch.equal(seen, outputs[-1])
        if (t + 1) % learner.block == 0:
            if peeks:
                learner.peek(draw(t, STREAMS, D_IN))
            learner.learn_block(signal[t + 1 - learner.block : t + 1])
            total += learner.grad
    return torch.stack(outputs), total


@pytest.mark.parametrize("hidden", [0, 6])
@pytest.mark.parametrize("block", [1, 3, 5, 30])
def test_the_gradient_is_that_of_the_whole_sequence(block: int, hidden: int) -> None:
    learner = learner_of(block, hidden)
    expected_y, expected = autograd(learner)
    y, total = play(learner)
    torch.testing.assert_close(y, expected_y, rtol=1e-12, atol=1e-12)
    learner.grad.copy_(total)
    for name, gradient in expected.items():
        scale = gradient.abs().max()
        assert scale > 1e-3, name
        assert (learner.grads[name] - gradient).abs().max() < 1e-9 * scale, name


def test_credit_reaches_the_beginning_however_far_away() -> None:
    """The last signal's gradient alone: only the first step had an input, 29 steps and six updates ago."""
    learner = learner_of(block=5)
    for t in range(STEPS):
        learner.step(draw(0, STREAMS, D_IN) * (t == 0))
        if t % 5 == 4:
            signal = torch.zeros(5, STREAMS, D_OUT, dtype=torch.float64)
            signal[4] = float(t == STEPS - 1)
            learner.learn_block(signal)
    assert learner.grads["unit.W"][:, :-1].abs().max() > 1e-3


def test_peeking_changes_nothing() -> None:
    for optimizer in (None, Adam(lr=0.01, warmup_updates=0)):
        found, expected = (play(learner_of(optimizer=optimizer), peeks=peeks) for peeks in (True, False))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("at", [10, 13])
def test_a_saved_state_goes_on_bit_for_bit(at: int) -> None:
    learner = learner_of(hidden=6, optimizer=Adam(lr=0.01, warmup_updates=0))
    play(learner, 0, at)
    saved, other = learner.state_dict(), learner_of(hidden=6, optimizer=Adam(lr=0.01, warmup_updates=0))
    assert not any(torch.is_complex(value) for value in saved.values() if isinstance(value, Tensor))
    other.load_state_dict(saved)
    assert all(torch.equal(a, b) for a, b in zip(play(learner, at), play(other, at), strict=True))
    assert torch.equal(learner.flat, other.flat)
    assert int(other.updates) == STEPS // 5
    assert other.clock == STEPS
    with pytest.raises(ConfigError, match="state of another learner"):
        learner_of(hidden=5).load_state_dict(saved)


def test_memory_is_constant() -> None:
    learner = learner_of(optimizer=Adam(lr=0.001, warmup_updates=0))
    play(learner)
    places = {name: value.data_ptr() for name, value in learner._saved().items()}
    size = sum(torch.as_tensor(value).numel() for value in learner.state_dict().values())
    for _ in range(5):
        play(learner)
    assert size == sum(torch.as_tensor(value).numel() for value in learner.state_dict().values())
    assert places == {name: value.data_ptr() for name, value in learner._saved().items()}


def test_an_evaluator_is_a_fresh_copy_that_does_not_learn() -> None:
    learner = learner_of(optimizer=Adam(lr=0.01, average=0.9, warmup_updates=0))
    play(learner)
    before = learner.state_dict()
    judge = learner.evaluator(streams=2)
    for name, value in judge.parameters.items():
        assert torch.equal(value, learner.learned[name])
        assert not torch.equal(value, learner.parameters[name])
    start = judge.flat.clone()
    x = draw(0, 2, D_IN)
    for _ in range(3):
        for _ in range(5):
            judge.step(x)
        assert judge.learn_block(torch.ones(5, 2, D_OUT, dtype=torch.float64)) is None
    judge.step(x)
    assert torch.equal(judge.flat, start)
    after = learner.state_dict()
    assert all(torch.equal(torch.as_tensor(value), torch.as_tensor(after[name])) for name, value in before.items())


def test_parameters_written_by_hand_count_from_the_next_block() -> None:
    found, expected = learner_of(), learner_of()
    play(found, 0, 10)
    play(expected, 0, 10)
    expected.load_state_dict({**expected.state_dict(), "flat": found.flat * 0.9})
    found.flat.mul_(0.9)
    assert all(torch.equal(a, b) for a, b in zip(play(found, 10), play(expected, 10), strict=True))


def test_a_gradient_that_is_not_finite_is_found() -> None:
    learner = learner_of(optimizer=Adam(lr=0.01, warmup_updates=0))
    play(learner, 0, 10)
    learner.check()
    before = learner.flat.clone()
    for _ in range(5):
        learner.step(draw(0, STREAMS, D_IN))
    learner.learn_block(torch.full((5, STREAMS, D_OUT), torch.nan))
    assert torch.equal(learner.flat, before)
    with pytest.raises(NonFiniteError, match="update after step 14"):
        learner.check()


def test_its_size_beside_an_lstm_of_64_units() -> None:
    """On MemoryChain, 6 inputs and 3 outputs: as many parameters, within 2 %."""
    parameters = RTULearner(RTU(d_in=6, d_out=3), optimizer=SGD()).flat.numel()
    assert parameters == 18_691
    assert parameters == pytest.approx(4 * 64 * (6 + 64 + 1) + 3 * 65, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"units": 0}, "units = 0"),
        ({"hidden": -1}, "hidden = -1"),
        ({"r_max": 1.0}, "r_min, r_max"),
        ({"max_phase": 7.0}, "max_phase = 7.0"),
    ],
)
def test_a_setting_out_of_range_is_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RTU(d_in=1, d_out=1, **settings)  # type: ignore[arg-type]


def test_mistakes_in_use_are_named() -> None:
    learner = learner_of()
    for make, message in (
        (lambda: RTULearner(learner.network, optimizer=SGD(), block=0), "block = 0"),
        (lambda: RTULearner(learner.network, optimizer=SGD(), dtype=torch.float16), "dtype"),
        (lambda: learner.step(torch.zeros(STREAMS, 1)), "x has shape"),
        (lambda: learner.learn_block(torch.zeros(5, STREAMS, D_OUT)), "after 0 of a block's 5 steps"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()
    play(learner, 0, 4)
    learner.step(draw(0, STREAMS, D_IN))
    with pytest.raises(ConfigError, match="dL_dy has shape"):
        learner.learn_block(torch.zeros(4, STREAMS, D_OUT))


def test_an_agent_plays_with_it_and_can_be_saved() -> None:
    def agent() -> Agent:
        arena = Arena(lambda: MemoryChain(memory_length=4), streams=4, seed=0)
        network = RTU(d_in=arena.size, d_out=arena.actions + 1, units=8, hidden=8)
        learner = RTULearner(network, optimizer=Adam(lr=1e-3, warmup_updates=0), streams=4)
        return Agent(arena, learner, ActorCritic(), window=5, seed=1)

    first, second = agent(), agent()
    for _ in range(7):
        first.window()
    second.learner.load_state_dict(first.learner.state_dict())
    second.restore(first.state())
    second.arena.restore(first.arena.state())
    for _ in range(5):
        assert np.array_equal(first.window().value, second.window().value)
