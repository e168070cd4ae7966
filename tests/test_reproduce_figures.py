"""A table's rows: figures over seeds, the verdict beside the paper's, what is kept from call to call."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sabsim.cli import main
from sabsim.errors import ConfigError, RunFolderError
from sabsim.intervals import over_seeds
from sabsim.reproduce import (
    PAPER,
    TABLES,
    Figures,
    Published,
    as_markdown,
    figures_of,
    finished_runs,
    merge,
    stored_rows,
    tables,
    with_origin,
    write_table,
)
from sabsim.reproduce.paper import SOURCES
from sabsim.reproduce.verdict import verdict
from sabsim.runs.folder import RunFolder, write_json


def summary(accuracy: float, sequences: int, *, stopped: bool, git: str = "a" * 40, day: int = 1) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "sequences": sequences,
        "seconds": 10.0 * accuracy,
        "stopped_early": stopped,
        "macrostate_bytes": 4_000,
        "sabsim": "0.1.0",
        "git": git,
        "torch": "2.13.0",
        "device": "cpu",
        "machine": "a processor",
        "config": {"learner": {"hidden": 128}},
        "date": f"2026-11-{day:02d}T00:00:00+00:00",
    }


def rows(*names: str, accuracy: float = 0.99, seeds: int = 3, command: str = "sabsim reproduce table1") -> list[Figures]:
    runs = {
        f"table1/{name}/seed {seed}": summary(accuracy + seed / 1000, 8_000, stopped=True)
        for name in names
        for seed in range(seeds)
    }
    return figures_of("table1", runs, {}, command=command)


# What the paper reports


def test_what_the_paper_reports() -> None:
    known = {table: {row: figure.value for row, figure in figures.items()} for table, figures in PAPER.items()}
    assert known == {
        "table1": {"LSTM, TBPTT (5)": 0.31, "SAB (5, 5)": 0.996, "SAB (10, 10)": 1.0},
        "table2": {"SAB (5, 5)": 0.993, "SAB (10, 10)": 0.987},
        "table3": {"SAB (5, 5)": 0.989, "SAB (10, 10)": 0.989},
        "table4": {"SAB (5, 5)": 0.0001, "SAB (10, 10)": 0.0001},
        "table5": {"SAB (5, 5)": 0.00014, "SAB (10, 10)": 0.00014},
        "table6": dict.fromkeys(("SAB (20, 5, 10)", "SAB (20, 5, 5)", "SAB (20, 5, 5), feeds h_hat"), 1.40),
        "table7": dict.fromkeys(("SAB (20, 5, 10)", "SAB (20, 5, 5)", "SAB (20, 5, 5), feeds h_hat"), 1.53),
        "table7-full": dict.fromkeys(
            ("SAB (20, 5, 5), feeds h_hat, 32 streams", "SAB (20, 5, 5), feeds h_hat, n = 512, 16 streams"), 1.53
        ),
        "table8": {"SAB (14, 5, 14)": 0.911, "SAB (14, 10, 14)": 0.911},
        "table8-permuted": {"SAB (14, 5, 14)": 0.942, "SAB (14, 10, 14)": 0.942},
        "table8-permuted-full": {"SAB (56, 14, 56)": 0.942, "SAB (56, 14, 56), recurrent dropout": 0.942},
        "transfer": {"SAB, T = 200": 0.95, "SAB, T = 400": 0.75, "SAB, T = 2000": 0.47, "SAB, T = 5000": 0.41}
        | {f"RelLSTM, T = {T}": 0.99 for T in (200, 400, 2000, 5000)},
    }


def test_every_published_figure_has_its_row_its_source_and_all_its_digits() -> None:
    for table, figures in PAPER.items():
        for row, figure in figures.items():
            assert figure.source in SOURCES
            assert float(str(figure)) == figure.value, (table, row)
            if table in TABLES and not TABLES[table].lengths:  # those have figures by T
                assert TABLES[table].row(row).name == row


# Figures over seeds


def test_figures_are_means_over_seeds_with_failures_told() -> None:
    found = figures_of(
        "table1",
        {
            "table1/SAB (5, 5)/seed 0": summary(0.99, 4_000, stopped=True),
            "table1/SAB (5, 5)/seed 1": summary(1.0, 8_000, stopped=True),
            "table1/SAB (5, 5)/seed 2": summary(0.95, 9_000, stopped=False),
            "table1/LSTM, BPTT/seed 1": summary(0.25, 8_000, stopped=False),
        },
        {"table1/SAB (5, 5), paper/seed 0": "loss is not finite at step 40"},
    )
    assert [item.row for item in found] == ["LSTM, BPTT", "SAB (5, 5)", "SAB (5, 5), paper"]
    lstm, sab, paper = found
    assert sab.mean == pytest.approx(0.98)
    # Student's t with 2 degrees of freedom: 4.303 times the standard error; no accuracy is greater than 1.
    half = 4.302653 * 0.0264575 / 3**0.5
    assert (sab.low, sab.high) == (pytest.approx(0.98 - half, abs=1e-5), 1.0)
    assert (sab.sequences, sab.solved, sab.memory, sab.stop_at) == (8_000, 2, 4_000, 0.99)
    assert (lstm.low, lstm.high, lstm.solved, lstm.stop_at) == (None, None, None, None)
    assert (paper.mean, paper.failures) == (None, {0: "loss is not finite at step 40"})
    text = as_markdown("table1", found, quick=True)
    assert "quick: scaled down, says nothing about the paper" in text
    assert "| SAB (5, 5) | 0.996 | 0.9800 |" in text
    assert "equal" not in text
    assert "| equal (stops at 0.99) |" in as_markdown("table1", found, quick=False)
    assert "- SAB (5, 5), paper, seed 0: loss is not finite at step 40" in text


def test_an_interval_is_cut_at_what_the_score_can_be() -> None:
    half = 12.7062 * 0.1
    assert over_seeds([0.5, 0.7], TABLES["table1"].task.bounds) == (0.0, 1.0)
    assert over_seeds([0.5, 0.7], TABLES["table4"].task.bounds) == (0.0, pytest.approx(0.6 + half, abs=1e-4))
    assert over_seeds([3.5, 3.7], TABLES["table6"].task.bounds) == pytest.approx((3.6 - half, 3.6 + half), abs=1e-4)
    assert over_seeds([0.7, 0.7], TABLES["table1"].task.bounds) == (0.7, 0.7)
    assert over_seeds([0.7], TABLES["table1"].task.bounds) == (None, None)


def test_seeds_made_alike_are_told_together() -> None:
    runs = {
        "table1/SAB (5, 5)/seed 0": summary(0.99, 4_000, stopped=True, day=3),
        "table1/SAB (5, 5)/seed 1": summary(0.99, 4_000, stopped=True, day=1),
        "table1/SAB (5, 5)/seed 12": summary(0.99, 4_000, stopped=True, git="b" * 40),
    }
    (row,) = figures_of("table1", runs, {})
    assert list(row.scores) == [0, 1, 12]
    first, second = row.made_by
    assert (first.seeds, first.dates) == ((0, 1), ("2026-11-01T00:00:00+00:00", "2026-11-03T00:00:00+00:00"))
    assert (second.seeds, second.git) == ((12,), "b" * 40)
    text = as_markdown("table1", [row], quick=False)
    assert "- sabsim 0.1.0 at aaaaaaa, torch 2.13.0, a processor, 2026-11-01 to 2026-11-03: SAB (5, 5) (seed 0, 1)" in text


# The verdict


@pytest.mark.parametrize(
    ("table", "low", "mean", "high", "paper", "digits", "words"),
    [
        ("table1", 0.98, 0.99, 1.0, 0.996, 3, "equal"),
        ("table1", 0.91, 0.92, 0.93, 0.996, 3, "worse"),
        ("table1", 0.998, 0.999, 1.0, 0.996, 3, "better"),
        ("table1", 0.9966, 0.998, 0.999, 0.996, 3, "better"),
        ("table1", 0.9964, 0.998, 0.999, 0.996, 3, "equal"),  # it was printed as 0.996 from 0.9955 to 0.9965
        ("table4", 0.0002, 0.0003, 0.0004, 0.0001, 4, "worse"),  # the smaller, the better
        ("table4", 0.00001, 0.00002, 0.00003, 0.0001, 4, "better"),
        ("table4", 0.00006, 0.00008, 0.0001, 0.0001, 4, "equal"),
        ("table4", -0.0001, 0.00007, 0.0002, 0.0001, 4, "seeds differ too much"),
        ("table8", 0.39, 0.68, 0.96, 0.911, 3, "seeds differ too much"),
        ("table8", 0.83, 0.88, 0.93, 0.911, 3, "equal"),
        ("table1", 0.826, 0.95, 1.0, 0.996, 3, "seeds differ too much"),  # cut at 1, it reaches far on the other side
        ("table6", 1.5, 1.6, 1.7, 1.4, 2, "worse"),
        ("table6", 1.2, 1.3, 1.35, 1.4, 2, "better"),
    ],
)
def test_the_verdict(table: str, low: float, mean: float, high: float, paper: float, digits: int, words: str) -> None:
    (row,) = rows("SAB (5, 5)")
    item = replace(row, low=low, mean=mean, high=high, stop_at=None, solved=None)
    figure = Published(value=paper, digits=digits, source="Ke")
    assert verdict(table, item, figure) == words
    assert verdict(table, replace(item, stop_at=0.99, solved=2), figure) == f"{words} (stops at 0.99)"
    assert verdict(table, replace(item, stop_at=0.99, solved=0), figure) == words


def test_a_row_that_cannot_be_compared_says_why() -> None:
    (row,) = rows("SAB (5, 5)")
    (one,) = rows("SAB (5, 5)", seeds=1)
    (failed,) = figures_of("table1", {}, {"table1/SAB (5, 5)/seed 0": "not finite"})
    figure = Published(value=0.996, digits=3, source="Ke")
    assert verdict("table1", row, None) == "no figure at hand"
    assert verdict("table1", one, figure) == "one seed: not judged"
    assert verdict("table1", failed, figure) == "failed"
    assert verdict("table1", replace(row, mean=float("nan")), figure) == "failed"
    some = replace(row, failures={7: "not finite", 8: "not finite"})
    count = len(row.scores)
    assert verdict("table1", some, figure) == f"{verdict('table1', row, figure)}; 2 of {count + 2} seeds failed"


# What is kept from call to call


def test_a_row_is_replaced_only_by_the_same_row(tmp_path: Path) -> None:
    write_table("table1", rows("SAB (5, 5)", "LSTM, BPTT", accuracy=0.5, command="the first"), tmp_path, quick=False)
    earlier = stored_rows("table1", tmp_path, quick=False)
    assert earlier == rows("SAB (5, 5)", "LSTM, BPTT", accuracy=0.5, command="the first")
    new = rows("SAB (5, 5)", "no replay", accuracy=0.9, command="the second")
    left = rows("LSTM, BPTT", "SAB (10, 10)", accuracy=0.7)
    merged = merge("table1", earlier, new, left)
    assert [(item.row, item.scores[0]) for item in merged] == [
        ("LSTM, BPTT", 0.5),
        ("no replay", 0.9),
        ("SAB (5, 5)", 0.9),
        ("SAB (10, 10)", 0.7),
    ]
    assert [item.command for item in merged][:3] == ["the first", "the second", "the second"]


def test_a_row_that_is_not_finished_replaces_none_that_is() -> None:
    """Time was up before as many seeds were done as the file holds."""
    (sab,), (one,) = rows("SAB (5, 5)", accuracy=0.5), rows("SAB (5, 5)", accuracy=0.9, seeds=1)
    time_up = {1: "time is up at 900 steps"}
    begun, most = replace(one, unfinished=time_up), replace(sab, unfinished={9: "time is up at 900 steps"})
    assert merge("table1", [sab], [begun]) == [sab]
    assert merge("table1", [begun], [most]) == [most]
    assert merge("table1", [sab], [one]) == [one]


def test_a_seed_that_is_not_finished_has_not_failed(tmp_path: Path) -> None:
    paused = {"table1/SAB (5, 5)/seed 1": "time is up at 900 steps"}
    runs = {"table1/SAB (5, 5)/seed 0": summary(0.99, 4_000, stopped=True)}
    (none,) = figures_of("table1", {}, {}, unfinished=paused)
    (some,) = figures_of("table1", runs, {"table1/SAB (5, 5)/seed 2": "not finite"}, unfinished=paused)
    (lost,) = figures_of("table1", {}, {"table1/SAB (5, 5)/seed 2": "not finite"}, unfinished=paused)
    figure = Published(value=0.996, digits=3, source="Ke")
    assert verdict("table1", none, figure) == "not finished"
    assert verdict("table1", lost, figure) == "failed"
    lacking = "; 1 of 3 seeds failed; 1 of 3 seeds not finished"
    assert verdict("table1", some, figure) == "one seed: not judged" + lacking
    text = as_markdown("table1", [none], quick=False)
    assert "| SAB (5, 5) | 0.996 | not finished |" in text
    assert "Failed" not in text
    assert "Not finished:\n\n- SAB (5, 5), seed 1: time is up at 900 steps" in text
    write_table("table1", [some], tmp_path, quick=False)
    assert stored_rows("table1", tmp_path, quick=False) == [some]


def test_a_row_of_another_revision_is_kept_at_the_end() -> None:
    (sab,) = rows("SAB (5, 5)")
    foreign = replace(sab, row="a row of tomorrow")
    assert [item.row for item in merge("table1", [foreign], [sab])] == ["SAB (5, 5)", "a row of tomorrow"]


@pytest.mark.parametrize("quick", [False, True])
def test_quick_and_full_are_never_merged(tmp_path: Path, quick: bool) -> None:
    write_table("table1", rows("SAB (5, 5)"), tmp_path, quick=quick)
    with pytest.raises(ConfigError, match=rf"table1.json is of a {'quick' if quick else 'full'} sweep"):
        stored_rows("table1", tmp_path, quick=not quick)


def test_the_command_tells_so_before_it_runs_anything(tmp_path: Path, mistake: Callable[..., str]) -> None:
    write_table("table1", rows("SAB (5, 5)"), tmp_path, quick=False)
    arguments = ["reproduce", "table1", "--quick", "--out", str(tmp_path / "runs"), "--results", str(tmp_path)]
    assert "of a full sweep and this one is quick; give another" in mistake(*arguments)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "is not a JSON object"),
        ('{"quick": false, "rows": []}', "format = None: must be 2"),
        ('{"format": 2, "quick": false, "rows": [{"row": "SAB (5, 5)"}]}', "its rows cannot be read"),
        ('{"format": 2, "quick": false}', "its rows cannot be read"),
    ],
)
def test_a_damaged_file_of_results_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "table1.json").write_text(text)
    with pytest.raises(RunFolderError, match=words):
        stored_rows("table1", tmp_path, quick=False)


def test_finished_runs_of_other_calls_are_found(tmp_path: Path) -> None:
    """Those with the row's own options; a run at work, one with other options and a strange folder are left out."""
    table = TABLES["table1"]
    row = table.row("SAB (5, 5)")

    def leave(seed: str, *, finished: bool, **options: Any) -> None:
        folder = RunFolder(tmp_path / "table1" / row.folder / seed)
        folder.path.mkdir(parents=True)
        wanted = tables.config(table, row, int(seed), quick=False).resolved()  # as a run stores it
        learner = replace(wanted.learner, **options)
        machine = replace(wanted.run, budget=77, backend="native", threads=4)
        folder.write_config(replace(wanted, learner=learner, run=machine))
        if finished:
            write_json(folder.summary, summary(0.99, 77, stopped=True))

    leave("0", finished=True)
    leave("1", finished=False)
    leave("2", finished=True, hidden=7)
    (tmp_path / "table1" / row.folder / "3 old").mkdir()
    found = finished_runs("table1", tmp_path, quick=False)
    assert list(found) == ["table1/SAB (5, 5)/seed 0"]
    assert finished_runs("table1", tmp_path, quick=True) == {}
    (item,) = figures_of("table1", found, {})
    assert (item.sequences, item.command) == (77, None)
    described = RunFolder(tmp_path / "table1" / row.folder / "0").description()
    assert item.made_by[0].machine == described.pop("made_by")["cpu"]
    assert item.config == described
    assert item.config["learner"]["hidden"] == 128


def test_the_machine_is_the_processor_and_the_gpu_that_was_used(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"made_by": {"cpu": "a processor", "gpu": "a card"}, "task": "copying"})
    found = with_origin({"device": "cpu"}, tmp_path)
    assert found == {"device": "cpu", "machine": "a processor", "config": {"task": "copying"}}
    assert with_origin({"device": "cuda"}, tmp_path)["machine"] == "a processor + a card"


def test_the_page_of_results_is_up_to_date(tmp_path: Path) -> None:
    """`sabsim reproduce --render docs/results.md` has been called after the last change of results/tables."""
    root = Path(__file__).parents[1]
    page = tmp_path / "results.md"
    page.write_text((root / "docs" / "results.md").read_text())
    assert main(["reproduce", "--render", str(page), "--results", str(root / "results" / "tables")]) == 0
    assert page.read_text() == (root / "docs" / "results.md").read_text()
    shown = [name for name in TABLES if not name.endswith("-full") or (root / f"results/tables/{name}.json").exists()]
    for table in shown:
        assert f"\n<!-- {table} -->\n" in page.read_text()


def test_the_files_beside_the_json_are_up_to_date(tmp_path: Path) -> None:
    results = Path(__file__).parents[1] / "results" / "tables"
    for path in results.glob("table*.json"):
        assert json.loads(path.read_text())["table"] == path.stem
        write_table(path.stem, stored_rows(path.stem, results, quick=False), tmp_path, quick=False)
        for kind in ("json", "csv", "md"):
            assert (tmp_path / f"{path.stem}.{kind}").read_bytes() == (results / f"{path.stem}.{kind}").read_bytes()
