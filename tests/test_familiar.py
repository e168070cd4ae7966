"""The familiar range: what it takes in, that it fades, and that an evaluation, and nothing else, stays within."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sabsim import SAB, SGD, Network, StreamingLearner
from sabsim.familiar import FADING, MOST, SLACK, FamiliarRange
from sabsim.retention import Novelty
from sabsim.runs import RunConfig, RunFolder, RunOptions, build_learner, load_checkpoint, train
from sabsim.tasks import Copying

STREAMS, D_IN, HIDDEN, BLOCK = 3, 4, 5, 2


def learner_of(
    cell: str = "lstm", *, backend: str = "auto", familiar: bool = True, explore: float = 0.0
) -> StreamingLearner:
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=2, hidden=HIDDEN, cell=cell), credit=SAB(k_top=2, k_trunc=BLOCK, explore=explore),
        retention=Novelty(slots=4), optimizer=SGD(lr=0.0), streams=STREAMS, seed=1, dtype=torch.float64,
        familiar=familiar, backend=backend,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(2)
    learner.flat.copy_(0.5 * torch.randn(learner.flat.shape, generator=generator, dtype=torch.float64))
    return learner


def inputs(steps: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(steps, STREAMS, D_IN, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def play(learner: StreamingLearner, x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs, and the c from which each step went on, both ``(steps, streams, ...)``."""
    y, c = [], []
    for row in x:
        learner._advance_if_full()
        c.append(learner.window.rings["c"][learner._position].clone())
        y.append(learner.step(row).clone())
        learner.learn(torch.zeros_like(y[-1]))
    return torch.stack(y), torch.stack(c)


@pytest.mark.parametrize("explore", [0.0, 1.0])
@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_range_is_that_of_all_states_without_exploration_and_fades(cell: str, backend: str, explore: float) -> None:
    learner = learner_of(cell, backend=backend, explore=explore)
    # Wild at first, then calm: what was met in the wild must be forgotten step by step.
    x = torch.cat([inputs(40, scale=4.0), inputs(161, scale=0.1)])
    low, high = torch.full((HIDDEN,), torch.inf).double(), torch.full((HIDDEN,), -torch.inf).double()
    block, explored, counted = [], torch.zeros(STREAMS, dtype=torch.bool), 0
    for t, row in enumerate(x):
        learner.reset(torch.tensor([t % 7 == 0, t % 5 == 1, t % 11 == 3]))
        if t and t % BLOCK == 0:  # the block before has ended
            rate = min(MOST, FADING * BLOCK / t)
            narrow = torch.nan_to_num(rate * (high - low), neginf=0.0)
            low, high = low + narrow, high - narrow
            for states in torch.stack(block)[:, ~explored].flatten(0, 1):
                low, high, counted = torch.minimum(low, states), torch.maximum(high, states), counted + 1
            block, explored = [], explored & False
        if learner._exploration is not None:
            explored |= learner._exploration.arrays["exploring"][:, 0] > 0
        block.append(learner.window.rings["c"][learner._position].clone())
        learner.learn(torch.zeros_like(learner.step(row)))
        torch.testing.assert_close(learner.learned["familiar.low"], low)
        torch.testing.assert_close(learner.learned["familiar.high"], high)
    assert int(learner.learned["familiar.steps"]) == 200
    assert counted == 200 * STREAMS if explore == 0 else 100 < counted < 500
    assert (high - low).max() < 1.0  # of the wild, nothing is left


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_an_evaluation_stays_within_and_learning_does_not(backend: str) -> None:
    learner = learner_of(backend=backend)
    play(learner, inputs(41, scale=0.1))
    low, high = (learner.learned[f"familiar.{end}"].clone() for end in ("low", "high"))
    low, high = low - SLACK * (high - low), high + SLACK * (high - low)
    wild = inputs(30, scale=4.0)
    other = learner.evaluator()
    found, states = play(other, wild)
    assert ((states[1:] >= low) & (states[1:] <= high)).all()
    assert ((states[1:] == low) | (states[1:] == high)).any()  # it did bind
    for name in ("low", "high", "steps"):
        assert torch.equal(other.learned[f"familiar.{name}"], learner.learned[f"familiar.{name}"])
    free, beyond = play(learner_of(backend=backend, familiar=False).evaluator(learned=learner.learned), wild)
    assert ((beyond < low) | (beyond > high)).any()
    assert (free - found).abs().max() > 1e-3
    again, learning = play(learner, wild)
    assert ((learning < low) | (learning > high)).any()
    assert torch.isfinite(again).all()


def test_within_the_range_nothing_changes() -> None:
    learner, x = learner_of(), inputs(40)
    play(learner, torch.cat([x, x[:1]]))
    learner.learned["familiar.low"].fill_(-100.0)
    learner.learned["familiar.high"].fill_(100.0)
    held, _ = play(learner.evaluator(), x)
    free, _ = play(learner_of(familiar=False).evaluator(learned=learner.learned), x)
    assert torch.equal(held, free)


def test_before_anything_was_learned_there_is_no_limit() -> None:
    held, _ = play(learner_of().evaluator(), inputs(20, scale=4.0))
    free, _ = play(learner_of(familiar=False).evaluator(), inputs(20, scale=4.0))
    assert torch.equal(held, free)


def test_learning_is_the_same_with_it() -> None:
    ours, theirs = learner_of(), learner_of(familiar=False)
    assert torch.equal(play(ours, inputs(41))[0], play(theirs, inputs(41))[0])
    assert torch.equal(ours.flat, theirs.flat)


def test_a_cell_without_c_has_no_range() -> None:
    learner = learner_of("rnn")
    play(learner, inputs(21))
    assert learner.learned["familiar.low"].shape == (0,)
    free = learner_of("rnn", familiar=False).evaluator(learned=learner.learned)
    assert torch.equal(play(learner.evaluator(), inputs(21))[0], play(free, inputs(21))[0])


def test_a_state_that_is_not_finite_leaves_the_range() -> None:
    learner = learner_of()
    play(learner, inputs(21))
    low = learner.learned["familiar.low"].clone()
    learner.window.rings["c"].fill_(torch.nan)
    assert learner._familiar is not None
    learner._familiar.follow(learner.window, None)
    assert torch.isfinite(learner.learned["familiar.low"]).all()
    assert (learner.learned["familiar.low"] >= low).all()


def test_it_is_part_of_the_state() -> None:
    learner, other = learner_of(), learner_of()
    play(learner, inputs(25))
    other.load_state_dict(learner.state_dict())
    for each in (learner, other):
        play(each, inputs(31))
    for name, value in learner.learned.items():
        assert torch.equal(value, other.learned[name]), name


def test_a_run_keeps_it_and_an_older_folder_has_none(tmp_path: Path) -> None:
    config = RunConfig(task=Copying(T=2), run=RunOptions(budget=40, streams=2, eval_every=20, eval_sequences=4))
    train(config, out=tmp_path)
    folder = RunFolder(tmp_path)
    learned = load_checkpoint(folder).states["parameters"]
    low, high = learned["familiar.low"], learned["familiar.high"]
    assert isinstance(low, Tensor)
    assert isinstance(high, Tensor)
    assert (low < high).all()
    data = folder.description()
    del data["learner"]["familiar"]  # written before there was such an option
    assert "familiar.low" not in build_learner(RunConfig.from_json(data, "config.json")).learned


def test_the_range_takes_no_room_without_c() -> None:
    assert FamiliarRange(learner_of("rnn")._parameters, streams=2).arrays["low"].numel() == 0
