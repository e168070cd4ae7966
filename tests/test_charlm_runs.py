"""Runs on a text: the best parameters, killing and resuming, and the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sabsim.cli import main
from sabsim.errors import ConfigError
from sabsim.runs import LearnerOptions, OptimizerOptions, RunConfig, RunFolder, RunOptions, load_checkpoint, loop, read_rows
from sabsim.runs import train as run
from sabsim.runs.folder import read_json
from sabsim.tasks import CharLM


def config(story: Path, **options: Any) -> RunConfig:
    given: dict[str, Any] = {
        "streams": 3,
        "budget": 90,
        "eval_every": 20,
        "eval_sequences": 4,
        "checkpoint_every": 25,
        "record_every": 3,
        "device": "cpu",
    }
    return RunConfig(
        task=CharLM(corpus=str(story), passage=30),
        learner=LearnerOptions(hidden=8, slots=4, k_top=2, explore=0.0),
        optimizer=OptimizerOptions(warmup_updates=0),
        run=RunOptions(**(given | options)),
    )


def test_a_run_leaves_figures_of_both_parts(story: Path, tmp_path: Path) -> None:
    summary = run(config(story), out=tmp_path / "run")
    task = CharLM(corpus=str(story), passage=30)
    assert (summary["task"], summary["corpus"], summary["kinds"]) == ("charlm", "story.txt", task.d_in)
    assert summary["characters"] == {"train": 1800, "validation": 100, "test": 100}
    assert (summary["sequences"], summary["held_out_sequences"], summary["validation_sequences"]) == (90, 4, 4)
    assert summary["bpc"] < summary["baselines"]["frequencies bpc"]
    rows = dict(read_rows(tmp_path / "run" / "run.sqlite", "SELECT split, metric FROM metrics ORDER BY id"))
    assert (rows["final"], rows["validation"]) == (summary["bpc"], summary["validation_bpc"])
    curve = read_rows(tmp_path / "run" / "run.sqlite", "SELECT sequences, metric FROM metrics WHERE split = 'held-out'")
    best = min(metric for _, metric in curve)
    assert (summary["best_at"], best) in curve
    # A passage is an episode in the tables; the learner was reset at the end of its share only.
    episodes = read_rows(tmp_path / "run" / "run.sqlite", "SELECT episode, first_step, last_step FROM episodes ORDER BY id")
    assert episodes == [(i, 30 * i, 30 * i + 29) for i in range(30)]
    events = "SELECT max(lag) FROM events WHERE kind = 'replay'"
    assert read_rows(tmp_path / "run" / "run.sqlite", events)[0][0] > 30


def test_the_best_parameters_are_played_at_the_end(
    story: Path,
    tmp_path: Path,
    killed_at: Callable[[Any, str, int], AbstractContextManager[None]],
    capsys: pytest.CaptureFixture[str],
    same_run: Callable[..., None],
) -> None:
    whole = config(story, eval_sequences=100, budget=300)
    # The learning rate rises until what was learned is destroyed: on any machine the best is somewhere before the end.
    rising = replace(whole.optimizer, lr=3.0, warmup_updates=600, lr_schedule="constant", average=0.0)
    whole = replace(whole, optimizer=rising)
    summary = run(whole, out=tmp_path / "run")
    curve = read_rows(tmp_path / "run" / "run.sqlite", "SELECT sequences, metric FROM metrics WHERE split = 'held-out'")
    assert summary["validation_bpc"] == min(metric for _, metric in curve)
    assert 0 < summary["best_at"] == min((metric, at) for at, metric in curve)[1] < 200
    states = load_checkpoint(RunFolder(tmp_path / "run")).states
    assert states.keys() == {"learner", "stream", "parameters", "best"}
    assert any(not torch.equal(states["best"][name], states["parameters"][name]) for name in states["best"])
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["bpc"] == summary["bpc"]
    # Killed after they were kept, before the last evaluation, the resumed run still knows them and how good they were.
    with killed_at(loop.Loop, "_advance", 99):
        run(whole, out=tmp_path / "killed")
    run(None, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "run", tmp_path / "killed", empty={"hidden"})


@pytest.mark.parametrize(("eval_every", "kept"), [(60, 60), (1000, 0)])
def test_the_last_parameters_are_a_candidate(
    eval_every: int,
    kept: int,
    story: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    same_run: Callable[..., None],
) -> None:
    """Also where no evaluation is due at the end; a longer run, which has another last, knows nothing of them."""
    short, longer = (config(story, eval_every=eval_every, budget=budget) for budget in (90, 150))
    summary = run(short, out=tmp_path / "run")
    curve = read_rows(tmp_path / "run" / "run.sqlite", "SELECT sequences, metric FROM metrics WHERE split = 'held-out'")
    assert (summary["best_at"], curve[-1][0]) == (90, 90)
    assert curve[-1][1] == min(metric for _, metric in curve)
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["bpc"] == summary["bpc"]
    assert load_checkpoint(RunFolder(tmp_path / "run")).numbers["best"]["sequences"] == kept
    run(longer, out=tmp_path / "run", resume=True)
    run(longer, out=tmp_path / "once")
    same_run(tmp_path / "once", tmp_path / "run", empty={"hidden"})


@pytest.mark.parametrize("options", [{}, {"budget": 200, "streams": 2}])
def test_killed_and_resumed_it_is_the_same_run(
    options: dict[str, Any],
    story: Path,
    tmp_path: Path,
    killed_at: Callable[[Any, str, int], AbstractContextManager[None]],
    same_run: Callable[..., None],
) -> None:
    whole = config(story, **options)
    run(whole, out=tmp_path / "whole")
    for blocks in (2, 9, 12):
        with killed_at(loop.Loop, "_advance", blocks):
            run(whole, out=tmp_path / "killed", resume=True)
    run(None, out=tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed", empty={"hidden"})


def test_a_longer_budget_goes_on_like_one_run(story: Path, tmp_path: Path, same_run: Callable[..., None]) -> None:
    run(config(story), out=tmp_path / "long")
    run(config(story, budget=150), out=tmp_path / "long", resume=True)
    run(config(story, budget=150), out=tmp_path / "once")
    same_run(tmp_path / "once", tmp_path / "long", empty={"hidden"})


def test_stop_at_is_confirmed_on_the_whole_validation_part(story: Path, tmp_path: Path) -> None:
    summary = run(config(story, stop_at=4.0, budget=3000), out=tmp_path / "run")
    assert summary["stopped_early"]
    assert summary["sequences"] < 3000
    assert summary["validation_bpc"] <= 4.0


def test_a_text_that_changed_is_refused(story: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text(story.read_text())
    out = str(tmp_path / "run")
    run(config(mine), out=out)
    from sabsim.data.text import read_text

    mine.write_text(story.read_text().replace("cat", "tac", 1))
    read_text.cache_clear()
    assert "charlm on mine.txt: it has changed since the run was trained on it" in mistake("evaluate", out)
    mine.write_text(story.read_text() + "\u1234")  # and of more kinds, so of another learner
    read_text.cache_clear()
    with pytest.raises(ConfigError, match=r"charlm on mine.txt: it has changed since the run was trained on it"):
        run(config(mine, budget=200), out=out, resume=True)
    mine.unlink()
    read_text.cache_clear()
    assert "must be one of docs, ptb, text8, or the path of a UTF-8 text file" in mistake("evaluate", out)


def test_what_needs_an_end_is_refused_before_any_work(tmp_path: Path, mistake: Callable[..., str]) -> None:
    for options in (("--retention", "all"), ("--credit", "bptt")):
        said = mistake("run", "charlm", *options, "--out", str(tmp_path / "run"))
        assert said.startswith("task 'charlm' has no end, so neither credit bptt nor retention all can take it whole")
    for options, words in [
        (("--corpus", "nothing"), "corpus = "),
        (("--data", str(tmp_path / "gone"), "--corpus", "ptb"), "gone': no such folder"),
        (("--data", str(tmp_path), "--corpus", "ptb"), "data set 'ptb' is not in"),
        (("--streams", "9999"), "too few for a passage of 100"),
    ]:
        assert words in mistake("run", "charlm", *options, "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_command_runs_and_evaluates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    options = "--hidden 8 --slots 5 --streams 8 --budget 16 --eval-every 8 --eval-sequences 8 --device cpu"
    assert main(["run", "charlm", *options.split(), "--out", out]) == 0
    shown = capsys.readouterr().out
    assert "charlm on python-docs: test bpc " in shown
    assert "16 passages trained" in shown
    assert main(["evaluate", out, "--part", "validation", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    summary = read_json(Path(out) / "summary.json")
    assert (found["bpc"], found["part"], found["corpus"]) == (summary["validation_bpc"], "validation", "python-docs")
    assert main(["evaluate", out]) == 0
    assert "charlm on python-docs, after 16 training passages" in " ".join(capsys.readouterr().out.split())
    assert sorted(path.name for path in (Path(out) / "evaluations").iterdir()) == [
        "docs-passage100-test.json",
        "docs-passage100-validation.json",
    ]
    assert read_json(Path(out) / "evaluations" / "docs-passage100-test.json")["bpc"] == summary["bpc"]
