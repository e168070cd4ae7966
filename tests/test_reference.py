"""The oracle itself against finite differences, torch's recurrent layers and cases worked out by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from sabsim.errors import ConfigError
from sabsim.reference import ReferenceLearner

N, D_IN, D_OUT, SLOTS, STREAMS = 3, 2, 2, 4, 2
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
SALIENCES = {
    "cosine": {"W_q": (N, N), "W_k": (N, N), "g": (1,)},
    "dot": {"W_q": (N, N), "W_k": (N, N)},
    "mlp": {"v": (N,), "W_1": (N, N), "W_2": (N, N)},
    "affine": {"w_m": (N,), "w_h": (N,), "b": (SLOTS,)},
    "tanh": {"w_m": (N,), "w_h": (N,)},
}


def parameters(cell: str = "lstm", salience: str | None = "cosine", readout: str = "summary") -> dict[str, Tensor]:
    """Random parameters of a tiny network; without recall where `salience` is None."""
    generator = torch.Generator().manual_seed(3)
    rows = GATES[cell] * N
    shapes: dict[str, tuple[int, ...]] = {"cell.W_x": (rows, D_IN), "cell.W_h": (rows, N), "cell.b": (rows,)}
    if cell == "gru":
        shapes["cell.b_n"] = (N,)
    shapes |= {"readout.W_h": (D_OUT, N), "readout.b": (D_OUT,)}
    if salience is not None:
        shapes |= {f"salience.{name}": shape for name, shape in SALIENCES[salience].items()}
        shapes["readout.W_s" if readout == "summary" else "readout.W_a"] = (
            D_OUT,
            N if readout == "summary" else SLOTS,
        )
    return {k: torch.randn(v, generator=generator, dtype=torch.float64) * 0.7 for k, v in shapes.items()}


def signals(steps: int) -> tuple[Tensor, Tensor]:
    """Inputs (steps, streams, d_in) and learning signals (steps, streams, d_out)."""
    generator = torch.Generator().manual_seed(4)
    shape = (steps, STREAMS)
    x = torch.randn(*shape, D_IN, generator=generator, dtype=torch.float64)
    return x, torch.randn(*shape, D_OUT, generator=generator, dtype=torch.float64)


def recent(clock: int, block: int, begin: int = 0) -> Tensor:
    """A ring of the last SLOTS states of earlier blocks, for every stream."""
    birth = torch.full((STREAMS, SLOTS), -1)
    for i in range(begin, clock - clock % block):
        birth[:, i % SLOTS] = i
    return birth


def play(oracle: ReferenceLearner, steps: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Runs the oracle without resets; total loss and the gradients of all blocks."""
    x, dL_dy = signals(steps)
    loss, gradients = torch.zeros((), dtype=torch.float64), []
    for t in range(steps):
        y = oracle.step(x[t], recent(t, oracle.update_every) if oracle.equations.k_top else None)
        loss = loss + (y * dL_dy[t]).sum()
        if (gradient := oracle.learn(dL_dy[t])) is not None:
            gradients.append(gradient)
    return loss, gradients


def total(gradients: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([g[name] for g in gradients]).sum(0) for name in gradients[0]}


VARIANTS = [
    ("lstm", "cosine", "softmax", "h_hat", "summary", "h"),
    ("lstm", "dot", "softmax", "h_hat", "summary", "h_hat"),
    ("gru", "mlp", "relu", "h", "weights", "h"),
    ("rnn", "affine", "normalised", "h", "summary", "h_hat"),
    ("lstm", "tanh", "relu", "h_hat", "weights", "h"),
    ("gru", "dot", "dense", "h_hat", "summary", "h"),
]


@pytest.mark.parametrize(("cell", "salience", "sparsify", "stores", "readout", "feeds"), VARIANTS)
def test_whole_sequence_gradient_equals_finite_differences(
    cell: str, salience: str, sparsify: str, stores: str, readout: str, feeds: str
) -> None:
    start = parameters(cell, salience, readout)
    steps = 7
    # A dense read gives credit to the k_top only, so it is a true gradient where k_top is all of them.
    k_top = SLOTS if sparsify == "dense" else 3

    def run(p: dict[str, Tensor]) -> tuple[ReferenceLearner, Tensor]:
        oracle = ReferenceLearner(
            p, streams=STREAMS, k_top=k_top, k_trunc=100, update_every=2, cell=cell, salience=salience,
            sparsify=sparsify, stores=stores, readout=readout, feeds=feeds, slots=SLOTS,
            whole_sequence=True,
        )  # fmt: skip
        return oracle, play(oracle, steps)[0]

    gradient = run(start)[0].finish()
    for name, value in start.items():
        for index in range(value.numel()):
            ends = []
            for delta in (1e-6, -1e-6):
                moved = value.clone()
                moved.view(-1)[index] += delta
                ends.append(run(start | {name: moved})[1].item())
            slope = (ends[0] - ends[1]) / 2e-6
            assert gradient[name].view(-1)[index].item() == pytest.approx(slope, rel=1e-5, abs=1e-7), name


TORCH_LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def torch_layer(cell: str, p: dict[str, Tensor]) -> nn.RNNBase:
    """torch's own layer with the same parameters; our LSTM's gate rows are o, i, f, g, torch's i, f, g, o."""
    layer = TORCH_LAYERS[cell](D_IN, N).double()

    def rows(w: Tensor) -> Tensor:
        return torch.cat([w[N:], w[:N]]) if cell == "lstm" else w

    with torch.no_grad():
        layer.weight_ih_l0.copy_(rows(p["cell.W_x"]))
        layer.weight_hh_l0.copy_(rows(p["cell.W_h"]))
        layer.bias_ih_l0.copy_(rows(p["cell.b"]))
        layer.bias_hh_l0.zero_()
        if cell == "gru":
            layer.bias_hh_l0[2 * N :] = p["cell.b_n"]
    return layer


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("k_trunc", [3, 12])
def test_without_recall_it_is_truncated_backpropagation_by_torch(cell: str, k_trunc: int) -> None:
    steps = 12
    p = parameters(cell, salience=None)
    oracle = ReferenceLearner(p, streams=STREAMS, k_top=0, k_trunc=k_trunc, cell=cell)
    gradient = total(play(oracle, steps)[1])

    layer = torch_layer(cell, p)
    x, dL_dy = signals(steps)
    state = None
    for begin in range(0, steps, k_trunc):
        if state is not None:
            state = tuple(s.detach() for s in state) if cell == "lstm" else state.detach()
        h, state = layer(x[begin : begin + k_trunc], state)
        (h @ p["readout.W_h"].T * dL_dy[begin : begin + k_trunc]).sum().backward()

    def back(g: Tensor) -> Tensor:
        return torch.cat([g[-N:], g[:-N]]) if cell == "lstm" else g

    expected = {
        "cell.W_x": back(layer.weight_ih_l0.grad),
        "cell.W_h": back(layer.weight_hh_l0.grad),
        "cell.b": back(layer.bias_ih_l0.grad),
        "readout.b": dL_dy.sum((0, 1)),
    }
    if cell == "gru":
        expected["cell.b_n"] = layer.bias_hh_l0.grad[2 * N :]
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value, rtol=1e-10, atol=1e-12)


def test_the_released_grid_of_one_step_is_immediate_credit() -> None:
    """Whole-sequence mode cuts the chain where the released code does: a grid of 1 cuts before every step."""
    p = parameters("gru", salience=None)
    arguments = {"streams": STREAMS, "k_top": 0, "k_trunc": 1, "cell": "gru"}
    whole, block = ReferenceLearner(p, whole_sequence=True, **arguments), ReferenceLearner(p, **arguments)
    play(whole, 5)
    expected, gradient = total(play(block, 5)[1]), whole.finish()
    for name in p:
        torch.testing.assert_close(gradient[name], expected[name], rtol=1e-12, atol=1e-15)


def test_one_hop_by_hand() -> None:
    """A scalar tanh RNN, k_trunc = 2, one microstate: every term of the gradient written out."""
    w_x, w_h, q, k, v_h, v_s = 0.8, -0.6, 0.9, 1.3, 0.7, -1.1
    x = [0.5, -0.4, 1.2, 0.3]
    p = {
        "cell.W_x": w_x, "cell.W_h": w_h, "cell.b": 0.0, "salience.W_q": q, "salience.W_k": k,
        "readout.W_h": v_h, "readout.W_s": v_s, "readout.b": 0.0,
    }  # fmt: skip
    matrices = {n: torch.full((1, 1) if "W" in n else (1,), v, dtype=torch.float64) for n, v in p.items()}
    oracle = ReferenceLearner(matrices, streams=1, k_top=2, k_trunc=2, slots=2, cell="rnn", salience="dot")
    gradient = None
    for t in range(4):
        birth = torch.tensor([[0, 1]] if t >= 2 else [[-1, -1]])
        oracle.step(torch.tensor([[x[t]]], dtype=torch.float64), birth)
        gradient = oracle.learn(torch.full((1, 1), float(t == 3), dtype=torch.float64))
    assert gradient is not None

    def read(h_hat: float, m: list[float]) -> tuple[list[float], float]:
        a = [math.exp(k * mi * q * h_hat) for mi in m]
        w = [ai / sum(a) for ai in a]
        return w, w[0] * m[0] + w[1] * m[1]

    m0 = math.tanh(w_x * x[0])
    m1 = math.tanh(w_x * x[1] + w_h * m0)
    h_hat2 = math.tanh(w_x * x[2] + w_h * m1)
    w2, s2 = read(h_hat2, [m0, m1])
    h2 = h_hat2 + s2
    h_hat3 = math.tanh(w_x * x[3] + w_h * h2)
    w3, s3 = read(h_hat3, [m0, m1])

    def read_back(d_s: float, w: list[float], m: list[float], h_hat: float) -> tuple[float, list[float], float]:
        """d_h_hat, d_m and d(q k) of a two-way softmax over scores q k m_i h_hat."""
        d_a = w[0] * w[1] * (m[0] - m[1]) * d_s
        d_m = [w[0] * d_s + d_a * q * k * h_hat, w[1] * d_s - d_a * q * k * h_hat]
        return d_a * q * k * (m[0] - m[1]), d_m, d_a * (m[0] - m[1]) * h_hat

    d_h_hat3, d_m3, d_qk3 = read_back(v_h + v_s, w3, [m0, m1], h_hat3)
    d_z3 = (v_h + d_h_hat3) * (1 - h_hat3**2)
    d_h2 = d_z3 * w_h
    d_h_hat2, d_m2, d_qk2 = read_back(d_h2, w2, [m0, m1], h_hat2)
    d_z2 = (d_h2 + d_h_hat2) * (1 - h_hat2**2)
    d_m0, d_m1 = d_m3[0] + d_m2[0], d_m3[1] + d_m2[1]
    d_z1 = d_m1 * (1 - m1**2)  # the segment of m1 is steps 0 and 1; it is not joined to the main chain
    d_z0 = (d_m0 + d_z1 * w_h) * (1 - m0**2)
    expected = {
        "cell.W_x": d_z3 * x[3] + d_z2 * x[2] + d_z1 * x[1] + d_z0 * x[0],
        "cell.W_h": d_z3 * h2 + d_z2 * m1 + d_z1 * m0,
        "cell.b": d_z3 + d_z2 + d_z1 + d_z0,
        "salience.W_q": (d_qk3 + d_qk2) * k,
        "salience.W_k": (d_qk3 + d_qk2) * q,
        "readout.W_h": h_hat3 + s3,
        "readout.W_s": s3,
        "readout.b": 1.0,
    }
    for name, value in expected.items():
        assert gradient[name].item() == pytest.approx(value, rel=1e-12), name
    assert oracle.credit[0, 0].item() == pytest.approx(d_m0, rel=1e-12)
    assert oracle.credit[0, 1].item() == pytest.approx(d_m1, rel=1e-12)


def test_relu_with_k_top_one_recalls_nothing() -> None:
    """Eq. 2 gives the k_top-th microstate weight zero."""
    p = parameters()
    y, recall = [], ReferenceLearner(p, streams=STREAMS, k_top=1, k_trunc=2, sparsify="relu", slots=SLOTS)
    nothing = ReferenceLearner(p, streams=STREAMS, k_top=0, k_trunc=2)
    x, _ = signals(6)
    for t in range(6):
        y.append((recall.step(x[t], recent(t, 2)), nothing.step(x[t])))
        recall.learn(torch.ones(STREAMS, D_OUT, dtype=torch.float64))
    assert all(torch.equal(a, b) for a, b in y)
    assert recall.credit == {}


def test_an_affine_score_cannot_learn_its_query() -> None:
    """With eq. 1 and eq. 2 the query term cancels in the difference; with a dot product it does not."""
    norms = {}
    for salience, query in (("affine", "w_h"), ("tanh", "w_h"), ("dot", "W_q")):
        oracle = ReferenceLearner(
            parameters("lstm", salience), streams=STREAMS, k_top=3, k_trunc=2, salience=salience,
            sparsify="relu", slots=SLOTS,
        )  # fmt: skip
        gradient = total(play(oracle, 8)[1])
        norms[salience] = gradient[f"salience.{query}"].norm().item()
        assert gradient["salience.W_k" if salience == "dot" else "salience.w_m"].norm() > 1e-3
    assert norms["affine"] < 1e-14
    assert norms["tanh"] < 1e-14
    assert norms["dot"] > 1e-3


def test_replays_keep_the_greatest_credits() -> None:
    p = parameters()
    arguments = {"streams": STREAMS, "k_top": 3, "k_trunc": 3, "slots": SLOTS}
    full, limited, none, roomy = (
        ReferenceLearner(p, replays=r, **arguments) for r in (None, 1, 0, SLOTS)
    )  # fmt: skip
    results = [total(play(oracle, 9)[1]) for oracle in (full, limited, none, roomy)]
    assert len(limited.replayed) == STREAMS
    assert not none.replayed
    for b in range(STREAMS):
        (kept,) = [source for source in limited.replayed if source[0] == b]
        assert all(limited.credit[kept].norm() >= g.norm() for source, g in limited.credit.items() if source[0] == b)
    distances = [(results[0]["cell.W_h"] - r["cell.W_h"]).norm().item() for r in results[1:]]
    assert min(distances[:2]) > 1e-3
    assert distances[2] < 1e-12
    # Without replay the salience still learns, from the same reads.
    torch.testing.assert_close(results[2]["salience.W_q"], results[0]["salience.W_q"], rtol=1e-12, atol=1e-15)


def test_dense_reads_everything_and_credits_the_greatest() -> None:
    arguments = {"streams": STREAMS, "k_trunc": 3, "update_every": 1, "slots": SLOTS, "sparsify": "dense"}
    narrow, wide = (ReferenceLearner(parameters(), k_top=k, **arguments) for k in (1, SLOTS))
    assert torch.equal(play(narrow, 6)[0], play(wide, 6)[0])
    assert len(wide.credit) > len(narrow.credit) >= STREAMS


def test_a_reset_cuts_one_stream_and_spares_the_other() -> None:
    p = parameters()
    x, dL_dy = signals(4)
    outputs, gradients = [], []
    for reset in (False, True):
        oracle = ReferenceLearner(p, streams=STREAMS, k_top=2, k_trunc=4, slots=SLOTS)
        y = []
        for t in range(4):
            oracle.reset(torch.tensor([False, reset and t == 2]))
            y.append(oracle.step(x[t], recent(t, 4)))
            gradient = oracle.learn(dL_dy[t])
        outputs.append(torch.stack(y))
        gradients.append(gradient)
    assert torch.equal(outputs[0][:, 0], outputs[1][:, 0])
    assert torch.equal(outputs[0][:2, 1], outputs[1][:2, 1])
    assert not torch.equal(outputs[0][2, 1], outputs[1][2, 1])
    # By hand: the second stream is two sequences of two steps, and the losses before the reset still count.
    parts = []
    for stream, steps in ((0, range(4)), (1, range(2)), (1, range(2, 4))):
        oracle = ReferenceLearner(p, streams=1, k_top=2, k_trunc=len(steps), slots=SLOTS)
        for t in steps:
            oracle.step(x[t, stream : stream + 1])
            gradient = oracle.learn(dL_dy[t, stream : stream + 1])
        parts.append(gradient)
    for name, value in total(parts).items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-12, atol=1e-15)


def test_stored_values_stay_when_parameters_change() -> None:
    """Online, a microstate keeps the value it had; its twin brings the gradient, with today's parameters."""
    step_size = 0.1

    def descend(p: dict[str, Tensor], g: dict[str, Tensor]) -> None:
        for name in p:
            p[name] -= step_size * g[name]

    start = parameters()
    oracle = ReferenceLearner(start, streams=STREAMS, k_top=3, k_trunc=2, slots=SLOTS, update=descend)
    x, dL_dy = signals(4)
    for t in range(2):
        oracle.step(x[t])
        gradient = oracle.learn(dL_dy[t])
    moved = {name: start[name] - step_size * gradient[name] for name in start}
    assert all(torch.equal(oracle.parameters[name], moved[name]) for name in start)

    frozen = ReferenceLearner(start, streams=STREAMS, k_top=3, k_trunc=2, slots=SLOTS)
    for t in range(2):
        frozen.step(x[t])
        frozen.learn(dL_dy[t])
    fresh = ReferenceLearner(moved, streams=STREAMS, k_top=3, k_trunc=2, slots=SLOTS)
    for t in range(2):
        fresh.step(x[t])
        fresh.learn(dL_dy[t])
    for b in range(STREAMS):  # old memory and state, new parameters
        fresh._streams[b] = frozen._streams[b]
    assert torch.equal(oracle.step(x[2], recent(2, 2)), fresh.step(x[2], recent(2, 2)))


@pytest.mark.parametrize("wrong", [[2, 2, -1, -1], [6, -1, -1, -1], [3, -1, -1, -1], [0, -1, -1, -1]])
def test_an_impossible_macrostate_is_refused(wrong: list[int]) -> None:
    """One step twice; a step of the current block; off the grid of k_att; a sequence that has ended."""
    oracle = ReferenceLearner(parameters(), streams=STREAMS, k_top=3, k_trunc=2, k_att=2, slots=SLOTS)
    x, dL_dy = signals(8)
    for t in range(7):
        oracle.reset(torch.tensor([t == 1, False]))
        oracle.step(x[t])
        oracle.learn(dL_dy[t])
    with pytest.raises(ConfigError, match="birth of stream 0"):
        oracle.step(x[7], torch.tensor([wrong, [-1] * SLOTS]))


def test_update_every_is_checked() -> None:
    with pytest.raises(ConfigError, match="update_every is 4"):
        ReferenceLearner(parameters(), streams=1, k_top=1, k_trunc=3, update_every=4)
