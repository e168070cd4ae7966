"""`sabsim export` to NWB: the same rows and values as run.sqlite, no complaint of nwbinspector, and what pynapple sees."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sabsim.agents import AGENT_TABLES, AgentConfig, AgentLearnerOptions, AgentRunOptions, train_agent
from sabsim.analysis.agent_runs import read_agent_run
from sabsim.analysis.export import columns, export_nwb, patient, snapshot
from sabsim.analysis.laps import read_track
from sabsim.analysis.peri_reward import peri_reward

from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs import LearnerOptions, RunConfig, RunDatabase, RunFolder, RunOptions, loop, read_rows, train
from sabsim.tasks import Copying

# What these packages warn of among themselves is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Rows = list[tuple[Any, ...]]
Nap = Any
TINY = AgentLearnerOptions(hidden=8, slots=8, k_top=3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An agent on a chain, one on the track, both with hidden states, and a supervised run without."""
    folder = tmp_path_factory.mktemp("runs")
    few = {"streams": 2, "eval_every": 100_000, "eval_episodes": 1, "record_streams": 2}
    for name, env, env_args, steps, every in (
        ("chain", "sabsim/MemoryChain-v0", {"memory_length": 8}, 1_600, 3),
        ("track", "sabsim/LinearTrack-v0", {"length": 3, "laps_per_epoch": 2}, 1_000, 2),
    ):
        run = AgentRunOptions(steps=steps, record_every=every, record_hidden=True, **few)
        train_agent(AgentConfig(env=env, env_args=env_args, learner=TINY, run=run), out=folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "FINAL_SEQUENCES", 16)
        learner = LearnerOptions(hidden=8, slots=8, k_top=3)
        run = RunOptions(streams=2, budget=60, eval_every=60, eval_sequences=8, record_every=3, device="cpu")
        train(RunConfig(task=Copying(T=5), learner=learner, run=run), out=folder / "task")
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def files(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three runs as NWB files."""
    folder = tmp_path_factory.mktemp("nwb")
    return {name: export_nwb(run, folder / f"{name}.nwb").path for name, run in runs.items()}


@pytest.fixture(scope="module")
def nap() -> Nap:
    """pynapple."""
    return pytest.importorskip("pynapple")


def rows(run: Path, query: str) -> Rows:
    """Rows of the run's own database."""
    return read_rows(run / "run.sqlite", query)


# Against run.sqlite


def test_series_hold_what_the_database_holds(runs: dict[str, Path], files: dict[str, Path], nap: Nap) -> None:
    found = nap.load_file(str(files["chain"]))
    wanted = rows(runs["chain"], "SELECT step, action, reward, value, td_error, entropy FROM steps WHERE stream = 0")
    assert len(wanted) > 100
    times, *figures = (list(column) for column in zip(*wanted, strict=True))
    for name, values in zip(("action", "reward", "value", "td_error", "entropy"), figures, strict=True):
        assert found[name].t.tolist() == times, name
        assert found[name].d[:].tolist() == values, name
    blobs = rows(runs["chain"], "SELECT h FROM hidden WHERE stream = 0 ORDER BY id")
    states = np.frombuffer(b"".join(blob for (blob,) in blobs), "<f4").reshape(len(times), 8)
    assert found["hidden"].d[:].tobytes() == states.tobytes()
    assert states.any()


def test_supervised_series(runs: dict[str, Path], files: dict[str, Path], nap: Nap) -> None:
    found = nap.load_file(str(files["task"]))
    wanted = rows(runs["task"], "SELECT step, loss, correct FROM steps")
    assert found["loss"].t.tolist() == [row[0] for row in wanted]
    assert found["loss"].d[:].tolist() == [row[1] for row in wanted]
    assert [None if np.isnan(x) else x for x in found["correct"].d[:]] == [row[2] for row in wanted]
    trials = rows(runs["task"], "SELECT first_step, last_step + 0.5, loss, metric FROM episodes")
    table = found["trials"]
    assert list(zip(table.start, table.end, table["loss"], table["metric"], strict=True)) == trials
    assert "reward" not in found.keys()  # noqa: SIM118
    assert "hidden" not in found.keys()  # noqa: SIM118


@pytest.mark.parametrize("name", ["chain", "track", "task"])
def test_replay_has_a_row_for_each_trigger(name: str, runs: dict[str, Path], files: dict[str, Path], nap: Nap) -> None:
    found = nap.load_file(str(files[name]))
    events = rows(
        runs[name],
        "SELECT step, source_step, update_step, weight, credit, replayed_steps FROM events "
        "WHERE kind = 'replay' AND stream = 0 ORDER BY step, id",
    )
    assert len(events) > 30
    by_step: dict[int, Rows] = {}
    for event in events:
        by_step.setdefault(event[0], []).append(event)
    table = found["replay"]
    assert table.start.tolist() == list(by_step)
    assert table["sources"].tolist() == [len(sources) for sources in by_step.values()]
    assert table["credit"].tolist() == pytest.approx([sum(e[4] for e in sources) for sources in by_step.values()])
    first = [max(sources, key=lambda e: e[4]) for sources in by_step.values()]
    assert table["source_time"].tolist() == [event[1] for event in first]
    assert table["update_time"].tolist() == [event[2] for event in first]
    links = ("replay_source_time", "replay_update_time", "replay_weight", "replay_credit", "replay_steps")
    for place, link in enumerate(links, 1):
        assert found[link].t.tolist() == [event[0] for event in events]
        assert found[link].d[:].tolist() == [event[place] for event in events]


def test_trials_and_rewards_of_an_agent(runs: dict[str, Path], files: dict[str, Path], nap: Nap) -> None:
    from pynwb import NWBHDF5IO

    found = nap.load_file(str(files["chain"]))["trials"]
    names = ("episode", "return", "success", "terminated", "truncated")
    wanted = ", ".join(f'"{name}"' for name in names)
    query = f"SELECT first_step, last_step + 0.5, {wanted} FROM episodes WHERE stream = 0"
    values = [found.start, found.end, *(found[name] for name in names)]
    assert list(zip(*(column.tolist() for column in values), strict=True)) == rows(runs["chain"], query)
    recorded = {row[0] for row in rows(runs["chain"], "SELECT DISTINCT episode FROM steps WHERE stream = 0")}
    assert {e for e, kept in zip(found["episode"], found["is_recorded"], strict=True) if kept} <= recorded
    with NWBHDF5IO(files["chain"], "r") as opened:
        file = opened.read()
        paid = rows(runs["chain"], "SELECT step, reward FROM steps WHERE stream = 0 AND reward != 0")
        table = file.events["rewards"]
        assert list(zip(table["timestamp"].data[:], table["reward"].data[:], strict=True)) == paid
        assert file.subject.description == "Simulated agent (software, no animal)"
        assert json.loads(file.notes)["config"] == json.loads((runs["chain"] / "config.json").read_text())


def test_places_epochs_and_laps_of_the_track(runs: dict[str, Path], files: dict[str, Path], nap: Nap) -> None:
    found = nap.load_file(str(files["track"]))
    wanted = rows(runs["track"], "SELECT step, place, episode, epoch, reward FROM steps WHERE stream = 0")
    assert found["position"].t.tolist() == [row[0] for row in wanted]
    assert found["position"].d[:].tolist() == [row[1] for row in wanted]
    for step, _, _, epoch, _ in wanted:
        (inside,) = np.flatnonzero((found["epochs"].start <= step) & (step <= found["epochs"].end))
        assert found["epochs"]["epoch"][inside] == str(epoch)
    changes = sum(a[2:4] != b[2:4] for a, b in pairwise(wanted))
    assert len(found["epochs"]) == changes + 1
    # Laps, against those of the analysis.
    run = read_agent_run(runs["track"])
    mine = run.steps["stream"] == 0
    arrival = read_track(run).arrival[mine]
    at = run.steps["step"][mine][arrival >= 0]
    laps = found["laps"]
    assert len(laps) > 10
    assert (laps.end - 0.5).tolist() == at.tolist()
    assert [{"left": 0, "right": 1}[end] for end in laps["towards"]] == arrival[arrival >= 0].tolist()
    inside = laps["reward"].sum()
    assert 0 < inside <= sum(row[4] for row in wanted)


def test_a_stream_and_a_step_length_of_choice(runs: dict[str, Path], tmp_path: Path, nap: Nap) -> None:
    export = export_nwb(runs["chain"], tmp_path / "other.nwb", stream=1, dt=0.25)
    found = nap.load_file(str(export.path))
    wanted = rows(runs["chain"], "SELECT step, value FROM steps WHERE stream = 1")
    assert found["value"].t.tolist() == [step * 0.25 for step, _ in wanted]
    assert found["value"].d[:].tolist() == [value for _, value in wanted]
    query = "SELECT step, source_step FROM events WHERE kind = 'replay' AND stream = 1 ORDER BY step, id"
    ((step, source), *_) = rows(runs["chain"], query)
    assert (found["replay"].start[0], found["replay"].end[0]) == (step * 0.25, (step + 0.5) * 0.25)
    assert found["replay_source_time"].d[0] == source * 0.25


# Other people's judgement


@pytest.mark.parametrize("name", ["chain", "track", "task"])
def test_nwbinspector_finds_nothing(name: str, files: dict[str, Path]) -> None:
    inspector = pytest.importorskip("nwbinspector")
    for config in (None, inspector.load_config("dandi")):
        found = list(inspector.inspect_nwbfile(nwbfile_path=files[name], config=config))
        assert not [(message.object_name, message.message) for message in found]


def test_nwbinspector_would_find_something(runs: dict[str, Path], tmp_path: Path) -> None:
    inspector = pytest.importorskip("nwbinspector")
    path = export_nwb(runs["chain"], tmp_path / "anonymous.nwb", experimenter="nobody").path
    assert "experimenter" in next(iter(inspector.inspect_nwbfile(nwbfile_path=path))).message


def test_pynapples_replay_around_reward_is_ours(runs: dict[str, Path], files: dict[str, Path], nap: Nap) -> None:
    """Counts of replay events around paid steps of the same episode, by pynapple's peri-event alignment and by ours."""
    reach = 6
    found = nap.load_file(str(files["chain"]))
    events = nap.Ts(found["replay_credit"].t)
    reward = found["reward"]
    paid = nap.Ts(reward.t[reward.d[:] != 0])
    counts: Counter[int] = Counter()
    for trial in found["trials"]:
        around = paid.restrict(trial)
        if len(around) and len(events.restrict(trial)):
            aligned = nap.compute_perievent(events.restrict(trial), around, reach)
            counts.update(int(offset) for peri in aligned.values() for offset in peri.t)
    # One stream alone, as in the file; the measure is over all that are recorded.
    run = read_agent_run(runs["chain"])
    kept = {name: column[run.steps["stream"] == 0] for name, column in run.steps.items()}
    ours = peri_reward(replace(run, steps=kept), reach=reach)
    wanted = {int(o): round(r * n) for o, r, n in zip(ours.offset, ours.rate, ours.steps, strict=True) if n and r}
    assert sum(wanted.values()) > 20
    assert dict(counts) == wanted


# Runs that lack something


def made_up(path: Path, *, steps: Rows = [], events: Rows = [], episodes: Rows = [], **run: Any) -> Path:  # noqa: B006
    """A run folder of an agent with these rows."""
    path.mkdir()
    RunFolder(path).write_config(AgentConfig(env="sabsim/Exam-v0", run=AgentRunOptions(**run)))
    database = RunDatabase(path / "run.sqlite", AGENT_TABLES)
    for table, found in (("steps", steps), ("events", events), ("episodes", episodes)):
        database.insert(table, found)
    database.commit()
    database.close()
    return path


def step(at: int, *, place: Any = None, reward: float = 0.0) -> tuple[Any, ...]:
    """A row of `steps` of stream 0, episode 0."""
    return (at, 0, 0, at, 1, reward, 0.5, 0.0, 0.7, place, None, None, None)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    found = export_nwb(made_up(tmp_path / "run", steps=[step(t) for t in range(9)]), tmp_path / "out.nwb")
    assert not found.finished
    said = " ".join(found.missing)
    for reason in (
        "no episode has ended",
        "nothing was replayed",
        "none of the recorded steps was paid",
        "--record-hidden",
    ):
        assert reason in said
    blind = made_up(tmp_path / "blind", episodes=[(0, e, 9 * e, 9 * e + 8, 1.0, 9, None, 1, 0) for e in range(3)])
    assert "none is recorded" in " ".join(export_nwb(blind, tmp_path / "blind.nwb").missing)


def test_regular_steps_have_a_rate_and_places_of_two_numbers_two_columns(tmp_path: Path, nap: Nap) -> None:
    places = [json.dumps([t, 2 * t]) if t % 4 else None for t in range(20)]
    run = made_up(tmp_path / "run", steps=[step(t + 3, place=place) for t, place in enumerate(places)])
    found = nap.load_file(str(export_nwb(run, tmp_path / "out.nwb", dt=0.5).path))
    assert found["position"].t.tolist() == [(t + 3) * 0.5 for t in range(20)]
    assert found["position"].columns.tolist() == ["x", "y"]
    wanted = np.array([[t, 2 * t] if t % 4 else [np.nan, np.nan] for t in range(20)])
    np.testing.assert_array_equal(found["position"].d[:], wanted)
    mixed = made_up(tmp_path / "mixed", steps=[step(0, place=3), step(1, place="[1, 2]"), step(2, place="[1")])
    assert "position" in " ".join(export_nwb(mixed, tmp_path / "mixed.nwb").missing)


# What can go wrong


def test_mistakes_are_one_line(runs: dict[str, Path], tmp_path: Path, mistake: Callable[..., str]) -> None:
    run, out = str(runs["chain"]), tmp_path / "out.nwb"
    assert "nothing to write" in mistake("export", run)
    assert "must end with .nwb" in mistake("export", run, "--nwb", str(tmp_path / "out.h5"))
    assert "dt = 0.0: must be more than 0" in mistake("export", run, "--nwb", str(out), "--dt", "0")
    assert "stream = 2: must be between 0 and 1" in mistake("export", run, "--nwb", str(out), "--stream", "2")
    assert "there is no folder" in mistake("export", run, "--nwb", str(tmp_path / "none" / "out.nwb"))
    assert "no run folder" in mistake("export", str(tmp_path / "none"), "--nwb", str(out))
    out.write_text("mine")
    assert "--overwrite to replace it" in mistake("export", run, "--nwb", str(out))
    assert out.read_text() == "mine"
    unrecorded = made_up(tmp_path / "run", record_streams=0)
    assert "no stream is recorded" in mistake("export", str(unrecorded), "--nwb", str(tmp_path / "a.nwb"))
    empty = made_up(tmp_path / "empty")
    assert "nothing is recorded of stream 0 yet" in mistake("export", str(empty), "--nwb", str(tmp_path / "a.nwb"))
    (empty / "run.sqlite").write_bytes(b"no database" * 100)
    assert "run.sqlite': cannot be read" in mistake("export", str(empty), "--nwb", str(tmp_path / "a.nwb"))
    (empty / "run.sqlite").unlink()
    assert "run.sqlite': cannot be read" in mistake("export", str(empty), "--nwb", str(tmp_path / "a.nwb"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out.nwb", "run"]


def test_hidden_states_that_are_not_those_of_the_steps(runs: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs["chain"], run)
    with sqlite3.connect(run / "run.sqlite") as connection:
        connection.execute("DELETE FROM hidden WHERE id = (SELECT id FROM hidden WHERE stream = 0 LIMIT 1 OFFSET 3)")
    connection.close()
    with pytest.raises(RunFolderError, match="the table is damaged"):
        export_nwb(run, tmp_path / "out.nwb")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_missing_extra_is_named(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sabsim.analysis.export import exports

    monkeypatch.setattr(exports, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'sabsim\[nwb\]'"):
        export_nwb(runs["chain"], tmp_path / "out.nwb")


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file sizes")
def test_a_disk_that_fills_up_leaves_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    """400 blocks of 512 bytes are enough for the scratch database, but not for the file of HDF5."""
    command = f"{sys.executable} -m sabsim export {runs['track']} --nwb {tmp_path / 'out.nwb'}"
    done = subprocess.run(["sh", "-c", f"ulimit -f 400; exec {command}"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "free space" in done.stderr
    assert not list(tmp_path.iterdir())


def test_no_room_for_the_scratch_database(
    runs: dict[str, Path], tmp_path: Path, mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = sqlite3.connect

    def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = original(*arguments, **options)
        connection.execute("PRAGMA max_page_count = 5")
        return connection

    monkeypatch.setattr(snapshot.sqlite3, "connect", small)
    assert "database or disk is full; free space" in mistake("export", str(runs["chain"]), "--nwb", str(tmp_path / "a.nwb"))
    assert not list(tmp_path.iterdir())


def test_a_file_that_keeps_what_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written and read, in any order, it is as in a file in memory; from the 20th write on the disk is full."""
    rng = np.random.default_rng(0)
    written, original = 0, patient.os.pwrite

    def full(handle: int, data: Any, at: int) -> int:
        nonlocal written
        written += 1
        if written > 20:
            raise OSError(28, "No space left on device")
        return original(handle, bytes(data)[: max(1, len(data) // 2)], at)  # a disk may take less than it is given

    monkeypatch.setattr(patient.os, "pwrite", full)
    with closing(patient.PatientFile(tmp_path / "file")) as mine:
        other = io.BytesIO()
        for _ in range(60):
            at, data = int(rng.integers(100)), rng.bytes(int(rng.integers(1, 30)))
            for file in (mine, other):
                file.seek(at)
                assert file.write(data) == len(data)
            at, size = int(rng.integers(100)), int(rng.integers(60))
            assert mine.seek(at) == other.seek(at) == mine.tell()
            assert mine.read(size) == other.read(size)
        assert mine.error is not None
        assert mine.error.errno == 28
        assert mine.seek(0, 2) == other.seek(0, 2)
        assert mine.truncate(7) == other.truncate(7)
        mine.seek(0)
        assert mine.read() == other.getvalue()


def test_no_long_stretch_is_ever_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    original = columns.Rows._get_data

    def counted(self: Any, selection: Any) -> Any:
        found = original(self, selection)
        taken.append(len(found))
        return found

    monkeypatch.setattr(columns.Rows, "_get_data", counted)
    export_nwb(made_up(tmp_path / "run", steps=[step(t) for t in range(10_000)]), tmp_path / "out.nwb")
    assert max(taken) == 4096
    assert sum(taken) >= 5 * 10_000


def test_torch_is_not_loaded() -> None:
    """It would take most of the memory that an export needs."""
    code = "import sys, sabsim.cli.export, sabsim.analysis.export.nwb; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
