"""`sabsim analyze` on runs of supervised tasks, on two sets of runs, and on folders that something is wrong with."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sabsim.analysis.causal import causal_fraction
from sabsim.analysis.peri_reward import peri_reward
from sabsim.analysis.recall import recall_map
from sabsim.analysis.replay_answers import why_left_out
from sabsim.analysis.replay_summary import summarise
from sabsim.analysis.task_runs import read_task_run

from sabsim.cli import main
from sabsim.errors import RunFolderError
from sabsim.runs import RunDatabase
from sabsim.runs.config import FORMAT
from sabsim.runs.database import TABLES

T, LENGTH, ANSWER = 3, 23, 13


def make_task(path: Path, *, task: str = "copying", seed: int = 0, knows: float = 1.0, sequences: int = 40) -> Path:
    """A run of copying, T = 3, in which output i replays the segment of two steps up to i + 1, or a random one.

    Every second sequence has single steps; in a third of these output 0 is wrong, with ten times the credit.
    """
    path.mkdir(parents=True)
    config = {"format": FORMAT, "kind": "task", "task": task, "task_options": {"T": T}}
    config |= {"learner": {"k_trunc": 5, "update_every": None, "credit": "sab"}, "run": {"seed": seed}}
    (path / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(seed)
    rows: dict[str, list[tuple[Any, ...]]] = {"episodes": [], "steps": [], "events": []}
    for episode in range(sequences):
        first = LENGTH * episode
        rows["episodes"].append((0, episode, first, first + LENGTH - 1, 1.0, 0.9))
        wrong = episode % 6 == 0
        for position in range(LENGTH if episode % 2 == 0 else 0):
            scored = position >= ANSWER
            correct = None if not scored else float(not (wrong and position == ANSWER))
            rows["steps"].append((first + position, 0, episode, position, 0.1, int(scored), correct))
        for i in range(10):
            source = i + 1 if rng.random() < knows else int(rng.integers(0, ANSWER))
            credit = 10.0 if wrong and i == 0 else 1.0
            at, origin = first + ANSWER + i, first + source
            event = (at, 0, episode, origin, at - origin, 0.5, credit, 0.1 + credit, None, None, 2, at)
            rows["events"] += [("replay", *event)]
            if episode % 2 == 0:
                rows["events"] += [("reminding", *event[:6], None, 0.1, None, None, None, None)]
    database = RunDatabase(path / "run.sqlite", TABLES)
    for table, found in rows.items():
        database.insert(table, found)
    database.commit()
    database.close()
    return path


# By hand


def test_causal_steps_of_copying_are_its_digits(tmp_path: Path) -> None:
    run = read_task_run(make_task(tmp_path / "run"))
    assert (run.what, run.window, run.seed) == ("copying", 5, 0)
    assert run.steps["causal_step"][:LENGTH].tolist() == [-1] * ANSWER + list(range(10))
    found = causal_fraction(run, draws=50)
    # 20 sequences have single steps, each with 10 outputs that replay steps i and i + 1 of what is wanted at i.
    assert (found.n, found.fraction, found.outcome.n, found.credit.observed) == (200, 1, 200, 1)
    assert found.uniform.mean < 0.25
    # Thirds of the steps cut through sequences 13 and 26; the latter has single steps.
    assert [part.n for part in found.parts] == [70, 63, 67]


def test_recall_map_by_hand(tmp_path: Path) -> None:
    found = recall_map(read_task_run(make_task(tmp_path / "run")))
    assert found.weight.shape == (3, LENGTH, LENGTH)
    assert found.episodes.tolist() == [7, 6, 7]
    assert found.weight[:, ANSWER + 4, 5] == pytest.approx([0.5] * 3)
    assert found.weight.sum() == pytest.approx(3 * 10 * 0.5)


def test_wrong_answers_send_more_credit(tmp_path: Path) -> None:
    summary = summarise(make_task(tmp_path / "run"), draws=20)
    # Only output 0 is ever wrong: ten times the credit, compared at that position.
    assert summary.credit_rewarded == pytest.approx(1)
    assert summary.values()["credit_with_loss"] == pytest.approx(1)
    around = peri_reward(summary.run)
    assert around.rate[around.offset == 0] == 1
    assert around.matched is None  # A position is always scored or never: nothing is comparable.


def test_adding_says_that_its_causal_steps_are_not_recorded(tmp_path: Path) -> None:
    summary = summarise(make_task(tmp_path / "run", task="adding"), draws=20)
    assert summary.missing["causal_fraction"].startswith("adding draws its causal steps anew")
    assert summary.missing["credit_rewarded"] == "no comparable triggers with both outcomes"
    assert summary.lags is not None


def test_a_text_has_no_wrong_answers_and_replays_that_reach_beyond_a_passage(tmp_path: Path) -> None:
    path = make_task(tmp_path / "run", task="charlm")
    whole = summarise(path, draws=20)
    with sqlite3.connect(path / "run.sqlite") as connection:
        # Half of them, and as many remindings, go to a step of the passage before.
        connection.execute(
            f"UPDATE events SET source_step = source_step - {LENGTH}, lag = lag + {LENGTH} WHERE episode > 0 AND id % 2"
        )
        (moved,) = connection.execute("SELECT count(*) FROM events WHERE kind = 'replay' AND lag > 22").fetchone()
    found = summarise(path, draws=20)
    assert found.missing["credit_rewarded"] == "no comparable triggers with both outcomes"
    assert found.rates == whole.rates
    assert found.run.left_out == len(found.run.beyond) == moved > 100
    assert why_left_out(found.run) == [f"{moved} reach beyond the beginning of their episode; only the rates count them"]


# The command


def test_two_sets_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], read_page: Callable[[Path], Any]
) -> None:
    here = [str(make_task(tmp_path / f"a{seed}", seed=seed)) for seed in range(3)]
    there = [str(make_task(tmp_path / f"b{seed}", seed=seed, knows=0.0)) for seed in range(3)]
    out = tmp_path / "out"
    assert main(["analyze", *here, "--compare", *there, "--out", str(out), "--draws", "20"]) == 0
    shown = capsys.readouterr().out
    assert "3 seeds) beside b0, b1, b2" in shown.replace("\n", " ")
    assert "wrong answers minus right" in shown
    with (out / "comparison.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert float(rows["causal_fraction"]["difference"]) > 0.5
    assert float(rows["causal_fraction"]["p"]) == pytest.approx(0.1)
    comparison = json.loads((out / "stats.json").read_text())["comparison"]
    assert {item["name"] for item in comparison["differences"]} == set(rows)
    for name in ("recall_map", "causal_fraction", "order", "comparison"):
        assert (out / f"{name}.svg").stat().st_size
    assert not (out / "place_map.svg").exists()
    page = read_page(out / "report.html").text
    assert "Does replay follow the learning signal?" in page
    assert "These runs beside those" in page
    assert "Two sets of runs" in page


def test_a_damaged_run_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_task(tmp_path / f"s{seed}", seed=seed) for seed in range(3)]
    (runs[1] / "run.sqlite").write_bytes(b"no database" * 100)
    with sqlite3.connect(runs[2] / "run.sqlite") as connection:
        connection.execute("UPDATE steps SET position = 'x' WHERE id = 3")
    connection.close()
    out = tmp_path / "out"
    assert main(["analyze", *map(str, runs), "--out", str(out), "--draws", "20"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("left out:") == 2
    assert "table steps is damaged" in shown
    assert [run["seed"] for run in json.loads((out / "stats.json").read_text())["runs"]] == [0]
    assert main(["analyze", str(runs[1])]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_config_files_that_are_damaged(tmp_path: Path) -> None:
    path = make_task(tmp_path / "run")
    config = json.loads((path / "config.json").read_text())
    for change, message in (
        ({"task_options": {}}, "copying without its T"),
        ({"task": 3}, "no task"),
        ({"learner": {}}, "learner has no k_trunc"),
        ({"kind": "agent"}, "is an agent's run"),
    ):
        (path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(RunFolderError, match=message):
            read_task_run(path)
