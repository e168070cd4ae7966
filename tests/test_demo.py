"""The demo: three runs in processes of their own, a table, two figures, and a folder that can be used again."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sabsim.cli import demo, demo_agent, main
from sabsim.cli.board import LinesBoard, LiveBoard, make_board
from sabsim.errors import ConfigError
from sabsim.runs import LearnerOptions, OptimizerOptions, RunConfig, RunFolder, RunOptions, load_checkpoint, read_rows
from sabsim.runs.progress import Status
from sabsim.runs.side_by_side import Job, run_side_by_side
from sabsim.tasks import Adding

LEADER = RunConfig(
    task=Adding(T=6),
    learner=LearnerOptions(hidden=8, slots=5),
    optimizer=OptimizerOptions(lr=0.03),
    run=RunOptions(streams=4, budget=4_000, stop_at=0.3, eval_every=20, eval_sequences=64, device="cpu"),
)
"""A run that reaches its goal long before its budget is spent."""


class Heard:
    """A board that keeps what it is told; may press Ctrl-C at the first evaluation of the run `stop_at`."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.statuses: list[tuple[str, Status]] = []
        self._stop_at = stop_at

    def update(self, name: str, status: Status) -> None:
        self.statuses.append((name, status))

    def evaluated(self, name: str, status: Status) -> None:
        self.update(name, status)
        if name == self._stop_at:
            raise KeyboardInterrupt


def two_jobs(out: Path, leader: RunConfig = LEADER) -> tuple[Job, Job]:
    follower = replace(leader, run=replace(leader.run, stop_at=None), learner=replace(leader.learner, replays=0))
    return Job(name="a", config=leader, out=out / "a"), Job(name="b", config=follower, out=out / "b")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a quick demo, and what it printed."""
    out, text = tmp_path_factory.mktemp("demo") / "out", io.StringIO()
    with redirect_stdout(text):
        assert main(["demo", "--quick", "--jobs", "1", "--out", str(out)]) == 0
    return out, text.getvalue()


# The command


def test_the_demo_leaves_runs_and_figures(finished: tuple[Path, str]) -> None:
    out, _ = finished
    files = {f"{name}.{kind}" for name in ("learning_curve", "recall_map", "agent_curve") for kind in ("png", "svg")}
    assert {entry.name for entry in out.iterdir()} == {"demo.json", "report.html", *demo.NAMES, *demo_agent.AGENTS, *files}
    summaries = [json.loads((out / name / "summary.json").read_text()) for name in demo.NAMES]
    assert {summary["sequences"] for summary in summaries} == {summaries[0]["sequences"]}
    assert summaries[0]["sequences"] >= demo.QUICK.run.budget
    assert [(summary["credit"], summary["replays"]) for summary in summaries] == [("sab", 5), ("sab", 0), ("tbptt", 0)]
    assert {summary["k_trunc"] for summary in summaries} == {5}
    assert "quick" in (out / "learning_curve.svg").read_text()
    kept = json.loads((out / "demo.json").read_text())
    assert kept["finished"]
    assert {name: kept["runs"][name] for name in demo.NAMES} == dict(zip(demo.NAMES, summaries, strict=True))
    played = {name: json.loads((out / name / "summary.json").read_text()) for name in demo_agent.AGENTS}
    assert kept["runs"].keys() == demo.NAMES.keys() | played.keys()
    credits = [(found["learner"]["credit"], found["run"]["seed"]) for found in played.values()]
    assert credits == [(credit, seed) for credit in ("sab", "no-replay") for seed in range(demo_agent.SEEDS)]


def test_the_demo_tells_what_it_does_and_what_came_out(finished: tuple[Path, str]) -> None:
    out, shown = finished
    flat = " ".join(shown.split())
    for words in ("quick demo", "chance 12.5 %", "steps backpropagated", "5 + 5 x 5", "(n = 1,000)", "replays/update"):
        assert words in flat
    for name in demo.NAMES.values():
        assert f"{name}: 0 sequences  step 0  loss -" in shown
    assert json.loads((out / "demo.json").read_text())["verdict"] in flat
    assert str(out / "recall_map.png") in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--jobs 0", "jobs = 0: must be at least 1"),
        ("--budget 0", "budget = 0: must be at least 1"),
        ("--seed -1", "seed = -1: must be at least 0"),
        ("--fast", "unknown option --fast"),
    ],
)
def test_mistakes_touch_nothing(arguments: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path / "out"), *arguments.split()]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_verdict_is_honest() -> None:
    runs = {
        name: {"accuracy": accuracy, "sequences": 13_600, "stop_at": 0.99, "stopped_early": True, "budget": 16_000}
        | {"baselines": {"chance accuracy": 0.125}}
        for name, accuracy in zip(demo.NAMES, (0.9923, 0.124, 0.1261), strict=True)
    }
    figures = "With replay 99.2 %, without 12.4 %, truncated BPTT 12.6 % (chance 12.5 %), after 13,600 sequences each."
    assert demo.sentence(runs) == figures
    runs["replay"] |= {"stopped_early": False}
    assert demo.sentence(runs) == (
        f"The run with replay did not reach its goal of 99.0 % within its budget of 16,000 sequences. {figures}"
    )


# The folder


def test_an_earlier_demo_makes_room(finished: tuple[Path, str], tmp_path: Path) -> None:
    out = shutil.copytree(finished[0], tmp_path / "out")
    (out / "recall_map.png").rename(out / "recall_map.png.tmp")
    assert demo._make_room(out)
    assert list(out.iterdir()) == []
    assert not demo._make_room(out)


@pytest.mark.parametrize(
    ("foreign", "words"),
    [
        ("thesis.tex", "holds 'thesis.tex', no part of a demo; give another --out"),
        ("replay/notes.txt", "holds 'replay/notes.txt', no part of a demo"),
    ],
)
def test_what_is_no_demo_stays(finished: tuple[Path, str], tmp_path: Path, foreign: str, words: str) -> None:
    out = shutil.copytree(finished[0], tmp_path / "out")
    (out / foreign).write_text("mine")
    before = sorted(out.rglob("*"))
    with pytest.raises(ConfigError, match=words):
        demo._make_room(out)
    assert sorted(out.rglob("*")) == before


def test_a_run_folder_is_no_demo(finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(finished[0] / "replay", tmp_path / "run")
    assert main(["demo", "--quick", "--out", str(run)]) == 2
    assert "no part of a demo; give another --out" in capsys.readouterr().err
    unmarked = shutil.copytree(finished[0], tmp_path / "unmarked")
    (unmarked / "demo.json").unlink()
    with pytest.raises(ConfigError, match=r"holds no demo \(no demo\.json\)"):
        demo._make_room(unmarked)


# Side by side


def test_followers_get_the_sequences_that_the_leader_needed(tmp_path: Path) -> None:
    leader, follower = two_jobs(tmp_path)
    heard = Heard()
    summaries = run_side_by_side(leader, [follower], jobs=2, board=heard)
    assert list(summaries) == ["a", "b"]
    assert summaries["a"]["stopped_early"]
    assert 0 < summaries["a"]["sequences"] < LEADER.run.budget
    for key in ("sequences", "steps"):
        assert summaries["a"][key] == summaries["b"][key]
    curves = [read_rows(tmp_path / name / "run.sqlite", "SELECT sequences FROM metrics") for name in ("a", "b")]
    assert curves[0] == curves[1]
    assert {name for name, _ in heard.statuses} == {"a", "b"}
    assert {status.metric_name for _, status in heard.statuses} == {"mse"}


def test_ctrl_c_stops_all_and_keeps_their_checkpoints(tmp_path: Path) -> None:
    endless = replace(LEADER, run=replace(LEADER.run, stop_at=None, budget=10**7))
    leader, follower = two_jobs(tmp_path, endless)
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(leader, [follower], jobs=2, board=Heard(stop_at="b"))
    for job in (leader, follower):
        folder = RunFolder(job.out)
        with folder.locked():
            assert load_checkpoint(folder).numbers["task"] == "adding"
        assert not folder.summary.exists()


def test_a_run_that_fails_is_named(tmp_path: Path) -> None:
    leader, _ = two_jobs(tmp_path)
    leader.out.mkdir()
    (leader.out / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"a: out = .* holds a run"):
        run_side_by_side(leader, [], jobs=1, board=Heard())


# What is shown


def test_a_terminal_gets_a_row_per_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status = Status(
        sequences=5_000,
        budget=16_000,
        step=75_000,
        seconds=60.0,
        steps_per_second=1_250.0,
        sequences_per_second=100.0,
        metric_name="accuracy",
        train_loss=0.1705,
        train_metric=0.2,
        held_out_metric=0.2125,
        replays_per_update=1.98,
    )
    text = io.StringIO()
    with LiveBoard({"a": "the first", "b": "the second"}, Console(file=text, force_terminal=True, width=80)) as board:
        board.update("a", status)
    for words in ("the first", "the second", "75,000", "5,000", "0.1705", "21.2 %", "1.98", "1,250", "< 1:50", "starting"):
        assert words in text.getvalue()
    assert "…" not in text.getvalue()
    board_for_pipes = make_board({"a": "the first"})
    assert isinstance(board_for_pipes, LinesBoard)
    board_for_pipes.evaluated("a", status)
    assert capsys.readouterr().out.startswith("the first: 5000 sequences  step 75000  loss 0.1705")


def test_the_mazes_verdict_is_honest(finished: tuple[Path, str]) -> None:
    shares = dict(zip(demo_agent.AGENTS, (0.98, 1.0, 0.5, 0.6, 0.55, 0.2), strict=True))
    found = {
        name: {"evaluation": {"success": {"estimate": share}, "episodes": 200}, "steps": 1000}
        for name, share in shares.items()
    }
    assert demo_agent.sentence(found) == (
        "In the maze: with replay the right turn in 98.0 % / 100.0 % / 50.0 % of 200 episodes (3 seeds), without "
        "60.0 % / 55.0 % / 20.0 % (guessing 50.0 %), after 1,000 steps each."
    )
    drawn = (finished[0] / "agent_curve.svg").read_text()
    for words in ("SAB with replay", "recall without replay", "environment steps", "success in evaluation", "quick"):
        assert words in drawn
