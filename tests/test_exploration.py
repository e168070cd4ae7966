"""Recall at a temperature, drawn by chance: its gradient, its frequencies, and who does not explore."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from sabsim import SAB, SGD, Adam, Network, StreamingLearner
from sabsim.native import library_or_none
from sabsim.optim import Optimizer
from sabsim.reference import ReferenceLearner
from sabsim.retention import Novelty, Recent, Relevancy, Retention

STREAMS, D_IN, D_OUT, HIDDEN, SLOTS, K_TRUNC, K_TOP = 3, 3, 2, 4, 6, 3, 2
compiled = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learner_of(
    *,
    explore: float,
    retention: Retention | None = None,
    update_every: int = K_TRUNC,
    seed: int = 3,
    backend: Any = "auto",
    **network: str,
) -> StreamingLearner:
    """A learner whose parameters never change."""
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN, **network),
        credit=SAB(
            k_top=K_TOP, k_trunc=K_TRUNC, replays=SLOTS, explore=explore, negligible=0.0, update_every=update_every
        ),
        retention=retention or Recent(slots=SLOTS), optimizer=SGD(lr=0.0), streams=STREAMS, seed=seed, dtype=torch.float64,
        backend=backend,
    )  # fmt: skip
    learner.flat.copy_(0.5 * draw(2, *learner.flat.shape))
    return learner


SHARP = {"salience": "cosine"}
"""With a sharpness that those who explore no longer teach."""


class Told(ReferenceLearner):
    """The oracle that is shown the drawn microstates only, and told apart from that what memory held in the block."""

    held: set[tuple[int, int]]

    def _remembered(self) -> set[tuple[int, int]]:
        return self.held


@pytest.mark.parametrize("explore", [1.0, 4.0])
@pytest.mark.parametrize("update_every", [K_TRUNC, 1])
@pytest.mark.parametrize(
    ("backend", "retention", "network"),
    [
        ("torch", Recent(slots=SLOTS), {}),
        pytest.param("native", Recent(slots=SLOTS), {}, marks=compiled),
        ("torch", Recent(slots=SLOTS), SHARP),
        pytest.param("native", Recent(slots=SLOTS), SHARP, marks=compiled),
        ("torch", Recent(slots=SLOTS), {"salience": "dot"}),
        ("torch", Novelty(slots=SLOTS), {"cell": "gru", "salience": "mlp"}),
        ("torch", Relevancy(slots=SLOTS), {"cell": "rnn", "salience": "tanh", "stores": "h"}),
        ("torch", Recent(slots=SLOTS), {"salience": "affine", "readout": "weights"}),
    ],
    ids=["cosine", "cosine-native", "sharp", "sharp-native", "lstm-dot", "gru-mlp", "rnn-tanh", "lstm-affine"],
)
def test_the_gradient_with_noise_is_the_oracle_s(
    backend: str, retention: Retention, network: dict[str, str], update_every: int, explore: float
) -> None:
    """The softmax over the drawn is the softmax of one who holds nothing else: the noise has no part in the gradient.

    Nor have those who explore in that of g, once it is 15 or more.
    """
    learner = learner_of(explore=explore, retention=retention, update_every=update_every, backend=backend, **network)
    if network is SHARP:
        learner.parameters["salience.g"].fill_(20.0)
    variants = {"salience": "cosine", "readout": "summary"} | network
    oracle = Told(
        learner.parameters, streams=STREAMS, k_top=K_TOP, k_trunc=K_TRUNC, update_every=update_every, slots=SLOTS,
        **variants,
    )  # fmt: skip
    odd, warm = 0, set()
    for t in range(27):
        done = torch.tensor([t in (7, 16), t in (9, 10), False])
        for side in (learner, oracle):
            side.reset(done)
        birth = learner.macrostate.birth
        if t % update_every == 0:
            oracle.held = set()
        oracle.held |= {(b, i) for b, births in enumerate(birth.tolist()) for i in births if i >= 0}
        y, read = learner.step(2 * draw(t, STREAMS, D_IN)), learner.read
        assert read is not None
        odd += int((read.weight[:, 0] < read.weight[:, 1]).sum())  # the first draw was not the more salient
        drawn = torch.full_like(birth, -1).scatter(1, read.slot, read.source_step)
        assert learner._exploration is not None
        temperature = torch.where(learner._exploration.arrays["exploring"][:, 0] > 0, explore, 1.0)
        warm |= {float(value) for value in temperature}
        expected_y = oracle.step(2 * draw(t, STREAMS, D_IN), drawn, temperature)
        torch.testing.assert_close(y, expected_y, rtol=1e-12, atol=1e-12)
        signal = draw(t + 500, STREAMS, D_OUT)
        learner.learn(signal)
        expected = oracle.learn(signal)
        for name, gradient in (expected or {}).items():
            if name == "salience.w_h":  # zero in theory: the query's term cancels
                assert learner.grads[name].abs().max() < 1e-12
                continue
            error = (learner.grads[name] - gradient).abs().max()
            assert error < 1e-9 * max(float(gradient.abs().max()), 1e-3), name
    assert odd > 10 or network is SHARP
    assert warm == {1.0, explore}


# What is drawn


def crowd(
    explore: float, *, streams: int = 3000, sharpness: float = 1.0, k_top: int = K_TOP, begin: bool = False
) -> tuple[StreamingLearner, Tensor]:
    """Many streams after a block of equal steps and one recall, and their common scores ``(slots,)`` at that recall."""
    learner = StreamingLearner(
        Network(d_in=1, d_out=HIDDEN, hidden=HIDDEN, salience="dot"),
        credit=SAB(k_top=k_top, k_trunc=4, explore=explore), retention=Recent(slots=4), optimizer=SGD(lr=0.0),
        streams=streams, seed=1, dtype=torch.float64,
    )  # fmt: skip
    learner.flat.copy_(draw(4, *learner.flat.shape))
    p, eye = learner.parameters, torch.eye(HIDDEN, dtype=torch.float64)
    for name, value in {"readout.W_h": eye, "readout.W_s": -eye, "readout.b": 0 * eye[0]}.items():
        p[name].copy_(value)  # y = h - s = h_hat
    p["salience.W_q"].mul_(sharpness)
    for t in range(5):
        if begin and t == 0:
            learner.reset(torch.ones(streams, dtype=torch.bool))
        h_hat = learner.step(draw(t, 1, 1).expand(streams, 1))
        learner.learn(torch.zeros_like(h_hat))
    m = learner.macrostate.m
    torch.testing.assert_close(m, m[:1].expand_as(m), rtol=1e-12, atol=1e-12)
    scores = (m[0] @ p["salience.W_k"].T) @ (p["salience.W_q"] @ h_hat[0]) / HIDDEN**0.5
    return learner, scores


def assert_drawn_from(found: Tensor, expected: Tensor) -> None:
    """Chi-square test of the counts of the outcomes, coded 0 .. n-1, against their probabilities."""
    counts = torch.bincount(found.flatten(), minlength=len(expected)).double()
    assert (counts[expected == 0] == 0).all()
    counts, wanted = counts[expected > 0], expected[expected > 0] * found.numel()
    assert wanted.min() > 5, "too few for the test"
    statistic = ((counts - wanted) ** 2 / wanted).sum()
    degrees = torch.tensor((len(wanted) - 1) / 2, dtype=torch.float64)
    assert torch.special.gammaincc(degrees, statistic / 2) > 1e-3, f"chi-square {statistic:.1f}"


def two_draws(p: Tensor) -> Tensor:
    """Probability of drawing i and then j without replacement, ``(slots * slots,)``."""
    return (p[:, None] * p[None, :] / (1 - p[:, None])).fill_diagonal_(0).flatten()


@pytest.mark.parametrize("explore", [0.5, 1.0, 2.0])
def test_draws_are_a_sample_without_replacement_from_the_softmax(explore: float) -> None:
    """At 1 the softmax of the scores; other values are a temperature, of the weights too, which have no noise."""
    learner, scores = crowd(explore, sharpness=6 * explore)
    read, p = learner.read, torch.softmax(scores / explore, 0)
    assert read is not None
    assert p.max() > 1.5 * p.min()
    assert_drawn_from(read.slot[:, 0], p)
    assert_drawn_from(4 * read.slot[:, 0] + read.slot[:, 1], two_draws(p))
    torch.testing.assert_close(read.weight, torch.softmax(scores[read.slot] / explore, 1), rtol=1e-9, atol=1e-12)


def test_half_of_the_sequences_explore() -> None:
    learner, scores = crowd(1.0, sharpness=6.0, begin=True)
    read, (first, second) = learner.read, scores.topk(2).indices.tolist()
    assert read is not None
    expected = 0.5 * two_draws(torch.softmax(scores, 0))
    expected[4 * first + second] += 0.5
    assert_drawn_from(4 * read.slot[:, 0] + read.slot[:, 1], expected)


STILL = SGD(lr=0.0)


def fading_learner(
    streams: int, *, backend: Any = "torch", fades: bool = True, optimizer: Optimizer = STILL
) -> StreamingLearner:
    return StreamingLearner(
        Network(d_in=D_IN, d_out=D_OUT, hidden=4), credit=SAB(k_top=1, k_trunc=3, explore_fades=fades),
        retention=Recent(slots=2), optimizer=optimizer, streams=streams, backend=backend,
    )  # fmt: skip


def advance(learner: StreamingLearner, t: int, done: Tensor, loss: Callable[[Tensor], Tensor]) -> None:
    """A step in which each stream loses what ``loss`` says of who explores, ``(streams,)``."""
    assert learner._exploration is not None
    learner.reset(done)
    learner.step(draw(t, learner.streams, D_IN).float())
    exploring = learner._exploration.arrays["exploring"][:, 0]
    learner.learn(torch.zeros(learner.streams, D_OUT), loss(exploring))


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize(("worse", "share"), [(1.0, 0.5), (4.0, 0.125), (1000.0, 0.01), (0.5, 0.5)])
def test_exploration_fades_as_it_costs_more(backend: Any, worse: float, share: float) -> None:
    """Who explores loses ``worse`` times as much: so much fewer sequences explore, at least 1 in 100, at most a half."""
    streams, drawn = 3_000, []
    learner = fading_learner(streams, backend=backend)
    for t in range(31):
        done = torch.arange(streams) % 7 == t % 7  # within blocks of 3 as well as between them
        advance(learner, t, done, lambda exploring: torch.where(exploring > 0, worse, 1.0))
        assert learner._exploration is not None
        if t >= 7:
            drawn.append(learner._exploration.arrays["exploring"][done].clone())
    assert learner._fading is not None
    torch.testing.assert_close(learner._fading.share.item(), share, rtol=1e-6, atol=0.0)
    assert learner._fading.found.item() == pytest.approx(max(0.0, 1 - 1 / worse), rel=1e-6)
    found, count = torch.cat(drawn).mean().item(), sum(len(each) for each in drawn)
    assert abs(found - share) < 4.5 * (share * (1 - share) / count) ** 0.5


def test_losses_belong_to_the_sequence_they_are_of() -> None:
    """A sequence that ends within a block is counted by whether it explored, not by whether the next one does."""
    learner = fading_learner(2)
    assert learner._exploration is not None
    assert learner._fading is not None
    coin = learner._exploration.arrays["coin"]
    for t in range(6):
        coin.copy_(torch.tensor([[float(t < 3)], [1.0]]))  # both explore from step 1 on; the first no longer from step 4 on
        advance(learner, t, torch.tensor([t in (1, 4), t == 1]), lambda _, t=t: torch.tensor([2.0**t, 0.0]))  # type: ignore[misc]
    learner.reset(torch.zeros(2, dtype=torch.bool))
    decay = 0.9995
    others, exploring = 2.0**4 + 2.0**5, 2.0**3 + decay * (2.0**0 + 2.0**1 + 2.0**2)
    expected = torch.tensor([others, 2.0, exploring, 4.0 + decay * 6.0], dtype=torch.float64)
    torch.testing.assert_close(learner._fading.arrays["sums"], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("optimizer", [Adam(), SGD(lr=0.0)], ids=str)
def test_an_update_counts_as_a_signal_by_what_recall_has_found(backend: Any, optimizer: Optimizer) -> None:
    """As 4 times a tenth while exploring costs nothing, then 4 times what was found, after a restart too."""
    learner = fading_learner(200, backend=backend, optimizer=optimizer)
    for t in range(30):
        if t == 20:  # within a block
            state = learner.state_dict()
            learner = fading_learner(200, backend=backend, optimizer=optimizer)
            learner.load_state_dict(state)
        worse, due = 1.0 if t < 12 else 4.0, t % 3 == 2
        signals, mean_square = (float(learner._optim[name]) for name in ("signals", "mean_square_norm"))
        learner.reset(torch.arange(200) % 7 == t % 7)
        assert learner._exploration is not None
        assert learner._fading is not None
        exploring, found = learner._exploration.arrays["exploring"][:, 0], learner._fading.found.item()
        dL_dy = learner.step(draw(t, 200, D_IN).float()) + 1
        learner.learn(dL_dy, torch.where(exploring > 0, worse, 1.0))
        norm = float(learner.gradient_norm)
        loud = min(norm / mean_square**0.5, 1.0) if mean_square else 1.0
        assert float(learner._optim["signals"]) - signals == pytest.approx(
            due * 4 * max(found, 0.1) * loud, rel=1e-4, abs=1e-12
        )
        assert (found > 0) == (t >= 15)


def test_half_of_them_go_on_exploring_where_it_does_not_fade() -> None:
    learner = fading_learner(4_000, fades=False)
    for t in range(9):
        advance(learner, t, torch.ones(4_000, dtype=torch.bool), lambda exploring: 100 * exploring + 1)
    assert learner._exploration is not None
    assert abs(learner._exploration.arrays["exploring"].mean().item() - 0.5) < 4.5 * 0.5 / 4_000**0.5


def test_every_step_draws_anew() -> None:
    """With equal scores what is drawn at a step says nothing about the next, inside a block and across its end."""
    learner, _ = crowd(1.0, sharpness=0.0, k_top=1)
    streams, drawn = learner.streams, []
    for _ in range(4):
        assert learner.read is not None
        drawn.append(learner.read.slot[:, 0].clone())
        learner.learn(learner.step(torch.zeros(streams, 1, dtype=torch.float64)))
    for before, after in pairwise(drawn):
        assert_drawn_from(4 * before + after, torch.full((16,), 1 / 16, dtype=torch.float64))


def test_without_noise_the_most_salient_are_read() -> None:
    learner, scores = crowd(0.0, streams=3)
    read, top = learner.read, scores.topk(K_TOP)
    assert read is not None
    assert torch.equal(read.slot, top.indices.expand(3, -1))
    torch.testing.assert_close(read.weight, torch.softmax(top.values, 0).expand(3, -1), rtol=1e-9, atol=1e-12)


# Who explores


def outputs(learner: StreamingLearner, steps: int = 24) -> Tensor:
    found = []
    for t in range(steps):
        learner.reset(torch.tensor([t == 13, False, False]))
        found.append(learner.step(2 * draw(t, STREAMS, D_IN)).clone())
        learner.learn(draw(t + 500, STREAMS, D_OUT))
    return torch.stack(found)


@pytest.mark.parametrize("sparsify", ["softmax", "relu", "normalised", "dense"])
def test_only_softmax_draws(sparsify: str) -> None:
    quiet, same, loud = (outputs(learner_of(explore=e, seed=s, sparsify=sparsify)) for e, s in ((0, 3), (0, 4), (1, 3)))
    assert torch.equal(quiet, same)
    assert torch.equal(quiet, loud) == (sparsify != "softmax")


def test_noise_depends_on_the_seed_alone() -> None:
    one, again, other = (outputs(learner_of(explore=1.0, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("way", ["evaluator", "learning = False"])
def test_who_does_not_learn_does_not_explore(way: str) -> None:
    found: list[Any] = []
    for explore in (5.0, 0.0):
        learner = learner_of(explore=explore)
        if way == "evaluator":
            learner = learner.evaluator()
        learner.learning = False
        found.append(outputs(learner))
    assert torch.equal(*found)
