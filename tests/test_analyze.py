"""`sabsim analyze`: an agent's tables joined, measures by hand on made-up runs, a trained run, and bad input."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from sabsim.agents import AGENT_TABLES, AgentConfig, AgentLearnerOptions, AgentRunOptions, train_agent
from sabsim.analysis.agent_runs import read_agent_run
from sabsim.analysis.causal import causal_fraction
from sabsim.analysis.laps import WHERE, conditions, laps
from sabsim.analysis.measures import credit_correlations, lags, rates
from sabsim.analysis.peri_reward import peri_reward
from sabsim.analysis.replay_summary import across_seeds, reward_labels, summarise

from sabsim.cli import main
from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs import RunDatabase


def make_run(path: Path, *, env: str = "sabsim/Exam-v0", seed: int = 0, **rows: list[tuple[Any, ...]]) -> Path:
    """A run folder with these rows of `steps`, `events` and `episodes`."""
    path.mkdir(parents=True)
    config = AgentConfig(env=env, env_args={"length": 3}, run=AgentRunOptions(seed=seed)).to_json()
    (path / "config.json").write_text(json.dumps(config))
    database = RunDatabase(path / "run.sqlite", AGENT_TABLES)
    for table, found in rows.items():
        database.insert(table, found)
    database.commit()
    database.close()
    return path


def step(at: int, episode: int, position: int, *, reward: float = 0.0, place: int = 0, causal: int | None = None) -> Any:
    """A row of `steps`, of stream 0 and epoch 0."""
    return (at, 0, episode, position, 1, reward, 0.0, 0.0, 0.0, place, 0, "before", causal)


def replay(at: int, episode: int, source: int, *, credit: float = 1.0, reward: float = 0.0, length: int = 2) -> Any:
    """A row of `events`, of stream 0; the TD error is as large as the credit."""
    return ("replay", at, 0, episode, source, at - source, 0.5, credit, None, reward, -credit, length, at)


def exam(path: Path, **changes: Any) -> Path:
    """Two episodes of ten steps, 0-9 and 10-19; only the first has recorded steps; reward at 9, earned at 2."""
    steps = [step(t, 0, t, reward=float(t == 9), causal=2 if t == 9 else None) for t in range(10)]
    events = [
        replay(4, 0, 3, credit=1.0),  # segment 2-3 holds step 2
        replay(9, 0, 2, credit=3.0, reward=1.0),  # 1-2 does
        replay(9, 0, 6, credit=2.0, reward=1.0),  # 5-6 does not
        replay(1, 0, 0),  # before step 2: not counted
        replay(15, 1, 12, credit=4.0),
        replay(25, 2, 21),  # of an episode whose beginning is not known
    ]
    episodes = [(0, 0, 0, 9, 1.0, 10, 1, 1, 0), (0, 1, 10, 19, 0.0, 10, 0, 1, 0)]
    return make_run(path, **{"steps": steps, "events": events, "episodes": episodes, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three seeds of a tiny agent on a chain of 8 steps."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        config = AgentConfig(
            env="sabsim/MemoryChain-v0",
            env_args={"memory_length": 8},
            learner=AgentLearnerOptions(hidden=8, slots=8, k_top=3),
            run=AgentRunOptions(
                streams=4, steps=2400, eval_every=2400, eval_episodes=4, seed=seed, record_streams=2, record_every=2
            ),
        )
        train_agent(config, out=str(folder / f"s{seed}"))
    return [folder / f"s{seed}" for seed in range(3)]


# By hand


def test_steps_and_events_are_joined(tmp_path: Path) -> None:
    run = read_agent_run(exam(tmp_path / "run"))
    assert run.left_out == 1
    assert run.replays["position"].tolist() == [1, 4, 9, 9, 5]
    assert run.replays["row"].tolist() == [1, 4, 9, 9, -1]
    assert run.steps["replays"].tolist() == [0, 1, 0, 0, 1, 0, 0, 0, 0, 2]
    assert run.steps["credit"][9] == 5.0
    assert run.steps["causal_step"].tolist() == [-1] * 9 + [2]


def test_measures_by_hand(tmp_path: Path) -> None:
    run = read_agent_run(exam(tmp_path / "run"))
    assert (rates(run).per_step, rates(run).per_episode) == (5 / 20, 5 / 2)
    found = lags(run)  # lags 1, 1, 7, 3, 3 of 1, 4, 9, 9, 5
    assert found.edges.tolist() == [1, 2, 4, 8, 16]
    assert found.observed == pytest.approx([2 / 5, 2 / 5, 1 / 5, 0])
    assert found.uniform[0] == pytest.approx(np.mean([1, 1 / 4, 1 / 9, 1 / 9, 1 / 5]))
    around = peri_reward(run, reach=9)
    assert around.rate[around.offset == 0] == 2
    assert around.rate[around.offset == -5] == 1
    assert np.isnan(around.rate[around.offset > 0]).all()
    assert (around.rewards, around.mean) == (1, 0.4)
    # Window 5: steps 4-9 hold 3 replays, 0-3 hold 1.
    assert around.near is not None
    assert around.near.estimate == pytest.approx(np.log((3 / 6) / (1 / 4)))
    assert credit_correlations(run).td_error == pytest.approx(1)


def test_causal_fraction_by_hand(tmp_path: Path) -> None:
    found = causal_fraction(read_agent_run(exam(tmp_path / "run")), draws=4000)
    assert (found.n, found.fraction) == (3, 2 / 3)
    # Segments of two steps hold step 2 if the source is 2 or 3: of 4 steps two do, of 9 steps two.
    assert found.uniform.mean == pytest.approx(np.mean([2 / 4, 2 / 9, 2 / 9]), abs=0.02)
    # Lags 1, 7, 3 of room 4, 9, 9: from 4, lags 1 and 3 fit, and 1 holds it; from 9, only 7 of the two lags (7, 3).
    assert found.lag_matched.mean == pytest.approx(np.mean([1 / 2, 1 / 2, 1 / 2]), abs=0.02)
    # Of credits 1, 3 and 2 the first two are on it; the last two are of the paid step.
    assert found.credit.observed == pytest.approx(4 / 6)
    assert found.credit.uniform == pytest.approx((1 * 2 / 4 + 5 * 2 / 9) / 6, abs=0.02)
    assert found.credit.lag_matched == pytest.approx(1 / 2, abs=0.02)
    assert (found.outcome.n, found.outcome.fraction) == (2, 1 / 2)


def test_laps_by_hand(tmp_path: Path) -> None:
    places = [0, 0, 1, 2, 1, 1, 0, 1, 0]  # two laps; the last return to the left end is none
    steps = [step(t, 0, t, place=place) for t, place in enumerate(places)]
    run = make_run(tmp_path / "run", env="sabsim/LinearTrack-v0", steps=steps, events=[replay(6, 0, 2), replay(5, 0, 2)])
    cells = {cell.where: cell for cell in laps(read_agent_run(run))}
    assert tuple(cells) == WHERE
    assert [cells[where].laps for where in WHERE] == [1, 1, 1, 1, 2]
    assert [cells[where].steps for where in WHERE] == [4, 1, 1, 2, 1]
    assert [cells[where].stationary for where in WHERE] == [2, 0, 1, 0, 1]
    left, pausing = cells["left end"], cells["pausing"]
    assert (left.per_lap, left.per_step, left.per_stationary_step) == (1, 1 / 4, 0)
    assert (pausing.per_stationary_step, cells["right end"].per_stationary_step) == (1, None)


def test_conditions_of_the_track_are_told_by_its_rewards(tmp_path: Path) -> None:
    """Two sessions of three places: the right end pays 4 in epoch 1 of the first, the left end in the second."""
    steps, at = [], 0
    for episode, richer in enumerate((2, 0)):
        places = [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
        for position, place in enumerate(places):
            epoch = int(position > 4)
            arrives = places[position + 1] if position + 1 < len(places) and places[position + 1] != 1 else None
            paid = 0.0 if arrives is None else 4.0 if epoch and arrives == richer else 1.0
            row = step(at, episode, position, reward=paid, place=place)
            steps.append((*row[:10], epoch, *row[11:]))
            at += 1
    events = [replay(6, 0, 2), replay(6, 0, 3), replay(13, 1, 11), replay(19, 1, 12)]
    found = conditions(read_agent_run(make_run(tmp_path / "run", env="sabsim/LinearTrack-v0", steps=steps, events=events)))
    counts = {(name, cell.where, cell.epoch): (cell.laps, cell.replays) for name, cell in found}
    # Step 6 is the right end, changed in the first session; 13 the right end, the other one in the second; 19 its left end.
    assert counts["changed", "right end", 1] == (2, 2)
    assert counts["other", "right end", 0] == (1, 1)
    assert counts["changed", "left end", 1] == (1, 1)
    assert counts["other", "left end", 1] == (1, 0)


def test_rewarded_triggers_are_compared_within_their_position_and_time(tmp_path: Path) -> None:
    """Rewards and credit that both change with training, but have nothing to do with each other, show nothing."""
    rng = np.random.default_rng(0)
    events, episodes = [], []
    for episode in range(400):
        late, first = episode >= 200, 10 * episode
        reward = float(rng.random() < (0.9 if late else 0.1))
        events += [replay(first + 9, episode, first + back, credit=0.01 if late else 1, reward=reward) for back in (1, 3)]
        episodes.append((0, episode, first, first + 9, reward, 10, 1, 1, 0))
    found = reward_labels([summarise(make_run(tmp_path / "run", events=events, episodes=episodes))])
    assert not isinstance(found, str)
    assert found.estimate == pytest.approx(0, abs=1e-9)
    assert found.p == 1


# Trained runs


def test_nulls_and_measures_of_a_trained_run(trained: list[Path]) -> None:
    summaries = [summarise(run, draws=20) for run in trained]
    for summary in summaries:
        # Two windows an episode are too few triggers to be in an order.
        assert set(summary.missing) <= {"sequences", "credit_rewarded", "places", "experience"}
        assert summary.lags is not None
        assert summary.lags.observed.sum() == pytest.approx(1)
        assert summary.lags.uniform.sum() == pytest.approx(1)
    across = {item.name: item for item in across_seeds(summaries)}
    assert across["causal_fraction"].test is None
    tested = across["credit_with_td_error"]
    assert tested.test is not None
    assert tested.q is not None
    assert tested.q >= tested.test.p >= 0.25
    with pytest.raises(ConfigError, match="seed 0 is there twice"):
        across_seeds([summaries[0], summaries[0]])


def test_command_writes_everything(trained: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["analyze", *map(str, trained), "--out", str(out), "--draws", "20", "--parquet"]) == 0
    shown = capsys.readouterr().out
    assert "Over 3 seeds" in shown
    assert "of 3 seeds p is at least 0.25" in shown
    stats = json.loads((out / "stats.json").read_text())
    assert [run["seed"] for run in stats["runs"]] == [0, 1, 2]
    assert stats["across"]["causal_fraction"]["interval"]["n"] == 3
    with (out / "lags.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["observed_share"]) for row in rows if row["seed"] == "1") == pytest.approx(1)
    table = parquet.read_table(out / "lags.parquet").to_pydict()
    assert table["observed_share"] == pytest.approx([float(row["observed_share"]) for row in rows])
    assert {path.stem for path in out.glob("*.parquet")} == {path.stem for path in out.glob("*.csv")}
    for figure in ("lags", "peri_reward", "causal_fraction"):
        assert (out / f"{figure}.svg").stat().st_size
        assert (out / f"{figure}.png").stat().st_size
    assert not (out / "laps.csv").exists()


def test_one_run_goes_into_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = exam(tmp_path / "run")
    assert main(["analyze", str(run), "--draws", "5"]) == 0
    shown = capsys.readouterr().out
    assert "one seed has no p-value" in shown
    assert "not finished" in shown
    assert "left out: 1 belong to an episode whose" in shown
    assert (run / "analysis" / "stats.json").exists()


# Nothing to measure, and bad input


def test_beside_a_control_without_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has none of the numbers that are tested; what both sets have is drawn, and the page is written."""
    here = [str(exam(tmp_path / f"a{seed}", seed=seed)) for seed in range(2)]
    there = [str(exam(tmp_path / f"b{seed}", seed=seed, events=[])) for seed in range(2)]
    out = tmp_path / "out"
    assert main(["analyze", *here, "--compare", *there, "--out", str(out), "--draws", "20"]) == 0
    assert "replays per step" in capsys.readouterr().out
    assert (out / "comparison.svg").stat().st_size
    assert (out / "report.html").stat().st_size


def test_partial_results(tmp_path: Path) -> None:
    silent = summarise(exam(tmp_path / "silent", events=[]))
    assert "no replay is recorded (credit sab)" in silent.missing["lags"]
    assert silent.values() == {"replays_per_step": 0.0, "replays_per_episode": 0.0, "remindings_per_step": 0.0}
    assert reward_labels([silent]) == "no replay is recorded whose outcome is known"
    unpaid = summarise(exam(tmp_path / "unpaid", steps=[step(t, 0, t) for t in range(10)]))
    assert unpaid.missing["peri_reward"] == "none of the 10 recorded steps was paid"
    assert "no recorded step tells a causal step" in unpaid.missing["causal_fraction"]
    blind = summarise(exam(tmp_path / "blind", steps=[]))
    assert "no single step is recorded" in blind.missing["peri_reward"]
    assert blind.lags is not None


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def mistake(*arguments: str) -> str:
        assert main(["analyze", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    run, other = exam(tmp_path / "run"), exam(tmp_path / "other", env="sabsim/TMaze-v0", seed=1)
    assert "a run folder is needed" in mistake()
    assert "no run folder" in mistake(str(tmp_path / "none"))
    assert "--out says where" in mistake(str(run), str(other))
    assert "differ in env" in mistake(str(run), str(other), "--out", str(tmp_path / "out"))
    assert "draws = 0: must be at least 1" in mistake(str(run), "--draws", "0")
    assert "nothing is recorded" in mistake(str(make_run(tmp_path / "empty")))
    (run / "run.sqlite").write_bytes(b"no database" * 100)
    assert "cannot be read" in mistake(str(run))
    (other / "config.json").write_text(json.dumps({"format": 4, "kind": "agent", "learner": 3}))
    assert "the file is damaged" in mistake(str(other))
    (other / "config.json").write_text(json.dumps({"format": 4, "task": "copying"}))
    assert "run has no seed; the file is damaged" in mistake(str(other))


def test_a_folder_still_being_written(tmp_path: Path) -> None:
    path = exam(tmp_path / "run")
    writer = sqlite3.connect(path / "run.sqlite")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM events")
    assert len(read_agent_run(path).replays["step"]) == 5
    writer.rollback()
    writer.close()


def test_seed_alone_may_differ(tmp_path: Path) -> None:
    runs = [summarise(exam(tmp_path / str(seed), seed=seed)) for seed in range(2)]
    assert across_seeds(runs)[0].interval.n == 2
    config = json.loads((tmp_path / "1" / "config.json").read_text())
    config["run"]["steps"] = 17
    (tmp_path / "1" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"differ in steps \(.*17\); only seeds may"):
        across_seeds([runs[0], summarise(tmp_path / "1")])
    with pytest.raises(RunFolderError, match="has no laps"):
        laps(runs[0].run)
