"""Scripts of `benchmarks/` that make figures of runs, and keep them."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sabsim.cli import main


def script(name: str) -> ModuleType:
    """One of `benchmarks/`, as a module."""
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["run#1", "run?x", "a%20b"])
def test_runs_of_any_name_are_collected(name: str, tmp_path: Path) -> None:
    sizes = ["--hidden", "4", "--slots", "4", "--k-top", "2", "--streams", "2", "--budget", "4", "--eval-sequences", "4"]
    assert main(["run", "copying", "--T", "1", *sizes, "--quiet", "--out", str(tmp_path / name)]) == 0
    script("collect").collect(tmp_path / name, tmp_path / "kept")
    assert {path.name for path in tmp_path.iterdir()} == {name, "kept"}
    with (tmp_path / "kept" / f"{name}.csv").open() as file:
        assert [row["split"] for row in csv.DictReader(file)][-1] == "final"


def test_laps_of_a_session_that_was_cut_off_are_those_it_was_paid_for() -> None:
    laps = script("agents").laps_per_1000
    assert laps(90.0, 540.0) == pytest.approx(1_000 * 60 / 540)
    assert laps(1.5, 20_000.0) == pytest.approx(1_000 * 1 / 20_000)
