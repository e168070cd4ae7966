"""Run folders read back, and what the figures show of them."""

from __future__ import annotations

import ast
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sabsim.analysis import learning_curves, read_run, recall_map, save
from sabsim.analysis.figures import _spread
from sabsim.analysis.folders import Curve, Run
from sabsim.analysis.recall_phases import _climb, causal_steps, recall_phases
from sabsim.analysis.style import PALETTE

from sabsim.errors import ConfigError, RunFolderError, StorageError
from sabsim.runs import RunDatabase
from sabsim.tasks import Copying

TASK = Copying(T=5)
LENGTH = TASK.length
OUTPUT = LENGTH - 10
STREAMS, EPISODES, OFFSET = 4, 40, 3
"""Of the made-up run; its recorded stream begins a few steps late."""


def make_run(path: Path, *, climbs: bool = True, recorded: bool = True) -> Path:
    """A run folder: from chance to 99 % at half time; output i recalls step 0 at first, step i with weight 0.8 later."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"format": 4, "task": "copying", "task_options": {"T": 5}}))
    (path / "summary.json").write_text(json.dumps({"accuracy": 0.99, "baselines": TASK.baselines()}))
    database = RunDatabase(path / "run.sqlite")
    for episode in range(0, EPISODES + 1, 4):
        metric = 0.9 if climbs and episode >= EPISODES / 2 else 0.125
        row = (episode * STREAMS, episode * LENGTH, "held-out", 10, 0.1, metric, None, episode, None)
        database.insert("metrics", [row])
    final = (EPISODES * STREAMS, EPISODES * LENGTH, "final", 1000, 0.1, 0.99 if climbs else 0.125, None, 9, None)
    database.insert("metrics", [final])
    for episode in range(EPISODES) if recorded else ():
        first = OFFSET + episode * LENGTH
        database.insert("episodes", [(0, episode, first, first + LENGTH - 1, 0.1, 0.5)])
        if episode % 2 == 0:
            steps = range(first, first + LENGTH)
            rows = [(step, 0, episode, step - first, 0.1, int(step - first >= OUTPUT), None) for step in steps]
            database.insert("steps", rows)
            database.insert("events", [_reminding(first, episode, i) for i in range(10)])
    replay = ("replay", OFFSET + OUTPUT, 0, 0, OFFSET, OUTPUT, 0.5, 1.0, 0.1, None, None, 5, OFFSET + OUTPUT)
    database.insert("events", [replay])
    database.commit()
    database.close()
    return path


def _reminding(first: int, episode: int, i: int) -> tuple[object, ...]:
    source, weight = (0, 0.25) if episode < EPISODES / 2 else (i, 0.8)
    lag = OUTPUT + i - source
    return ("reminding", first + OUTPUT + i, 0, episode, first + source, lag, weight, None, 0.1, None, None, None, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def texts(figure: Figure) -> str:
    """All words of a figure."""
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    words += [axes.get_title(loc="left") for axes in figure.axes]
    return "\n".join(words)


# Run folders


def test_the_curve_ends_with_the_final_evaluation(folder: Path) -> None:
    curve = read_run(folder).curve()
    assert curve.sequences.tolist() == [episode * STREAMS for episode in range(0, EPISODES + 1, 4)]
    assert curve.metric[[0, 5, -1]].tolist() == [0.125, 0.9, 0.99]
    assert curve.at(2 * STREAMS) == 0.125


def test_remindings_are_placed_in_their_sequences(folder: Path) -> None:
    run = read_run(folder)
    episodes = run.episodes()
    assert episodes.episode.tolist() == list(range(0, EPISODES, 2))
    assert np.allclose(episodes.sequences, (OFFSET / LENGTH + episodes.episode) * STREAMS)
    seen = run.remindings(episodes.part(len(episodes) - 2, 2))
    assert seen.position.tolist() == [*range(OUTPUT, LENGTH)] * 2
    assert seen.recalled.tolist() == [*range(10)] * 2
    assert set(seen.weight) == {0.8}
    assert not len(run.remindings(episodes.part(0, 0)).weight)
    assert run.scored_positions().tolist() == [*range(OUTPUT, LENGTH)]
    assert run.length() == LENGTH


def test_reading_changes_nothing_and_sees_an_unfinished_run(folder: Path) -> None:
    (folder / "summary.json").unlink()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    run = read_run(folder)
    run.episodes()
    assert (run.summary, run.baselines) == ({}, {})
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_damaged_folders_are_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run folder"):
        read_run(tmp_path / "nowhere")
    (folder / "config.json").write_text('{"format": 99}')
    with pytest.raises(RunFolderError, match="format 99, but 4 is"):
        read_run(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(RunFolderError, match="is not a JSON object"):
        read_run(folder)
    (folder / "config.json").write_text('{"format": 4}')
    (folder / "run.sqlite").write_text("no database, but long enough to be taken for one" * 40)
    with pytest.raises(RunFolderError, match=r"run\.sqlite': cannot be read"):
        read_run(folder).curve()


def test_a_run_without_evaluations_or_recorded_sequences(folder: Path, tmp_path: Path) -> None:
    with sqlite3.connect(folder / "run.sqlite") as connection:
        connection.execute("DELETE FROM metrics")
    connection.close()
    with pytest.raises(RunFolderError, match="no held-out evaluation yet"):
        learning_curves({"run": read_run(folder)}, title="")
    bare = read_run(make_run(tmp_path / "bare", recorded=False))
    with pytest.raises(RunFolderError, match="no recorded sequences; run it with --record-streams"):
        recall_map(bare, title="")
    with pytest.raises(RunFolderError, match="no sequence is recorded"):
        bare.length()


def imported(path: Path) -> set[str]:
    """Modules that a file imports; those of its own folder by a leading dot, those above it by two."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


def test_analysis_knows_only_run_folders() -> None:
    """It takes from sabsim what knows nothing of sabsim: how errors are called, how an interval is computed."""
    root = Path(__file__).resolve().parents[1]
    shared = {"sabsim.errors", "sabsim.intervals"}
    for path in (root / "analysis").glob("*.py"):
        ours = {name for name in imported(path) if name.startswith(("sabsim", ".."))}
        assert ours <= shared, path
    for name in shared:
        assert not {name for name in imported(root / f"{name.replace('.', '/')}.py") if name.startswith(("sabsim", "."))}


# Learning curves


def test_learning_curves_label_lines_and_levels(folder: Path, tmp_path: Path) -> None:
    runs = {"with": read_run(folder), "without": read_run(make_run(tmp_path / "flat", climbs=False))}
    figure = learning_curves(runs, title="What\nHow")
    (axes,) = figure.axes
    shown = texts(figure)
    for words in ("with\n99.0 %", "without\n12.5 %", "chance 12.5 %", "one digit remembered 21.2 %", "What", "How"):
        assert words in shown
    assert axes.get_legend() is None
    assert "sequences" in axes.get_xlabel()
    assert "(%)" in axes.get_ylabel()
    curves = [line for line in axes.get_lines() if len(line.get_xydata()) > 2]
    assert [to_hex(line.get_color()).upper() for line in curves] == list(PALETTE[:2])
    assert [line.get_ydata()[-1] for line in curves] == [99.0, 12.5]
    with pytest.raises(ConfigError, match="at least one"):
        learning_curves({}, title="")


def test_learning_curves_of_an_error_are_no_percentages(folder: Path) -> None:
    for name, value in (
        ("config.json", {"format": 4, "task": "charlm"}),
        ("summary.json", {"baselines": {"equal bpc": 2.0}}),
    ):
        (folder / name).write_text(json.dumps(value))
    figure = learning_curves({"text": read_run(folder)}, title="What")
    (axes,) = figure.axes
    assert axes.get_ylabel() == "held-out bits per character"
    assert axes.get_ylim() == (0, pytest.approx(2.1))
    assert "text\n0.99" in texts(figure)
    assert "equal 2" in texts(figure)
    assert "%" not in texts(figure)


@pytest.mark.parametrize("values", [[99, 12, 12.4], [0, 0, 0], [100, 100, 99], [50], [10, 20, 30, 40], [7, 100, 3, 5]])
def test_labels_do_not_overlap(values: list[float]) -> None:
    places = _spread(values, gap=12, least=4, most=97)
    assert np.all(np.diff(np.sort(places)) >= 12 - 1e-9)
    assert places.min() >= 4 - 1e-9
    assert places.max() <= 97 + 1e-9
    strict = [(i, j) for i in range(len(values)) for j in range(len(values)) if values[i] < values[j]]
    assert all(places[i] < places[j] for i, j in strict)


def test_labels_with_room_stay_at_their_values() -> None:
    assert _spread([50, 20, 80], gap=12).tolist() == [50, 20, 80]
    assert np.allclose(_spread([40, 42], gap=12), [35, 47])


# Recall map


def test_recall_map_shows_mean_weights_early_and_late(folder: Path) -> None:
    figure = recall_map(read_run(folder), title="What\nHow")
    above, below = figure.axes[:3], figure.axes[3:6]
    early, middle, late = (axes.images[0].get_array() for axes in above)
    assert early.shape == late.shape == (LENGTH, LENGTH)
    assert np.allclose(early[OUTPUT:, 0], 0.25)
    assert np.allclose([late[OUTPUT + i, i] for i in range(10)], 0.8)
    assert np.isclose(late.sum(), 8.0)
    assert np.isclose(early.sum(), 2.5)
    # The middle one lies astride the climb: one sequence of two recalls the right steps.
    assert np.isclose(middle[OUTPUT + 9, 9], 0.4)
    for axes in below:
        assert axes.images[0].get_array().shape == (10, 15)
        frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert [frame.get_xy() for frame in frames] == [(i - 0.5, OUTPUT + i - 0.5) for i in range(10)]
    assert len({axes.images[0].norm for axes in (*above, *below)}) == 1
    shown = texts(figure)
    for words in ("Early", "While accuracy climbs", "Late", "training sequences", "held-out accuracy 12 %", "framed"):
        assert words in shown


def test_phases_tell_how_much_falls_on_what_is_wanted(folder: Path) -> None:
    """At first every output recalls step 0, the first digit's, with 0.25; later each its own digit's, with 0.8."""
    run = read_run(folder)
    early, _, late = recall_phases(run)
    assert early.onto(causal_steps(run)) == (pytest.approx(0.025), pytest.approx(0.25))
    assert late.onto(causal_steps(run)) == (pytest.approx(0.8), pytest.approx(0.8))
    assert (early.recorded, early.accuracy) == (2, pytest.approx(0.125))
    assert late.accuracy >= 0.9


def test_recall_map_of_a_run_that_does_not_climb_nor_tell_its_causes(tmp_path: Path) -> None:
    path = make_run(tmp_path / "flat", climbs=False)
    (path / "config.json").write_text(json.dumps({"format": 4, "task": "denoise", "task_options": {"T": 5}}))
    figure = recall_map(read_run(path), title="What")
    assert "Midway" in texts(figure)
    assert "framed" not in texts(figure)
    assert not figure.axes[3].patches


def test_the_climb_is_half_way_up() -> None:
    sequences = np.arange(6)
    assert _climb(Curve(sequences, np.array([0.2, 0.0, 0.1, 0.6, 1.0, 0.9]))) == 3
    assert _climb(Curve(sequences, np.array([0.9, 0.5, 0.3, 0.2, 0.1, 0.0]))) is None
    assert _climb(Curve(sequences, np.full(6, 0.125))) is None


# Files


def test_figures_are_saved_as_png_and_svg(folder: Path, tmp_path: Path) -> None:
    run = read_run(folder)
    for name in ("one", "two"):
        paths = save(learning_curves({"with replay": run}, title="What"), tmp_path / name)
        assert paths == [tmp_path / f"{name}.png", tmp_path / f"{name}.svg"]
    save(recall_map(run, title="What"), tmp_path / "map")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert "with replay" in (tmp_path / "one.svg").read_text()
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    with pytest.raises(StorageError, match="No such file"):
        save(learning_curves({"with replay": run}, title="What"), tmp_path / "nowhere" / "one")


def test_agents_and_supervised_runs_share_no_axes(tmp_path: Path) -> None:
    agent = Run(tmp_path, {"kind": "agent"}, {})
    with pytest.raises(ConfigError, match="agents' runs and supervised ones share no axes"):
        learning_curves({"a": agent, "b": [Run(tmp_path, {"kind": "task"}, {})]}, title="")
