"""What the bench compares: backends, parts that can be repeated, and that both sides do the same work."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import sabsim.bench.timing
import sabsim.graph
from sabsim import SAB, Adam, ConfigError, Network, Novelty, StreamingLearner
from sabsim.bench import find_backends, parts
from sabsim.bench.agent import ACTIONS, ENTROPY_WEIGHT, VALUE_WEIGHT, signal_of
from sabsim.bench.backends import make_learner
from sabsim.bench.flops import Product, gemm, lstm_products, total
from sabsim.bench.fused import TiedLSTM
from sabsim.bench.literal import LiteralSAB, graph_bytes, microstates_scored
from sabsim.bench.recording import Recording
from sabsim.bench.scale import cross_entropy
from sabsim.credits import Credits
from sabsim.network import Parameters

CPU = torch.device("cpu")


# Backends


def test_a_backend_that_refuses_or_falls_back_is_named_with_the_reason() -> None:
    def refusing(network: Network, *, backend: str, **named: Any) -> StreamingLearner:
        if backend != "torch":
            raise ConfigError(f"backend = {backend!r}: must be torch")
        return StreamingLearner(network, backend="torch", **named)

    def quiet(network: Network, *, backend: str, **named: Any) -> StreamingLearner:
        return StreamingLearner(network, backend="torch", **named)

    assert find_backends(CPU, refusing) == (("torch",), {"native": "backend = 'native': must be torch"})
    assert find_backends(CPU, quiet) == (("torch",), {"native": "falls back to 'torch' here"})
    assert "torch" in find_backends(CPU).names


# Parts


def small(**named: Any) -> StreamingLearner:
    return make_learner("torch", Network(d_in=3, d_out=2, hidden=8), device=CPU, **named)


def test_a_step_can_be_repeated_within_a_block() -> None:
    learner = small(credit=SAB(k_top=2), retention=Novelty(slots=4))
    again = parts.step(learner, 0)
    h = learner.window.rings["h_hat"][learner.window.history + 1]
    again()
    first = h.clone()
    for _ in range(2 * learner.credit.block):
        again()
    assert first.norm() > 0
    torch.testing.assert_close(h, first)


def test_keys_and_optimiser_alone() -> None:
    learner = small(credit=SAB(k_top=2), retention=Novelty(slots=4))
    parts.play_blocks(learner, 2, 0)
    before, updates = learner.flat.clone(), int(learner.updates)
    parts.keys(learner)()
    torch.testing.assert_close(learner.flat, before)
    parts.optimise(learner)()
    assert int(learner.updates) == updates + 3  # two blocks played, and the call
    assert not torch.equal(learner.flat, before)


def test_an_update_can_be_repeated_at_a_blocks_end() -> None:
    learner = small(credit=SAB(k_top=2, negligible=0), retention=Novelty(slots=4), optimizer=Adam(lr=0))
    again = parts.update(learner, 0)
    first = learner.grad.clone()
    events = again()
    assert int(learner.macrostate.occupied.sum()) == 4
    assert bool(events.valid.all())
    torch.testing.assert_close(learner.grad, first)


# What is compared does the same work


def test_the_tied_lstm_replays_as_the_learner_does() -> None:
    steps, slots, n, d = 5, 3, 8, 4
    learner = StreamingLearner(
        Network(d_in=d, d_out=2, hidden=n),
        credit=SAB(k_top=2, k_trunc=steps, replays=1),
        retention=Novelty(slots=slots),
        optimizer=Adam(),
        streams=3,
        dtype=torch.float64,
        backend="torch",  # whose replay can be called by itself
    )
    parts.fill_memory(learner, 0)
    memory, credit = learner.macrostate, torch.randn(3, slots, n, dtype=torch.float64)
    slot, norm = torch.zeros(3, 1, dtype=torch.int64), torch.ones(3, 1, dtype=torch.float64)
    replay = learner._replay
    assert replay is not None
    with torch.no_grad():
        replay.backward(Credits(credit, credit[..., 0], slot), slot, norm, memory)
    ours = learner.grad.clone()

    learner.grad.zero_()
    rows = memory.rows(slot).flatten()
    parameters: Parameters = learner._parameters
    tied = TiedLSTM(parameters.value["cell"], parameters.gradient["cell"])
    tied.replay(memory.arrays["segment"][rows].transpose(0, 1), memory.arrays["c"][rows], credit[:, 0])
    torch.testing.assert_close(learner.grad, ours, rtol=1e-9, atol=1e-12)
    assert ours.norm() > 0


def test_the_agents_signal_is_the_gradient_of_its_loss() -> None:
    out = torch.randn(1, ACTIONS + 1, dtype=torch.float64, requires_grad=True)
    reward, action = torch.tensor([0.7], dtype=torch.float64), torch.tensor([[3]])
    log_policy, value = torch.log_softmax(out[:, :ACTIONS], 1), out[:, ACTIONS]
    policy_loss = -(reward - value).detach() * log_policy[:, 3]
    loss = policy_loss + VALUE_WEIGHT * (reward - value) ** 2 + ENTROPY_WEIGHT * (log_policy.exp() * log_policy).sum(1)
    (wanted,) = torch.autograd.grad(loss.sum(), out)
    torch.testing.assert_close(signal_of(out.detach(), reward, action), wanted)


def test_the_literal_method_learns_a_sequence_by_heart() -> None:
    torch.manual_seed(0)
    recording = Recording(3, 2, seed=0, device=CPU)
    literal = LiteralSAB(10, 16, 9, k_top=3, k_trunc=5, k_att=2, device=CPU)

    def loss() -> float:
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(literal(recording.x).flatten(0, 1), recording.target.flatten()))

    before = loss()
    for _ in range(15):
        literal.learn(recording.x, recording.target)
    assert loss() < 0.9 * before
    # Steps 0 .. 4, every second state kept: 1, 1, 2, 2, 3 microstates.
    assert microstates_scored(5, 2) == 9
    assert graph_bytes(5, 2, 4, 2) == 9 * 2 * 6 * 4 * 4


def test_a_recording_is_one_period() -> None:
    recording = Recording(4, 3, seed=1, device=CPU)
    assert recording.x.shape == (24, 3, 10)
    assert recording.first.sum(0).tolist() == [1, 1, 1]
    assert torch.equal(recording.wanted.argmax(2), recording.target)
    learner = make_learner("torch", Network(d_in=10, d_out=9, hidden=8), streams=3, device=CPU)
    recording.play(learner)
    assert learner.clock == 24
    assert 0 < recording.replayed(learner) <= learner.credit.budget


def test_a_recording_played_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def capture(*ignored: Any) -> Any:
        raise RuntimeError("no device here")

    monkeypatch.setattr(sabsim.graph, "warm_up", lambda call, device: None)
    monkeypatch.setattr(sabsim.graph, "capture", capture)
    recording = Recording(5, 3, seed=1, device=CPU)  # 25 steps, 5 blocks
    plain, played = (make_learner("torch", Network(d_in=10, d_out=9, hidden=8), streams=3, device=CPU) for _ in range(2))
    played.device = torch.device("cuda")
    call, note = recording.player(played)
    played.device = CPU
    assert note == "not a CUDA graph: it cannot be captured: no device here"
    for _ in range(2):
        recording.play(plain)
        call()
    assert int(plain.updates) == 10
    assert torch.equal(plain.flat, played.flat)
    assert recording.player(plain)[1] == ""


def test_the_signal_of_many_streams_is_the_gradient_of_the_cross_entropy() -> None:
    y, target = torch.randn(3, 7, dtype=torch.float64, requires_grad=True), torch.tensor([0, 6, 2])
    wanted = torch.nn.functional.cross_entropy(y, target)
    dL_dy, loss = cross_entropy(y.detach(), target, streams=3)
    torch.testing.assert_close(loss.mean(), wanted.detach())
    (gradient,) = torch.autograd.grad(wanted, y)
    torch.testing.assert_close(5 * dL_dy, gradient)


def test_operations_are_counted() -> None:
    assert Product(2, 3, 4, times=5).flops == 2 * 2 * 3 * 4 * 5
    # 7 rows, 5 steps, n = 2, input 1: forward (1 + 2) x 8, back 8 x 2, gradient 8 x 3, per row and step.
    assert total(lstm_products(7, 5, 2, 1)) == 2 * 7 * 5 * (24 + 16 + 24)
    variant = gemm([Product(2, 3, 4)], units=6, device=CPU)
    variant.call()
    assert variant.flops == 48
