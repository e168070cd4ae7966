"""Without recall the learner is backpropagation: against torch's own recurrent layers and the oracle."""

import pytest
import torch
from torch import Tensor, nn

from sabsim import BPTT, SAB, SGD, TBPTT, CreditRule, Immediate, Network, StreamingLearner
from sabsim.reference import ReferenceLearner
from sabsim.retention import Recent

STREAMS, HIDDEN, D_IN, D_OUT, STEPS = 3, 5, 4, 3, 24
LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def streaming(cell: str, credit: CreditRule) -> StreamingLearner:
    """A learner with every parameter, biases too, drawn at random and never changed."""
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN, cell=cell),
        credit=credit, retention=Recent(slots=6), optimizer=SGD(lr=0.0, clip=0.0), streams=STREAMS, seed=1,
        dtype=torch.float64,
    )  # fmt: skip
    learner.flat.copy_(0.5 * draw(5, *learner.flat.shape))
    return learner


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torch_gradients(cell: str, p: dict[str, Tensor], x: Tensor, dL_dy: Tensor) -> dict[str, Tensor]:
    """Whole-sequence gradients by torch's layer; our LSTM's gate rows are o, i, f, g, torch's i, f, g, o."""
    layer = LAYERS[cell](D_IN, HIDDEN).double()
    shift = HIDDEN if cell == "lstm" else 0
    names = {"W_x": layer.weight_ih_l0, "W_h": layer.weight_hh_l0, "b": layer.bias_ih_l0}
    with torch.no_grad():
        for mine, theirs in names.items():
            theirs.copy_(p[f"cell.{mine}"].roll(-shift, 0))
        layer.bias_hh_l0.zero_()
        if cell == "gru":
            layer.bias_hh_l0[2 * HIDDEN :] = p["cell.b_n"]
    W_h = p["readout.W_h"].clone().requires_grad_()
    h, _ = layer(x)
    (h @ W_h.T * dL_dy).sum().backward()
    found = {"readout.W_h": W_h.grad, "readout.b": dL_dy.sum((0, 1))}
    found |= {f"cell.{mine}": theirs.grad.roll(shift, 0) for mine, theirs in names.items()}
    if cell == "gru":
        found["cell.b_n"] = layer.bias_hh_l0.grad[2 * HIDDEN :]
    return found


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, gradient in expected.items():
        scale = gradient.abs().max()
        assert scale > 1e-6, name
        assert (found[name] - gradient).abs().max() < 1e-9 * scale, name


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(
    "credit",
    # Nothing of the first block can be recalled: a window as long as the sequence is plain backpropagation.
    [SAB(k_top=3, k_trunc=STEPS), TBPTT(k_trunc=STEPS), BPTT(length=STEPS)],
    ids=["sab", "tbptt", "bptt"],
)
def test_a_window_as_long_as_the_sequence_is_torch_backpropagation(cell: str, credit: CreditRule) -> None:
    learner = streaming(cell, credit)
    x, dL_dy = draw(6, STEPS, STREAMS, D_IN), draw(7, STEPS, STREAMS, D_OUT)
    for t in range(STEPS):
        learner.step(x[t])
        learner.learn(dL_dy[t])
    assert_close(learner.grads, torch_gradients(cell, learner.parameters, x, dL_dy))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(
    "credit",
    [TBPTT(k_trunc=4), TBPTT(k_trunc=4, update_every=1), TBPTT(k_trunc=5, update_every=3), Immediate()],
    ids=["windows", "sliding", "overlapping", "immediate"],
)
def test_truncated_backpropagation_equals_the_oracle(cell: str, credit: CreditRule) -> None:
    learner = streaming(cell, credit)
    oracle = ReferenceLearner(
        learner.parameters,
        streams=STREAMS,
        k_top=0,
        k_trunc=credit.k_trunc,
        update_every=credit.block,
        cell=cell,
    )
    x, dL_dy = draw(6, STEPS, STREAMS, D_IN), draw(7, STEPS, STREAMS, D_OUT)
    fast, slow = (
        torch.zeros_like(learner.grad),
        {k: torch.zeros_like(p) for k, p in oracle.parameters.items()},
    )
    for t in range(STEPS):
        done = torch.tensor([t == 0, t in (9, 10), False])
        for side in (learner, oracle):
            side.reset(done)
        torch.testing.assert_close(learner.step(x[t]), oracle.step(x[t]), rtol=1e-12, atol=1e-12)
        learner.learn(dL_dy[t])
        if (expected := oracle.learn(dL_dy[t])) is not None:
            fast += learner.grad
            slow = {name: slow[name] + expected[name] for name in slow}
    learner.grad.copy_(fast)
    assert_close(learner.grads, slow)
