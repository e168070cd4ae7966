"""What a run tells and decides, by hand: figures of training, of evaluations and of the end, and when it stops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sabsim.runs import LearnerOptions, OptimizerOptions, RunConfig, RunOptions, loop, read_rows, train
from sabsim.runs.checkpoint import Checkpoint
from sabsim.runs.evaluate import HeldOut, _found
from sabsim.runs.folder import RunFolder
from sabsim.tasks import Adding, CharLM, Copying

SMALL = RunConfig(
    task=Copying(T=5),
    learner=LearnerOptions(hidden=8, slots=8, k_top=3),
    run=RunOptions(streams=4, budget=60, eval_every=20, eval_sequences=8, checkpoint_every=20, device="cpu"),
)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The final evaluation."""
    monkeypatch.setattr(loop, "FINAL_SEQUENCES", 16)


def variant(**run: Any) -> RunConfig:
    return replace(SMALL, run=replace(SMALL.run, **run))


def on_text(story: Path, **run: Any) -> RunConfig:
    given = {"streams": 3, "budget": 90, "eval_every": 20, "eval_sequences": 3, "device": "cpu", "stop_at": 4.0}
    return RunConfig(
        task=CharLM(corpus=str(story), passage=30),
        learner=LearnerOptions(hidden=8, slots=4, k_top=2, explore=0.0),
        optimizer=OptimizerOptions(warmup_updates=0),
        run=RunOptions(**(given | run)),
    )


def of_metric(metric: float, *, part: Any = "validation") -> HeldOut:
    return HeldOut(part=part, sequences=4, loss=1.0, metric=metric, standard_error=0.1, perfect=None)


# Figures


def test_training_figures_are_those_of_the_sequences(tmp_path: Path) -> None:
    train(variant(stagger=False, record_streams=4), out=tmp_path)
    path = tmp_path / "run.sqlite"
    episodes = read_rows(path, "SELECT loss, metric FROM episodes ORDER BY last_step, stream")
    figures = read_rows(path, "SELECT loss, metric FROM metrics WHERE split = 'train' ORDER BY id")
    assert len(episodes) == 20 * len(figures) == 60
    for i, found in enumerate(figures):
        own = zip(*episodes[20 * i : 20 * i + 20], strict=True)
        assert found == pytest.approx([sum(column) / 20 for column in own], rel=1e-9)


def test_figures_of_an_evaluation() -> None:
    rows = ([1.0, 2.0, 3.0, 6.0], [10.0, 9.0, 10.0, 0.0], [10.0] * 4)
    loss, right, count = (torch.tensor(row, dtype=torch.float64) for row in rows)
    found = _found(Copying(), "test", loss, right, count)
    assert (found.sequences, found.loss, found.metric, found.perfect) == (4, 3.0, 29 / 40, 0.5)
    assert found.standard_error == pytest.approx(float(torch.tensor([1.0, 0.9, 1.0, 0.0]).std()) / 2)


def test_the_final_evaluation_is_no_smaller_than_the_others(tmp_path: Path) -> None:
    assert train(variant(budget=4, eval_sequences=20), out=tmp_path)["held_out_sequences"] == 20


def test_held_out_sequences_are_of_the_run_s_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds, held_out = set(), loop.held_out

    def noted(*arguments: Any, seed: int, **options: Any) -> HeldOut:
        seeds.add(seed)
        return held_out(*arguments, seed=seed, **options)

    monkeypatch.setattr(loop, "held_out", noted)
    train(variant(seed=3, budget=4), out=tmp_path)
    assert seeds == {3}


def test_checkpoints_come_as_often_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = loop.save_checkpoint

    def noted(folder: RunFolder, checkpoint: Checkpoint) -> None:
        saved.append(checkpoint.numbers["sequences"])
        save(folder, checkpoint)

    monkeypatch.setattr(loop, "save_checkpoint", noted)
    train(variant(stagger=False, checkpoint_every=12), out=tmp_path)
    assert saved == [0, 12, 24, 36, 48, 60, 60]


def test_events_of_sequences_much_shorter_than_the_chain(tmp_path: Path) -> None:
    """The chain's 18 steps are of several sequences of 4."""
    config = variant(record_streams=4, record_every=1, budget=400, gap=0)
    train(replace(config, task=Adding(T=4), learner=replace(SMALL.learner, k_trunc=18)), out=tmp_path)
    path = tmp_path / "run.sqlite"
    starts = {row[:2]: row[2] for row in read_rows(path, "SELECT stream, episode, min(step) FROM steps GROUP BY 1, 2")}
    events = read_rows(path, "SELECT step, stream, episode, source_step FROM events WHERE kind = 'replay'")
    assert len(events) > 20
    for step, stream, episode, source in events:
        assert starts[stream, episode] <= source < step < starts[stream, episode] + 4


# Decisions


def test_a_goal_is_confirmed_on_all_and_what_confirmed_it_is_kept(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few passages are good at once, and best at first; all of them not before the third look, at which the run stops."""
    few, every = iter([2.0, 3.0, 4.0]), iter([9.0, 4.5, 4.0, 4.0, 4.0])

    def found(*_: Any, sequences: int | None, part: Any = "validation", **__: Any) -> HeldOut:
        told: Iterator[float] = every if sequences is None else few
        return of_metric(next(told), part=part)

    monkeypatch.setattr(loop, "held_out", found)
    summary = train(on_text(story), out=tmp_path)
    assert (summary["sequences"], summary["stopped_early"], summary["best_at"]) == (42, True, 42)


def test_a_goal_that_is_just_met_is_met(story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "held_out", lambda *_, **__: of_metric(1.0))
    assert train(variant(stop_at=1.0), out=tmp_path / "higher")["stopped_early"]
    monkeypatch.setattr(loop, "held_out", lambda *_, **__: of_metric(4.0))
    assert train(on_text(story), out=tmp_path / "lower")["sequences"] == 0
