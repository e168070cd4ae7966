"""`sabsim bench`: the quick bench from end to end, its help, and one line for a mistake."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from sabsim.bench import ROWS, Row, RowResult, Settings
from sabsim.bench.plots import file_names
from sabsim.cli import bench, main


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a quick bench of every row, and what it printed."""
    out, text = tmp_path_factory.mktemp("bench") / "out", io.StringIO()
    with redirect_stdout(text):
        assert main(["bench", "--quick", "--seed", "3", "--out", str(out)]) == 0
    return out, text.getvalue()


def test_every_row_is_measured(quick: tuple[Path, str]) -> None:
    out, shown = quick
    data = json.loads((out / "bench.json").read_text())
    assert data["finished"]
    assert [row["name"] for row in data["rows"]] == list(ROWS)
    for row in data["rows"]:
        assert row["cases"]
        for case in row["cases"]:
            assert case["measurements"], (row["name"], case)
            for one in case["measurements"]:
                assert len(one["seconds"]) >= 3
    assert data["settings"]["seed"] == 3
    assert data["settings"]["threads"] == 1
    assert {"git", "torch", "cpu", "date"} <= set(data["made_by"])
    for row in ROWS.values():
        assert f"{row.name}: {row.title}" in shown


def test_the_torch_backend_misses_no_part(quick: tuple[Path, str]) -> None:
    data = json.loads((quick[0] / "bench.json").read_text())
    assert not [case["cannot_run"] for row in data["rows"] for case in row["cases"] if case["cannot_run"]]
    names = {one["name"] for row in data["rows"] for case in row["cases"] for one in case["measurements"]}
    for name in (
        "segment replay (torch)",
        "replay as tied nn.LSTM",
        "SAB, every replay (torch)",
        "Adam on the flat vector (torch)",
        "recall, one step (torch)",
        "all keys anew (torch)",
        "literal SAB, autograd",
        "sabsim.reference (oracle)",
        "SAB actor-critic (torch)",
    ):
        assert name in names


def test_the_report_and_the_plots(quick: tuple[Path, str]) -> None:
    out, shown = quick
    text = (out / "bench.md").read_text()
    assert "**Quick: tiny sizes" in text
    assert "grows as length^" in text
    for row in ROWS.values():
        assert f"## {row.name}: {row.title}" in text
    drawn = {path.name for path in out.iterdir()} - {"bench.md", "bench.json"}
    assert drawn == {name for name in file_names() if not name.startswith("memory_T")}
    for name in drawn:
        if name.endswith(".png"):
            assert f"]({name})" in text
    assert str(out / "bench.md") in shown


def test_rows_can_be_chosen_and_an_earlier_bench_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "cost_T.png").write_text("of an earlier bench")
    (out / "notes.txt").write_text("mine")
    assert main(["bench", "--quick", "--only", "optimizer", "gemm", "optimizer", "--repeats", "1", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"bench.md", "bench.json", "notes.txt"}
    data = json.loads((out / "bench.json").read_text())
    assert [row["name"] for row in data["rows"]] == ["gemm", "optimizer"]
    assert data["settings"]["rounds"] == 1
    capsys.readouterr()


def test_help_explains_every_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["bench", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for row in ROWS.values():
        assert f"{row.name}: {row.purpose}" in shown
    for option in ("--quick", "--device", "--only", "--out", "--repeats", "--seed"):
        assert option in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--only cel", "row = 'cel': must be one of gemm, cell, window"),
        ("--only cel", "(did you mean cell?)"),
        ("--repeats 0", "repeats = 0: must be at least 1"),
        ("--repeats many", "--repeats: 'many' is not"),
        ("--seed -1", "seed = -1: must be at least 0"),
        ("--device tpus", "device = 'tpus': must be cpu, cuda or auto"),
        ("--fast", "unknown option --fast"),
        ("--out file/in", "out = 'file/in': cannot be written (Not a directory); give another --out"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["bench", "--quick", *arguments.split()]) == 2
    said = capsys.readouterr().err
    assert said.startswith("sabsim: ")
    assert words in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_was_measured_before_an_interrupt_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = bench.measure_row

    def interrupted(row: Row, settings: Settings, watcher: bench.RowProgress) -> RowResult:
        if row.name == "optimizer":
            raise KeyboardInterrupt
        return measure(row, settings, watcher)

    monkeypatch.setattr(bench, "measure_row", interrupted)
    assert main(["bench", "--quick", "--only", "gemm", "optimizer", "--out", str(tmp_path / "out")]) == 130
    assert "stopped; 1 of 2 rows are in" in capsys.readouterr().err
    data = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert not data["finished"]
    assert [row["name"] for row in data["rows"]] == ["gemm"]
