"""Self-attentive rivals in runs: resumed, recorded, evaluated, and what does not fit is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sabsim import ConfigError
from sabsim.cli import main
from sabsim.runs import LearnerOptions, RunConfig, RunOptions, build_learner, held_out, loop, read_rows, train
from sabsim.tasks import CharLM, Copying

SMALL = RunConfig(
    task=Copying(T=5),
    learner=LearnerOptions(hidden=8, slots=8, buffer=3, credit="screened-attention"),
    run=RunOptions(
        streams=4,
        budget=60,
        eval_every=30,
        eval_sequences=8,
        checkpoint_every=20,
        record_streams=2,
        record_every=3,
        record_hidden=True,
        device="cpu",
    ),
)
FULL = replace(SMALL, learner=replace(SMALL.learner, credit="full-attention", slots=None, buffer=None))


@pytest.fixture
def quick_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "FINAL_SEQUENCES", 16)


@pytest.mark.usefixtures("quick_final_evaluation")
@pytest.mark.parametrize("config", [SMALL, FULL], ids=["screened", "full"])
@pytest.mark.parametrize("longest", [1024, 10])  # blocks that end within sequences, too
def test_killed_and_resumed_like_one_run(
    config: RunConfig,
    longest: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: Callable[[Any, str, int], AbstractContextManager[None]],
    same_run: Callable[..., None],
) -> None:
    monkeypatch.setattr("sabsim.runs.recorder.LONGEST_BLOCK", longest)
    if longest == 10:  # save after every block
        monkeypatch.setattr(loop.Loop, "_between_blocks", _save_always(loop.Loop._between_blocks))
    train(config, out=tmp_path / "whole")
    for blocks in (3, 4, 7):
        with killed_at(loop.Loop, "_advance", blocks):
            train(config, out=tmp_path / "killed", resume=True)
    train(None, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed")


def _save_always(real: Any) -> Any:
    def between(self: loop.Loop) -> None:
        real(self)
        self.save()

    return between


def test_what_is_attended_to_is_recorded(tmp_path: Path) -> None:
    summary = train(SMALL, out=tmp_path)
    assert (summary["retention"], summary["slots"]) == ("relevancy", 8)
    rows = read_rows(tmp_path / "run.sqlite", "SELECT kind, step, source_step, weight, credit FROM events")
    assert rows
    assert {row[0] for row in rows} == {"reminding"}
    assert all(0 <= source < step and 0.05 <= weight <= 1 and credit is None for _, step, source, weight, credit in rows)


@pytest.mark.parametrize("config", [SMALL, FULL], ids=["screened", "full"])
def test_held_out_is_what_each_sequence_gives_alone(config: RunConfig) -> None:
    """Figures of many side by side are those of one after the other: nothing leaks from stream to stream or over resets."""
    learner = build_learner(replace(config, run=replace(config.run, dtype="float64")))
    together, alone = (held_out(learner, config.task, sequences=count, seed=0) for count in (200, 1))
    assert together.sequences == 200
    stream = config.task.stream(streams=100, seed=0, dtype=torch.float64, part="validation")
    player = learner.evaluator(streams=100)
    total = 0.0
    for _ in range(2 * config.task.period):
        step = stream.next()
        player.reset(step.first)
        total += float(stream.score(player.step(step.x), step).loss.sum())
    assert together.loss == pytest.approx(total / 200, rel=1e-12)
    assert alone.sequences == 1


@pytest.mark.parametrize(
    ("learner", "run", "words"),
    [
        ({"retention": "recent"}, {}, "retention = 'recent': credit screened-attention keeps 'relevancy'; ask for that"),
        ({"buffer": 8}, {}, "slots = 8: relevancy protects the newest 8, so at least 9"),
        ({"feeds": "h_hat"}, {}, "feeds = 'h_hat': credit screened-attention does without; leave it out"),
        ({"salience": "dot"}, {}, "salience = 'dot': credit screened-attention does without; leave it out"),
        ({"cell": "gru"}, {"backend": "native"}, "backend = 'native' cannot compute cell = 'gru': it serves cell lstm"),
    ],
)
def test_options_that_do_not_fit(learner: dict[str, Any], run: dict[str, Any], words: str) -> None:
    config = replace(SMALL, learner=replace(SMALL.learner, **learner), run=replace(SMALL.run, **run))
    with pytest.raises(ConfigError, match=words):
        build_learner(config)


def test_a_task_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="task 'charlm' has no end: credit screened-attention attends to whole sequences"):
        replace(SMALL, task=CharLM(corpus="docs")).resolved()


def test_the_command_learns_and_plays_longer_sequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for credit in ("full-attention", "screened-attention"):
        out = str(tmp_path / credit)
        options = ["--T", "5", "--hidden", "8", "--streams", "4", "--budget", "20", "--eval-sequences", "8", "--quiet"]
        assert main(["run", "copying", *options, "--credit", credit, "--out", out]) == 0
        assert main(["evaluate", out, "--T", "5", "90", "--sequences", "20", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        slots = {"full-attention": [25, 110], "screened-attention": [32, 32]}[credit]
        assert [result["slots"] for result in found] == slots
        assert (tmp_path / credit / "evaluations" / "T90.json").exists()
    assert "sabsim.attentive" in sys.modules
