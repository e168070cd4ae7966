"""The usual input: its running mean, the states it would have led to, and what novelty makes of them."""

import pytest
import torch
from torch import Tensor

from sabsim import SAB, SGD, ConfigError, Network, StreamingLearner
from sabsim.reference_equations import cell_step
from sabsim.retention import Novelty, States
from sabsim.usual import MEMORY

STREAMS, D_IN, HIDDEN, BLOCK = 3, 4, 5, 2


def learner_of(cell: str = "lstm", **retention: float) -> StreamingLearner:
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=2, hidden=HIDDEN, cell=cell), credit=SAB(k_top=2, k_trunc=BLOCK),
        retention=Novelty(slots=4, **retention), optimizer=SGD(lr=0.0), streams=STREAMS, seed=1, dtype=torch.float64,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(2)
    learner.flat.copy_(0.5 * torch.randn(learner.flat.shape, generator=generator, dtype=torch.float64))
    return learner


def inputs(steps: int) -> Tensor:
    return 3 + torch.randn(steps, STREAMS, D_IN, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def play(learner: StreamingLearner, x: Tensor) -> None:
    for row in x:
        learner.learn(torch.zeros_like(learner.step(row)))


def test_the_mean_is_that_of_all_inputs_while_they_are_few() -> None:
    learner, x = learner_of(), inputs(41)
    play(learner, x)
    # The block under way is not in it yet.
    torch.testing.assert_close(learner.learned["usual.mean"], x[:40].mean((0, 1)))
    assert int(learner.learned["usual.steps"]) == 40


@pytest.mark.parametrize("cell", ["lstm", "gru"])  # by C, and by torch
def test_later_the_mean_forgets(cell: str) -> None:
    learner = learner_of(cell)
    learner.learned["usual.steps"].fill_(10 * int(MEMORY))
    learner.learned["usual.mean"].fill_(1.0)
    play(learner, torch.full((BLOCK + 1, STREAMS, D_IN), 2.0, dtype=torch.float64))
    torch.testing.assert_close(learner.learned["usual.mean"], torch.full((D_IN,), 1 + BLOCK / MEMORY, dtype=torch.float64))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_states_are_those_of_a_cell_step_on_the_usual_input(cell: str) -> None:
    learner, x = learner_of(cell), inputs(3 * BLOCK)
    play(learner, x)
    window, p = learner.window, dict(learner.parameters)
    assert learner._usual is not None
    found, mean = learner._usual.states(window), learner.learned["usual.mean"]
    for i in range(BLOCK):
        at = window.history + i
        for b in range(STREAMS):
            h, c = window.rings["xh"][at, b, D_IN:], window.rings["c"][at, b]
            expected = cell_step(cell, p, mean, h, c)[0]
            torch.testing.assert_close(found[i, b], expected, rtol=1e-12, atol=1e-12)
            assert (expected - window.rings["h_hat"][at, b]).norm() > 1e-3


def test_a_move_by_the_input_counts_twice() -> None:
    zero, one = torch.zeros(1, 1, 2), torch.tensor([[[3.0, 4.0]]])
    generator = torch.Generator()
    by_itself = States(one, zero, zero[..., 0], torch.zeros(1), generator, usual=one)
    by_input = by_itself._replace(usual=zero)
    assert Novelty(slots=4).score(by_itself).item() == 5
    assert Novelty(slots=4).score(by_input).item() == 10
    assert Novelty(slots=4, input_effect=0.5).score(by_input).item() == 7.5
    assert Novelty(slots=4).score(by_itself._replace(usual=None)).item() == 5


def test_what_was_shown_outlasts_a_state_that_jumps_by_itself() -> None:
    """A pulse, then a state that moves by itself at every step: the input's effect decides which is kept."""
    kept = {}
    for weight in (0.0, 1.0):
        learner = learner_of(cell="rnn", input_effect=weight, protect=1)
        learner.flat.zero_()
        p = learner.parameters
        p["cell.W_x"].copy_(0.5 * torch.eye(HIDDEN, D_IN, dtype=torch.float64))
        p["cell.W_h"][4, 4] = -2.0  # unit 4 begins to flip its sign at every step
        p["cell.b"][4] = 0.1
        if "usual.steps" in learner.learned:
            learner.learned["usual.steps"].fill_(100 * int(MEMORY))  # it has seen many zeros before
        x = torch.zeros(20, STREAMS, D_IN, dtype=torch.float64)
        x[3, :, :2] = 2.0
        play(learner, x)
        kept[weight] = 3 in learner.macrostate.birth[0].tolist()
    assert kept == {0.0: False, 1.0: True}


def test_an_evaluator_uses_the_learned_mean_and_leaves_it() -> None:
    learner = learner_of()
    play(learner, inputs(21))
    learned = learner.learned["usual.mean"].clone()
    other = learner.evaluator(streams=2)
    play(other, torch.zeros(11, 2, D_IN, dtype=torch.float64))
    assert torch.equal(other.learned["usual.mean"], learned)
    assert torch.equal(learner.learned["usual.mean"], learned)


def test_without_the_comparison_there_is_no_usual_input() -> None:
    assert set(learner_of(input_effect=0.0).learned) == set(learner_of(input_effect=0.0).parameters)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_bad_weight_is_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match=f"input_effect = {weight}"):
        Novelty(slots=4, input_effect=weight)
