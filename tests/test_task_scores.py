"""What the tasks score: against autograd, and the baselines against trivial predictors that are played."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sabsim.tasks import Adding, Copying, Denoise, Task, TaskStep, TaskStream

SMALL = {"adding": Adding(T=7), "copying": Copying(T=3), "denoise": Denoise(T=13)}
NAMES = list(SMALL)


# --- scores ---------------------------------------------------------------------------------------


def autograd_score(task: Task, y: Tensor, step: TaskStep) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient and metric by torch's own losses."""
    y = y.clone().requires_grad_()
    if task.metric == "accuracy":
        loss = nn.functional.cross_entropy(y, step.target, reduction="none") * step.weight
        metric = (y.argmax(1) == step.target) & step.scored
    else:
        loss = nn.functional.mse_loss(y[:, 0], step.target, reduction="none") * step.weight
        metric = nn.functional.mse_loss(y[:, 0], step.target, reduction="none") * step.scored
    (gradient,) = torch.autograd.grad(loss.sum() / len(y), y)
    return loss.detach(), gradient, metric.detach().to(y.dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stagger", [False, True])
def test_scores_equal_autograd(name: str, stagger: bool) -> None:
    task = SMALL[name]
    stream = task.stream(streams=5, seed=0, dtype=torch.float64, stagger=stagger)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3 * stream.length):
        step = stream.next()
        y = 3 * torch.randn(5, task.d_out, generator=generator, dtype=torch.float64)
        y[0, 0] += 50  # confident, right or wrong
        score = stream.score(y, step)
        loss, gradient, metric = autograd_score(task, y, step)
        torch.testing.assert_close(score.loss, loss, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(score.dL_dy, gradient, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(score.metric_sum, metric, rtol=1e-12, atol=0.0)
        assert torch.equal(score.count, step.scored.to(torch.float64))


def test_a_score_leaves_output_and_step_alone() -> None:
    for task in SMALL.values():
        stream = task.stream(streams=3, seed=0)
        for _ in range(stream.length):
            step = stream.next()
            y = torch.randn(3, task.d_out)
            before = [t.clone() for t in (y, step.x, step.target, step.weight)]
            stream.score(y.requires_grad_(), step)
            for old, new in zip(before, (y, step.x, step.target, step.weight), strict=True):
                assert torch.equal(old, new)


# --- baselines: score the trivial predictors ------------------------------------------------------


def play(stream: TaskStream, predict: Any, rounds: int) -> tuple[float, float, int]:
    """Mean loss of a sequence, metric, and number of scored outputs of a predictor."""
    loss = metric = count = 0.0
    for i in range(rounds * stream.length):
        step = stream.next()
        score = stream.score(predict(i % stream.length, step), step)
        loss += score.loss.sum().item()
        metric += score.metric_sum.sum().item()
        count += score.count.sum().item()
    return loss / stream.completed, metric / count, int(count)


@pytest.mark.parametrize("task", [Copying(T=5), Denoise(T=12)], ids=["copying", "denoise"])
def test_recall_baselines_are_what_the_trivial_predictors_score(task: Copying | Denoise) -> None:
    baselines = task.baselines()
    generator = torch.Generator().manual_seed(0)
    answer = task.length - 10

    def memoryless(i: int, step: TaskStep) -> Tensor:
        y = torch.full((200, 9), -1e4, dtype=torch.float64)
        y[:, :8] = 0 if i >= answer else -1e4
        y[:, 8] = 0 if i < answer else -1e4
        return y

    def guess(i: int, step: TaskStep, *, known: int) -> Tensor:
        digits = torch.randint(8, (200,), generator=generator)
        digits = step.target if answer <= i < answer + known else digits
        return nn.functional.one_hot(digits, 9).double()

    def score(predict: Any) -> tuple[float, float, int]:
        return play(task.stream(streams=200, seed=2, dtype=torch.float64), predict, rounds=4)

    assert score(memoryless)[0] == pytest.approx(baselines["memoryless loss"], rel=1e-12)
    for name, known in (("chance accuracy", 0), ("one digit remembered accuracy", 1)):
        _, accuracy, count = score(lambda i, step, known=known: guess(i, step, known=known))
        p = baselines[name]
        assert accuracy == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / count))
    assert baselines["chance accuracy"] == 0.125
    assert baselines["one digit remembered accuracy"] == pytest.approx(0.2125)
    assert Copying(T=100).baselines()["memoryless loss"] == pytest.approx(10 * math.log(8) / 120)


def test_adding_baselines_are_what_the_trivial_predictors_score() -> None:
    task = Adding(T=6)
    baselines = task.baselines()
    seen = torch.zeros(500, dtype=torch.float64)

    def one(i: int, step: TaskStep) -> Tensor:
        return torch.ones(500, 1, dtype=torch.float64)

    def half_remembered(i: int, step: TaskStep) -> Tensor:
        if i < task.T // 2:
            seen.copy_(torch.where(step.x[:, 1] > 0, step.x[:, 0], seen))
        return (seen + 0.5).unsqueeze(1)

    for name, predict in (("always one mse", one), ("one number remembered mse", half_remembered)):
        loss, mse, count = play(task.stream(streams=500, seed=4, dtype=torch.float64), predict, rounds=20)
        assert loss == pytest.approx(mse)
        assert count == 10_000
        assert mse == pytest.approx(baselines[name], rel=0.05)
    assert baselines["always one mse"] == pytest.approx(0.167, abs=5e-4)


def test_the_right_answer_scores_fully() -> None:
    for task in SMALL.values():
        stream = task.stream(streams=4, seed=0, stagger=True, dtype=torch.float64)

        def right(i: int, step: TaskStep, task: Task = task) -> Tensor:
            if task.metric == "accuracy":
                return 100 * nn.functional.one_hot(step.target, task.d_out).double()
            return step.target.unsqueeze(1).clone()

        loss, metric, _ = play(stream, right, rounds=3)
        assert loss == pytest.approx(0, abs=1e-12)
        assert metric == (1 if task.metric == "accuracy" else 0)
