"""Images pixel by pixel, against a literal reading of the images, torch's losses and unbroken runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sabsim import SAB, Adam, Network, Novelty, StreamingLearner
from sabsim.cli import main
from sabsim.data.images import read_images
from sabsim.errors import ConfigError, DataError
from sabsim.runs import LearnerOptions, RunConfig, RunFolder, RunOptions, held_out, loop, read_rows
from sabsim.runs import train as run
from sabsim.tasks import Pixels, TaskStream
from sabsim.tasks.pixels import PixelStream

Mnist = tuple[Path, dict[str, np.ndarray]]


@pytest.fixture
def mnist(small_mnist: Mnist) -> Mnist:
    read_images.cache_clear()
    return small_mnist


def task_of(mnist: Mnist, **options: Any) -> Pixels:
    return Pixels(images="mnist", data=str(mnist[0]), **options)


def shown(stream: TaskStream, sequences: int) -> list[list[tuple[list[float], int]]]:
    """For each stream the whole images it showed, and what they were said to be; every step's flags are checked."""
    rows: list[list[Tensor]] = []
    for _ in range((sequences + 1) * stream.length):
        step = stream.next()
        given = (step.x[:, 0], step.target, step.weight, step.scored, step.first, step.last)
        rows.append([tensor.clone() for tensor in given])
    x, target, weight, scored, first, last = (torch.stack(column) for column in zip(*rows, strict=True))
    seen = []
    for b in range(stream.streams):
        begin = int(first[:, b].int().argmax())
        assert not any(tensor[:begin, b].any() for tensor in (x, weight, scored, last))
        images = []
        for at in range(begin, begin + sequences * stream.length, stream.length):
            cut = slice(at, at + stream.length)
            at_end = [False] * (stream.length - 1) + [True]
            assert scored[cut, b].tolist() == last[cut, b].tolist() == at_end
            assert weight[cut, b].tolist() == [float(end) for end in at_end]
            assert first[cut, b].tolist() == at_end[::-1]
            images.append((x[cut, b].tolist(), int(target[at + stream.length - 1, b])))
        seen.append(images)
    return seen


def literal(mnist: Mnist, part: str, order: list[int] | None = None) -> list[tuple[list[float], int]]:
    """Images and labels of the small files, pixel by pixel: 33 to train with, 3 for validation, 20 for the test."""
    arrays = mnist[1]
    whole = "t10k" if part == "test" else "train"
    pixels, labels = arrays[f"{whole}-images-idx3-ubyte.gz"], arrays[f"{whole}-labels-idx1-ubyte.gz"]
    chosen = {"train": range(33), "validation": range(33, 36), "test": range(20)}[part]
    images = []
    for i in chosen:
        scan = [pixels[i, row, column] / 255 for row in range(4) for column in range(3)]
        images.append(([scan[j] for j in order] if order else scan, int(labels[i])))
    return images


def same(a: list[tuple[list[float], int]], b: list[tuple[list[float], int]]) -> bool:
    """Whether two collections hold the same images with the same labels, each as often."""
    key = [sorted((label, np.round(image, 5).tolist()) for image, label in images) for images in (a, b)]
    return key[0] == key[1]


# The stream


@pytest.mark.parametrize("stagger", [False, True])
@pytest.mark.parametrize("streams", [1, 4, 33])
def test_an_epoch_shows_the_images_once_each(mnist: Mnist, streams: int, stagger: bool) -> None:
    rounds = 33 // streams
    seen = shown(task_of(mnist).stream(streams=streams, seed=0, stagger=stagger), 2 * rounds)
    whole = literal(mnist, "train")
    epochs = [[image for stream in seen for image in stream[half]] for half in (slice(rounds), slice(rounds, None))]
    for epoch in epochs:
        assert len(epoch) == rounds * streams
        left = [image for image in whole if not any(same([image], [one]) for one in epoch)]
        assert len(left) == 33 - len(epoch)
    if streams == 1:
        assert epochs[0] != epochs[1]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_held_out_images_come_once_each_in_an_order_of_the_seed(mnist: Mnist, part: Any) -> None:
    whole = literal(mnist, part)
    orders = []
    for seed in (0, 1):
        seen = shown(task_of(mnist).stream(streams=3, seed=seed, part=part), -(-len(whole) // 3))
        dealt = [seen[i % 3][i // 3] for i in range(len(whole))]
        assert same(dealt, whole)
        orders.append(dealt)
    assert orders[0] != orders[1]


def test_a_permutation_is_the_same_for_all_images(mnist: Mnist) -> None:
    task = task_of(mnist, permuted=True, permutation=5)
    order = task.order.tolist()
    assert sorted(order) == list(range(12)) != order
    assert order == task_of(mnist, permuted=True, permutation=5).order.tolist()
    assert order != task_of(mnist, permuted=True, permutation=6).order.tolist()
    for part, count in (("train", 33), ("test", 20)):
        seen = shown(task.stream(streams=1, seed=0, part=part), count)  # type: ignore[arg-type]
        assert same(seen[0], literal(mnist, part, order))


def test_scores_equal_autograd(mnist: Mnist) -> None:
    stream = task_of(mnist).stream(streams=5, seed=0, dtype=torch.float64, stagger=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        step = stream.next()
        y = 3 * torch.randn(5, 10, generator=generator, dtype=torch.float64)
        score = stream.score(y, step)
        leaf = y.clone().requires_grad_()
        loss = nn.functional.cross_entropy(leaf, step.target, reduction="none") * step.weight
        (gradient,) = torch.autograd.grad(loss.sum() / 5, leaf)
        torch.testing.assert_close(score.loss, loss.detach())
        torch.testing.assert_close(score.dL_dy, gradient)
        assert score.metric_sum.tolist() == ((y.argmax(1) == step.target) & step.scored).tolist()
        assert torch.equal(score.count, step.scored.double())


@pytest.mark.parametrize("stagger", [False, True])
def test_a_loaded_stream_goes_on_bit_for_bit(mnist: Mnist, stagger: bool) -> None:
    task = task_of(mnist)
    for steps in (0, 5, 12, 77, 200):
        stream, other = (task.stream(streams=5, seed=seed, stagger=stagger) for seed in (0, 1))
        for _ in range(steps):
            stream.next()
        other.load_state_dict(stream.state_dict())
        assert torch.equal(stream.positions(), other.positions())
        assert steps_of(stream) == steps_of(other)
        assert stream.completed == other.completed


def steps_of(stream: TaskStream) -> list[Any]:
    """All that a hundred steps give: more than an epoch of six rounds."""
    steps = []
    for _ in range(100):
        step = stream.next()
        steps.append([tensor.tolist() for tensor in (step.x, step.target, step.weight, step.first, step.last)])
    return steps


def test_a_step_makes_no_new_buffers(mnist: Mnist) -> None:
    stream = task_of(mnist).stream(streams=3, seed=0)
    y = torch.zeros(3, 10)

    def addresses() -> list[int]:
        step = stream.next()
        score = stream.score(y, step)
        tensors = (step.x, step.target, step.weight, step.scored, step.first, score.loss, score.dL_dy)
        return [tensor.data_ptr() for tensor in tensors]

    once = addresses()
    assert all(addresses() == once for _ in range(300))


def test_bad_arguments_are_named(mnist: Mnist) -> None:
    with pytest.raises(ConfigError, match=r"images = 'mnits': must be one of digits, mnist"):
        assert Pixels(images="mnits").length
    with pytest.raises(ConfigError, match=r"permutation must be an integer >= 0, got -1"):
        Pixels(permutation=-1)
    with pytest.raises(ConfigError, match=r"streams = 34: must be at most the 33 images of mnist"):
        task_of(mnist).stream(streams=34, seed=0)


def test_baselines_are_counted(mnist: Mnist) -> None:
    task = task_of(mnist)
    train, test = ([label for _, label in literal(mnist, part)] for part in ("train", "test"))
    commonest = max(range(10), key=train.count)
    assert task.baselines() == {"chance accuracy": 0.1, "one class accuracy": test.count(commonest) / 20}


# Evaluation and runs


def test_accuracy_is_counted_image_by_image(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    """The learner plays each test image on its own; the share that it names rightly."""
    task = task_of(mnist)
    learner = StreamingLearner(
        Network(d_in=1, d_out=10, hidden=8, input_scale=3.0),
        credit=SAB(k_top=2, k_trunc=1),  # blocks of one step: where a sequence begins in a block makes no difference
        retention=Novelty(slots=4),
        optimizer=Adam(),
        dtype=torch.float64,
    )
    learner.parameters["readout.W_h"].mul_(20)
    right, losses = [], []
    for image, label in literal(mnist, "test"):
        player = learner.evaluator(streams=1)
        player.reset(torch.ones(1, dtype=torch.bool))
        for pixel in image:
            y = player.step(torch.tensor([[pixel]], dtype=torch.float64))
            player.learn(torch.zeros(1, 10, dtype=torch.float64))
        right.append(int(y.argmax()) == label)
        losses.append(float(torch.logsumexp(y[0], 0) - y[0, label]))
    found = held_out(learner, task, sequences=None, seed=3, part="test")
    assert (found.sequences, found.part) == (20, "test")
    assert found.metric == found.perfect == pytest.approx(np.mean(right))
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-9)
    assert 0 < sum(right) < 20
    monkeypatch.setattr("sabsim.runs.evaluate.MOST_STREAMS", {"cpu": 8})  # three rounds of seven, one more than there are
    again = held_out(learner, task, sequences=None, seed=3, part="test")
    assert (again.sequences, again.metric, again.perfect) == (20, found.metric, found.perfect)
    assert again.loss == pytest.approx(found.loss, rel=1e-9)


def config(mnist: Mnist, **options: Any) -> RunConfig:
    given: dict[str, Any] = {
        "streams": 4,
        "budget": 60,
        "eval_every": 20,
        "eval_sequences": 3,
        "checkpoint_every": 15,
        "record_every": 2,
        "device": "cpu",
    }
    return RunConfig(
        task=task_of(mnist, permuted=True),
        learner=LearnerOptions(hidden=8, slots=4, k_top=2, input_scale=1.0),
        run=RunOptions(**(given | options)),
    )


def test_a_run_leaves_figures_of_both_parts(mnist: Mnist, tmp_path: Path) -> None:
    summary = run(config(mnist), out=tmp_path / "run")
    assert (summary["task"], summary["images"], summary["permuted"], summary["pixels"]) == ("pixels", "mnist", True, 12)
    assert summary["counts"] == {"train": 33, "validation": 3, "test": 20}
    assert (summary["held_out_sequences"], summary["validation_sequences"]) == (20, 3)
    assert summary["accuracy"] == round(20 * summary["accuracy"]) / 20
    rows = dict(read_rows(tmp_path / "run" / "run.sqlite", "SELECT split, metric FROM metrics ORDER BY id"))
    assert (rows["final"], rows["validation"]) == (summary["accuracy"], summary["validation_accuracy"])
    looks = "SELECT metric, -loss, sequences FROM metrics WHERE split = 'held-out'"
    best, _, at = max(read_rows(tmp_path / "run" / "run.sqlite", looks))  # of equal metrics the lowest loss
    assert (summary["best_at"], summary["validation_accuracy"]) == (at, best)


def test_killed_and_resumed_it_is_the_same_run(
    mnist: Mnist,
    tmp_path: Path,
    killed_at: Callable[[Any, str, int], AbstractContextManager[None]],
    same_run: Callable[..., None],
) -> None:
    whole = config(mnist)
    run(whole, out=tmp_path / "whole")
    for blocks in (2, 7, 5):
        with killed_at(loop.Loop, "_advance", blocks):
            run(whole, out=tmp_path / "killed", resume=True)
    run(None, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed", empty={"hidden"})


def test_data_may_move_between_two_parts_of_a_run(mnist: Mnist, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.symlink_to(mnist[0])
    here = config(mnist)
    run(replace(here, run=replace(here.run, budget=20)), out=tmp_path / "run")
    again = replace(here, task=replace(here.task, data=str(moved)))
    assert run(again, out=tmp_path / "run", resume=True)["sequences"] == 63  # with the block in which the sixtieth ends
    assert RunFolder(tmp_path / "run").read_config().task == again.task
    other = replace(again, task=replace(again.task, permutation=1), run=replace(again.run, budget=80))
    with pytest.raises(ConfigError, match=r"permutation = 1: the run in"):
        run(other, out=tmp_path / "run", resume=True)
    (mnist[0] / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    read_images.cache_clear()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz': missing"):
        run(replace(again, run=replace(again.run, budget=80)), out=tmp_path / "run", resume=True)


def test_the_command_runs_and_evaluates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'sabsim[digits]'")
    out = str(tmp_path / "run")
    options = "--hidden 8 --slots 5 --streams 8 --budget 16 --eval-every 8 --eval-sequences 8 --device cpu"
    assert main(["run", "pixels", "--permuted", *options.split(), "--out", out]) == 0
    assert "pixels of digits-8x8, permuted: test accuracy " in capsys.readouterr().out
    assert main(["evaluate", out, "--sequences", "40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    assert (found["sequences"], found["part"], found["images"]) == (40, "test", "digits-8x8")


def test_mnist_begins_with_recipes_of_its_own(mnist: Mnist, tmp_path: Path) -> None:
    options = f"--images mnist --data {mnist[0]} --hidden 4 --streams 4 --budget 8 --eval-every 8 --eval-sequences 4"
    for more, out in (("", "plain"), ("--permuted", "permuted"), ("--permuted --resume --budget 12", "permuted")):
        command = ["run", "pixels", *options.split(), *more.split(), "--k-top", "3", "--device", "cpu", "--quiet"]
        assert main([*command, "--out", str(tmp_path / out)]) == 0
    plain, permuted = (RunFolder(tmp_path / out).read_config() for out in ("plain", "permuted"))
    for config in (plain, permuted):
        assert (config.learner.k_trunc, config.learner.k_att, config.learner.slots) == (14, 14, 56)
        assert config.run.stagger is False
        assert (config.learner.k_top, config.learner.hidden, config.optimizer.lr_schedule) == (3, 4, "cosine")
    assert (plain.learner.forget_bias, plain.optimizer.lr, plain.optimizer.weight_decay) == (5.0, 1e-3, 0.0)
    assert (permuted.learner.forget_bias, permuted.optimizer.lr, permuted.optimizer.weight_decay) == (7.0, 3e-3, 0.01)
    assert permuted.run.budget == 12


def test_mistakes(tmp_path: Path, mistake: Callable[..., str]) -> None:
    out = ("--out", str(tmp_path / "run"))
    assert "images = 'cifar': must be one of digits, mnist" in mistake("run", "pixels", "--images", "cifar", *out)
    missing = mistake("run", "pixels", "--images", "mnist", "--data", str(tmp_path), *out)
    assert "data set 'mnist' is not in" in missing
    assert "'sabsim data fetch mnist' brings it, or put train-images-idx3-ubyte.gz, " in missing
    assert not (tmp_path / "run").exists()


def test_mnist_itself(real_data: str) -> None:
    task = Pixels(images="mnist", data=real_data)
    assert (task.length, task.available("validation"), task.available("test")) == (784, 5_000, 10_000)
    stream = task.stream(streams=2, seed=0, part="test")
    assert isinstance(stream, PixelStream)
    seen = shown(stream, 1)
    test = task.source
    for image, label in (stream[0] for stream in seen):
        matches = np.flatnonzero((np.abs(test.pixels["test"] / 255 - np.array(image)) < 1e-6).all(1))
        assert [test.labels["test"][i] for i in matches] == [label]
