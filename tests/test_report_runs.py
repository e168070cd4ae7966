"""Reports of runs: the story, recorded and played episodes, and `sabsim analyze`; made-up and trained runs."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sabsim.agents import AGENT_TABLES, AgentConfig, AgentLearnerOptions, AgentRunOptions, train_agent
from sabsim.analysis.folders import Run, read_run
from sabsim.analysis.report import Arc, Moments, Reading, recorded_moments, tell
from sabsim.analysis.report.explorer import explorer_data
from sabsim.analysis.report.moments import MOST_ARCS, MOST_STEPS
from sabsim.analysis.report.overview import credit_by_lag
from sabsim.analysis.report.score import score

from sabsim.cli import main
from sabsim.cli.report import episode_of
from sabsim.errors import RunFolderError
from sabsim.runs import RunConfig, RunDatabase
from sabsim.runs.database import TABLES
from sabsim.tasks import Adding, CharLM, Copying

MOST_BYTES = 8_000_000
"""Of a page."""
HURT = "<script>alert(1)</script>"


Tables = dict[str, list[Any]]


def agent_run(path: Path, *, env: str = "sabsim/Exam-v0", tables: Tables | None = None, **summary: Any) -> Run:
    """A made-up agent's run with rows of ``tables``; finished if there is a ``summary``."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(AgentConfig(env=env, env_args={"length": 3}).to_json()))
    return _filled(path, AGENT_TABLES, tables or {}, summary)


def task_run(path: Path, config: RunConfig, tables: Tables, **summary: Any) -> Run:
    """A made-up run of a supervised task."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config.to_json()))
    return _filled(path, TABLES, tables, summary)


def _filled(path: Path, names: Any, tables: Tables, summary: dict[str, Any]) -> Run:
    database = RunDatabase(path / "run.sqlite", names)
    for table, rows in tables.items():
        database.insert(table, rows)
    database.commit()
    database.close()
    if summary:
        (path / "summary.json").write_text(json.dumps(summary))
    return read_run(path)


def row(table: str, names: Any = AGENT_TABLES, **values: Any) -> tuple[Any, ...]:
    """A row of a table; columns that are not given are NULL."""
    assert not values.keys() - names[table].keys()
    return tuple(values.get(column) for column in names[table])


def agent_step(at: int, episode: int, position: int, reward: float = 0.0) -> tuple[Any, ...]:
    signals = {"reward": reward, "value": 0.5, "td_error": -0.25}
    return row("steps", step=at, stream=0, episode=episode, position=position, action=1, **signals)


def event(kind: str, at: int, episode: int, source: int, *, weight: float = 0.5, credit: float | None = 1.0) -> Any:
    where = {"step": at, "stream": 0, "episode": episode, "source_step": source, "lag": at - source}
    replayed = {"replayed_steps": 2, "update_step": at // 5 * 5 + 4} if kind == "replay" else {}
    return row("events", kind=kind, **where, weight=weight, credit=credit, reward=0.0, td_error=0.0, **replayed)


def evaluation(env_steps: int, success: float | None, mean: float, split: str = "evaluation") -> tuple[Any, ...]:
    judged = 0 if success is None else 64
    return (env_steps, env_steps // 32, split, 64, mean, 10.0, judged, success, None, None, None, None, None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny agent in a maze of 6 steps."""
    out = tmp_path_factory.mktemp("runs") / "maze"
    config = AgentConfig(
        env="sabsim/TMaze-v0",
        env_args={"memory_length": 6},
        learner=AgentLearnerOptions(hidden=8, slots=8, k_top=3),
        run=AgentRunOptions(streams=4, steps=800, eval_every=800, eval_episodes=8, record_every=2),
    )
    train_agent(config, out=str(out))
    return out


# Recorded episodes


def test_a_recorded_episode_by_hand(tmp_path: Path) -> None:
    """Episode 1 has replay and reward, and begins in the middle of a window; episode 2, the last, has no reward."""
    steps = [agent_step(t, 0, t) for t in range(12)]
    steps += [agent_step(t, 1, t - 12, reward=float(t == 21)) for t in range(12, 22)]
    steps += [agent_step(t, 2, t - 22) for t in range(22, 27)]
    events = [
        event("replay", 9, 0, 2),
        event("replay", 20, 1, 14, weight=0.7, credit=2.0),
        event("reminding", 19, 1, 13, weight=0.3, credit=None),
        event("replay", 15, 1, 8),  # its source lies before the episode
        event("replay", 26, 2, 23),
    ]
    found = recorded_moments(agent_run(tmp_path / "run", tables={"steps": steps, "events": events}), notes=["No pictures."])
    assert found.title == "run, episode 1 of stream 0, as it was recorded in training"
    assert found.notes[0] == "No pictures."
    assert "the last recorded episode with both replay and reward" in found.notes[1]
    assert (found.first, found.steps, list(found.frames)) == (0, 10, [])
    # Windows of 5 steps are 15 to 19 and 20 to 24 of the run.
    assert found.arcs == [Arc(step=8, source=2, weight=0.7, credit=2.0, length=2, begin=8, end=12)]
    assert found.readings == [Reading(step=7, source=1, weight=0.3)]
    assert {series.name: series.values[9] for series in found.series} == {"reward": 1.0, "TD error": -0.25, "value": 0.5}


def test_a_long_recorded_episode_is_cut_to_where_it_tells_something(tmp_path: Path) -> None:
    steps = [agent_step(t, 0, t, reward=float(t == 900)) for t in range(1000)]
    events = [event("replay", 899, 0, 890), event("replay", 899, 0, 10)]
    found = recorded_moments(agent_run(tmp_path / "run", tables={"steps": steps, "events": events}))
    assert found.first <= 890
    assert found.first + found.steps > 900
    assert found.steps == MOST_STEPS
    assert f"longer than what is shown, steps {found.first} to {found.first + found.steps - 1}." in " ".join(found.notes)
    assert [arc.source for arc in found.arcs] == [890]


def test_a_supervised_run_shows_its_loss(tmp_path: Path) -> None:
    steps = [(t, 0, 0, t, 0.1 * t, int(t >= 8), float(t == 8) if t >= 8 else None) for t in range(12)]
    events = [event("replay", 9, 0, 1)]
    found = recorded_moments(task_run(tmp_path / "run", RunConfig(task=Copying(T=2)), {"steps": steps, "events": events}))
    assert [series.name for series in found.series] == ["loss", "correct"]
    assert found.series[0].values == pytest.approx(0.1 * np.arange(12))
    assert np.isnan(found.series[1].values[:8]).all()
    assert list(found.actions) == []
    assert "both replay and scored steps" in found.notes[0]


def test_too_many_replays_are_left_out_and_it_is_said(tmp_path: Path) -> None:
    count = MOST_ARCS + 7
    steps = [agent_step(t, 0, t, reward=float(t == 1)) for t in range(count + 1)]
    events = [event("replay", t, 0, t - 1, credit=float(t)) for t in range(1, count + 1)]
    found = recorded_moments(agent_run(tmp_path / "run", tables={"steps": steps, "events": events}))
    assert len(found.arcs) == MOST_ARCS
    assert min(arc.credit for arc in found.arcs) == 8
    assert f"Of {count} replays the {MOST_ARCS} of greatest credit are shown." in found.notes


# The story


def test_scores_by_hand(tmp_path: Path) -> None:
    metrics = [evaluation(0, 0.25, 0.3), evaluation(3200, 0.75, 0.8)]
    going = score(agent_run(tmp_path / "going", tables={"metrics": metrics}))
    # Wilson's interval of 48 of 64 by its formula.
    z, n, p = 1.959964, 64, 0.75
    middle, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)),
    )
    assert (going.low, going.high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert (going.name, going.estimate, going.before, going.learned()) == ("success", 0.75, 0.25, True)
    assert "so far, after 3,200 steps" in going.cases
    metrics = [evaluation(0, None, 20.0), evaluation(3200, None, 12.0, "final")]
    final = {"evaluation": {"success": None, "return": {"estimate": 12.0, "low": 11.0, "high": 19.0}}}
    worse = score(agent_run(tmp_path / "worse", tables={"metrics": metrics}, **final))
    assert (worse.name, worse.before, worse.learned()) == ("return", 20.0, False)
    config, rows = RunConfig(task=Adding(T=9)), [(500, 99, "final", 1000, 0.1, 0.02, None, 10, None)]
    figures = {"mse": 0.02, "standard_error": 0.01, "baselines": {"always one mse": 1 / 6}}
    adding = score(task_run(tmp_path / "adding", config, {"metrics": rows}, **figures))
    assert (adding.low, adding.high) == pytest.approx((0.0004, 0.0396))
    assert (adding.name, adding.without, adding.learned()) == ("held-out mse", "always one", True)
    config, rows = RunConfig(task=CharLM()), [(500, 99, "final", 1000, 3.0, 4.3, None, 10, None)]
    figures = {"bpc": 4.3, "standard_error": 0.01, "baselines": {"equal bpc": 6.7, "frequencies bpc": 4.6}}
    text = score(task_run(tmp_path / "text", config, {"metrics": rows}, **figures))
    assert (text.name, text.without, text.share, text.better) == ("held-out bpc", "equal", False, -1)
    assert text.learned()
    with pytest.raises(RunFolderError, match="no evaluation yet"):
        score(agent_run(tmp_path / "none"))


def test_the_story_of_several_seeds_and_of_none_that_can_be_judged(tmp_path: Path) -> None:
    runs = []
    for seed, share in enumerate((0.9, 0.95, 0.2)):
        metrics = [evaluation(0, 0.25, 0.3), evaluation(3200, share, share)]
        runs.append(agent_run(tmp_path / str(seed), tables={"metrics": metrics}))
    asked = {answer.question: answer for answer in tell(runs, []).answers}
    learned = asked["Did it learn?"]
    assert learned.verdict == "2 of 3 seeds"
    assert "Success was 68.3 % [" in learned.sentences[0]
    assert "(90.0 %, 95.0 %, 20.0 %); untrained: 25.0 %" in learned.sentences[0]
    assert asked["What was run?"].verdict == "Not finished"
    blind = tell([agent_run(tmp_path / "blind")], [])
    assert blind.answers[1].verdict == "Cannot say"
    assert "no evaluation yet" in blind.answers[1].sentences[0]
    assert blind.picture is None


def test_credit_by_lag_is_what_a_loop_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    found = [(int(at), int(rng.integers(1, 30)), float(rng.random())) for at in rng.integers(30, 500, 200)]
    events = [event("replay", at, 0, at - lag, credit=credit) for at, lag, credit in found]
    counted = credit_by_lag([agent_run(tmp_path / "run", tables={"events": events})])
    assert counted is not None
    shares, end = counted
    assert end == 1 + max(at for at, _, _ in found)
    expected = np.zeros_like(shares)
    for at, lag, credit in found:
        expected[int(math.log2(lag)), int(at / end * shares.shape[1])] += credit
    total = expected.sum(axis=0)
    assert np.isnan(shares[:, total == 0]).all()
    assert shares[:, total > 0] == pytest.approx((expected / np.where(total > 0, total, 1))[:, total > 0])


# Trained runs and the command


def test_analyze_writes_a_report(
    trained: Path, tmp_path: Path, read_page: Callable[[Path], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(trained), "--out", str(tmp_path), "--draws", "5"]) == 0
    assert "report.html" in capsys.readouterr().out
    page = read_page(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < MOST_BYTES
    for words in (
        "sabsim/TMaze-v0 (memory_length 6)",
        "Did it learn?",
        "Does replay follow reward?",
        "causal step",
        "Mind:",
    ):
        assert words in page.text
    data = page.explored
    assert len(data["frameOf"]) == data["steps"] >= 1
    assert data["frames"][0].startswith("data:image/webp;base64,")
    stats = json.loads((tmp_path / "stats.json").read_text())
    for value in stats["runs"][0]["values"].values():
        assert f"{value:.3g}" in page.text


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_without_a_checkpoint_the_recorded_episode_is_shown(trained: Path, tmp_path: Path, damage: str) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    if damage == "missing":
        (run / "checkpoint.safetensors").unlink()
    else:
        (run / "checkpoint.safetensors").write_bytes(b"nothing")
    found = episode_of(read_run(run))
    assert isinstance(found, Moments)
    assert list(found.frames) == []
    assert "There are no pictures, and it is not played anew" in found.notes[0]
    assert "checkpoint" in found.notes[0]
    assert str(run) not in found.notes[0]


def test_runs_with_little_to_tell(
    tmp_path: Path, read_page: Callable[[Path], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Never replayed; never paid; with no single step: each gets its page, and the page says why it is bare."""
    unpaid = [agent_step(t, 0, t) for t in range(10)]
    paid = [agent_step(t, 0, t, reward=float(t == 9)) for t in range(10)]
    episodes = [(0, 0, 0, 9, 1.0, 10, 1, 1, 0)]
    replays = [event("replay", 9, 0, 2), event("replay", 8, 0, 3)]
    cases = {
        "silent": (
            {"steps": paid, "episodes": episodes},
            "no replay is recorded (credit sab)",
            "this one, the last, has no replay",
        ),
        "unpaid": ({"steps": unpaid, "events": replays}, "none of the 10 recorded steps was paid", "has no reward"),
        "blind": (
            {"events": replays, "episodes": episodes},
            "no single step is recorded",
            "There is no episode to explore",
        ),
    }
    for name, (tables, reason, told) in cases.items():
        run = agent_run(tmp_path / name, tables=tables)
        assert main(["analyze", str(run.path), "--draws", "5"]) == 0
        page = read_page(run.path / "analysis" / "report.html")
        assert reason in page.text
        assert told in page.text
        assert "Not finished" in page.text
    capsys.readouterr()
    recorded = explorer_data(recorded_moments(read_run(tmp_path / "silent")))
    assert recorded["arcs"] == []
    assert not recorded["replays"]


def test_an_environment_of_any_name_does_no_harm(
    tmp_path: Path, read_page: Callable[[Path], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [agent_step(t, 0, t, reward=float(t == 9)) for t in range(10)]
    run = agent_run(tmp_path / "run", env=HURT, tables={"steps": steps, "events": [event("replay", 9, 0, 2)]})
    assert main(["analyze", str(run.path), "--draws", "5"]) == 0
    capsys.readouterr()
    page = read_page(run.path / "analysis" / "report.html")
    assert len(page.scripts) == 3
    assert HURT in page.text
    assert HURT not in (run.path / "analysis" / "report.html").read_text()
