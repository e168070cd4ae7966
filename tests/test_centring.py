"""Centring: what the salience does not see, where it may be asked for, and that its gradient knows of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sabsim import SAB, SGD, TBPTT, Adam, ConfigError, Network, StreamingLearner
from sabsim.centring import Centring
from sabsim.native import library_or_none
from sabsim.reference import ReferenceLearner
from sabsim.retention import All, Recent
from sabsim.runs import LearnerOptions, RunConfig, build
from sabsim.tasks import Copying
from sabsim.usual import MEMORY

STREAMS, D_IN, D_OUT, HIDDEN, BLOCK = 3, 4, 2, 6, 2
compiled = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")
BACKENDS = ["torch", pytest.param("native", marks=compiled)]


def learner_of(*, backend: str = "torch", lr: float = 0.05, steps: int = 4) -> StreamingLearner:
    learner = StreamingLearner(
        Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN),
        credit=SAB(k_top=2, k_trunc=BLOCK, explore=0.0, negligible=0.0, replays=4), retention=All(slots=steps),
        optimizer=SGD(lr=lr, clip=0.0), streams=STREAMS, seed=1, dtype=torch.float64, centred=True, backend=backend,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(2)
    learner.flat.copy_(0.5 * torch.randn(learner.flat.shape, generator=generator, dtype=torch.float64))
    return learner


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(learner: StreamingLearner, steps: int, *, seed: int = 3) -> list[Tensor]:
    """Random inputs and signals; returns h_hat of every step, ``(streams, n)``."""
    states = []
    for x, signal in zip(numbers(steps, STREAMS, D_IN, seed=seed), numbers(steps, STREAMS, D_OUT, seed=4), strict=True):
        learner.step(x)
        states.append(learner.window.rings["h_hat"][learner._position - 1].clone())
        learner.learn(signal)
    return states


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_projections_do_not_see_the_mean_of_the_last_thousand_steps(backend: str) -> None:
    learner = learner_of(backend=backend, lr=0.0, steps=2_400)
    states = run(learner, 2_400)
    mean, met = torch.zeros(HIDDEN, dtype=torch.float64), 0
    for t in range(0, len(states), BLOCK):
        met += BLOCK
        mean += max(BLOCK / met, BLOCK / MEMORY) * (torch.cat(states[t : t + BLOCK]).mean(0) - mean)
    assert met > 2 * MEMORY
    u = learner.state_dict()["centring.direction"]
    torch.testing.assert_close(u, mean / mean.norm(), rtol=1e-10, atol=0)
    for name in ("W_q", "W_k"):
        projection = learner.parameters[f"salience.{name}"]
        assert (projection @ u).norm() < 1e-14 * projection.norm()


def oracle_of(learner: StreamingLearner) -> ReferenceLearner:
    return ReferenceLearner(
        learner.parameters, streams=STREAMS, k_top=2, k_trunc=BLOCK, slots=learner.retention.slots, replays=4, centred=True
    )


def gap(learner: StreamingLearner) -> float:
    """Greatest deviation of the gradient of W_q from the oracle's in ten blocks, relative to its greatest entry."""
    oracle, found, expected = oracle_of(learner), [], []
    for x, signal in zip(numbers(20, STREAMS, D_IN, seed=3), numbers(20, STREAMS, D_OUT, seed=4), strict=True):
        learner.reset(torch.zeros(STREAMS, dtype=torch.bool))  # lets the block before enter the memory
        birth = learner.macrostate.birth.clone()
        learner.step(x)
        oracle.step(x, birth)
        learner.learn(signal)
        gradients = oracle.learn(signal)
        if gradients is not None:
            found.append(learner.grads["salience.W_q"].clone())
            expected.append(gradients["salience.W_q"])
    assert len(found) == 10
    return float((torch.stack(found) - torch.stack(expected)).abs().max() / torch.stack(expected).abs().max())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_that_knows_nothing_of_it_is_caught(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gap(learner_of(backend=backend, lr=0.0, steps=20)) < 1e-9
    monkeypatch.setattr(Centring, "confine", lambda self: None)
    assert gap(learner_of(backend=backend, lr=0.0, steps=20)) > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_learner_taken_up_again_goes_on_as_it_would_have(backend: str) -> None:
    whole, first, second = (learner_of(backend=backend, steps=20) for _ in range(3))
    run(whole, 10)
    run(first, 10)
    second.load_state_dict(first.state_dict())
    for learner in (whole, second):
        run(learner, 10, seed=5)
    for name, value in whole.state_dict().items():
        assert isinstance(value, int) or torch.equal(value, second.state_dict()[name]), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_state_that_is_not_finite_leaves_the_parameters_finite(backend: str) -> None:
    learner = learner_of(backend=backend)
    run(learner, 2)
    learner.step(torch.full((STREAMS, D_IN), torch.nan, dtype=torch.float64))
    learner.learn(torch.zeros(STREAMS, D_OUT, dtype=torch.float64))
    learner.step(numbers(STREAMS, D_IN, seed=5))
    learner.learn(torch.zeros(STREAMS, D_OUT, dtype=torch.float64))
    assert torch.isfinite(learner.flat).all()


@pytest.mark.parametrize(("salience", "credit"), [("affine", SAB()), ("tanh", SAB()), ("cosine", TBPTT())], ids=str)
def test_without_projections_there_is_nothing_to_centre(salience: str, credit: SAB | TBPTT) -> None:
    with pytest.raises(ConfigError, match=r"centred = True: needs a salience with projections \(cosine, dot, mlp\)"):
        StreamingLearner(
            Network(d_in=D_IN, d_out=D_OUT, hidden=HIDDEN, salience=salience), credit=credit, retention=Recent(slots=8),
            optimizer=Adam(), centred=True,
        )  # fmt: skip


def config_of(**options: object) -> RunConfig:
    return RunConfig(task=Copying(T=5), learner=replace(LearnerOptions(hidden=8), **options))


@pytest.mark.parametrize("centred", [False, True])
def test_a_run_is_centred_if_asked(centred: bool) -> None:
    learner = build(config_of(centred=centred, salience="mlp")).learner
    assert isinstance(learner, StreamingLearner)
    assert ("centring.mean" in learner.state_dict()) is centred


@pytest.mark.parametrize("options", [{"preset": "paper"}, {"credit": "tbptt"}, {"credit": "full-attention"}], ids=str)
def test_runs_refuse_it_where_they_cannot(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="centred = True"):
        build(config_of(centred=True, **options))
