"""The bench on made-up times: statistics, timer, rows, report; and what is measured in a process of its own."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

import sabsim.bench.timing
import sabsim.graph
from sabsim import ConfigError
from sabsim.bench import Backends, Settings, measure_row
from sabsim.bench.case import (
    GEMM,
    Case,
    CaseResult,
    Measurement,
    Plan,
    Row,
    RowResult,
    Variant,
    conclude,
    difference,
    spread,
)
from sabsim.bench.fit import exponent
from sabsim.bench.isolated import ProcessDiedError, isolated, peak_mb
from sabsim.bench.plots import draw, file_names
from sabsim.bench.report import as_json, as_markdown, as_table, duration
from sabsim.bench.timing import Timer, as_graph, cpu_clock

CPU = torch.device("cpu")
SETTINGS = Settings(device=CPU, backends=Backends(("torch",), {"native": "no compiler here"}), quick=True)
MAKER = {"sabsim": "0.1.0", "git": "abc", "cpu": "a processor", "torch": "2.0", "date": "2026-01-01"}


class FakeClock:
    """Tells, instead of measuring, what each call takes: ``seconds`` by the call's name; keeps who was called."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.calls = seconds, list[tuple[str, int]]()

    def __call__(self, call: Callable[[], object], count: int) -> float:
        name = str(call())
        self.calls.append((name, count))
        return self.seconds[name] * count


def fake_case(*names: str, base: str = "a", units: float = 1.0, flops: float = 0.0) -> Case:
    variants = [Variant(name=name, call=lambda name=name: name, units=units, flops=flops) for name in names]
    return Case(parameters={"n": 1}, unit="step", base=base, variants=variants)


def measured(name: str, *seconds: float, flops: float = 0.0) -> Measurement:
    return Measurement(name=name, seconds=seconds, flops=flops)


# Statistics


def test_spread_is_median_and_quartiles() -> None:
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0)
    assert spread([7.0]) == (7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="no samples"):
        spread([])


def test_exponent_is_the_slope_in_logarithms() -> None:
    fit = exponent([(x, 3 * x**1.5) for x in (1.0, 10.0, 100.0)])
    assert fit.value == pytest.approx(1.5)
    assert fit.error == pytest.approx(0.0, abs=1e-9)
    # By hand: logs (0, 0), (1, 2), (2, 1): slope 1/2, residuals -1/2, 1, -1/2, so s.e. = sqrt(1.5 / 1 / 2).
    fit = exponent([(1.0, 1.0), (math.e, math.e**2), (math.e**2, math.e)])
    assert fit == pytest.approx((0.5, math.sqrt(0.75)))
    assert str(fit) == "(0.50 ± 0.87)"
    assert str(exponent([(1.0, 1.0), (2.0, 4.0)])) == "2.00"
    for points in ([(1.0, 1.0)], [(1.0, 1.0), (1.0, 2.0)], [(1.0, 1.0), (2.0, 0.0)]):
        with pytest.raises(ValueError, match="an exponent needs"):
            exponent(points)


def test_ratios_are_taken_round_by_round() -> None:
    case = fake_case("a", "b")
    a, b = conclude(case, {"a": [1.0, 10.0, 1.0], "b": [2.0, 20.0, 3.0]}).measurements
    assert a.ratios == [1, 1, 1]
    assert b.ratios == [2, 2, 3]
    assert b.ratio == (2, 2, 2.5)


def test_rates_and_shares_refer_to_the_matrix_products() -> None:
    case = fake_case(GEMM, "a", units=4, flops=8e9)
    roof, mine = conclude(case, {GEMM: [0.5], "a": [2.0]}).measurements
    assert (roof.gflops, roof.share) == (4.0, 1.0)
    assert (mine.gflops, mine.share) == (1.0, 0.25)


def test_without_a_base_or_products_there_are_no_ratios_and_rates() -> None:
    (one,) = conclude(fake_case("b", base="a"), {"b": [1.0]}).measurements
    assert (one.ratio, one.gflops, one.share) == (None, None, None)


def test_a_difference_is_taken_round_by_round() -> None:
    result = CaseResult(
        parameters={},
        unit="step",
        base="base",
        measurements=[
            measured("base", 1.0, 2.0),
            measured("whole", 3.0, 5.0),
            measured("rest", 2.0, 2.0),
            measured(GEMM, 0.5, 0.5, flops=1e9),
        ],
    )
    found = difference(result, "part", "whole", "rest", flops=1e9).find("part")
    assert found is not None
    assert found.seconds == [1.0, 3.0]
    assert found.ratios == [1.0, 1.5]
    assert found.gflops == pytest.approx(0.5)
    assert found.share == pytest.approx(0.25)
    assert difference(result, "part", "whole", "missing") is result


# The timer


def test_variants_take_turns_and_samples_are_long_enough() -> None:
    clock = FakeClock({"a": 0.001, "b": 0.01})
    result = Timer(clock, rounds=4, sample=0.01, budget=100, warm_up=1).compare(fake_case("a", "b", units=2))
    samples = clock.calls[6:]  # before: first call, warm-up and estimate of each
    assert samples == [("a", 10), ("b", 1), ("b", 1), ("a", 10)] * 2
    assert [one.time.median for one in result.measurements] == pytest.approx([0.0005, 0.005])
    assert [len(one.seconds) for one in result.measurements] == [4, 4]


def test_a_long_case_stops_after_three_rounds_and_warms_up_once() -> None:
    clock = FakeClock({"a": 7.0})
    result = Timer(clock, rounds=15, sample=0.01, budget=10, warm_up=3).compare(fake_case("a"))
    assert clock.calls == [("a", 1)] * 4
    assert len(result.measurements[0].seconds) == 3


def test_the_cpu_clock_counts_calls() -> None:
    seen: list[int] = []
    assert cpu_clock(lambda: seen.append(1), 5) >= 0
    assert len(seen) == 5


def test_what_can_be_is_captured_on_a_gpu_and_the_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, warmed, replayed = torch.device("cuda"), list[object](), list[str]()

    def capture(call: Callable[[], object], device: torch.device) -> tuple[Callable[[], None], object]:
        if call() == "b":
            try:
                raise RuntimeError("b waits\nfor the device")
            except RuntimeError:
                raise RuntimeError("the capture had failed")  # noqa: B904  as torch does
        return lambda: replayed.append("again"), None

    monkeypatch.setattr(sabsim.bench.timing, "warm_up", lambda call, device: warmed.append(call()))
    monkeypatch.setattr(sabsim.bench.timing, "capture", capture)
    a, b = (Variant(name=name, call=lambda name=name: name, units=1, graph=True, note="n") for name in "ab")
    other = Variant(name="c", call=lambda: "c", units=1)
    assert [as_graph(variant, CPU) for variant in (a, b, other)] == [a, b, other]
    assert as_graph(other, gpu) == other
    assert not warmed
    captured, refused = as_graph(a, gpu), as_graph(b, gpu)
    assert (captured.note, refused.note) == ("n; a CUDA graph", "n; not a CUDA graph: b waits")
    assert warmed == ["a", "b"]
    captured.call()
    assert replayed == ["again"]
    assert refused.call() == "b"


# Rows


def plan(label: str, error: Exception | None) -> Plan:
    def measure(timer: Timer) -> CaseResult:
        if error is not None:
            raise error
        return conclude(fake_case("a"), {"a": [1.0]})

    return Plan(label, measure)


def test_a_case_that_cannot_run_is_kept_with_its_reason() -> None:
    errors = (None, ConfigError("too many"), RuntimeError("CUDA out of memory"), MemoryError())
    row = Row(
        name="r",
        title="t",
        purpose="p",
        cases=lambda settings: [plan(str(number), error) for number, error in enumerate(errors)],
        conclude=lambda results: [f"{len(results)} measured"],
    )
    result = measure_row(row, SETTINGS)
    assert [list(case.refused.values()) for case in result.cases] == [
        [],
        ["too many"],
        ["there is not enough memory"],
        ["there is not enough memory"],
    ]
    assert result.findings == ["1 measured"]
    broken = Row(name="r", title="t", purpose="p", cases=lambda settings: [plan("0", RuntimeError("a bug"))])
    with pytest.raises(RuntimeError, match="a bug"):
        measure_row(broken, SETTINGS)


# Other processes


def test_a_process_of_its_own() -> None:
    assert isolated(sorted, [2, 1]) == [1, 2]
    with pytest.raises(ProcessDiedError, match="was killed"):
        isolated(os.abort)


def test_peak_memory_is_what_a_call_adds() -> None:
    assert 90 < peak_mb(lambda: torch.ones(25_000_000).sum(), CPU) < 300
    assert peak_mb(lambda: None, CPU) < 50


# The report


def fake_results() -> list[RowResult]:
    row = Row(name="cell", title="a title", purpose="a purpose", cases=lambda settings: [], headline={"rows": (20,)})
    cases = [
        CaseResult(
            parameters={"rows": rows, "n": 128, "k_trunc": 5},
            unit="row-step",
            base="nn.LSTM",
            measurements=[
                Measurement(name="nn.LSTM", seconds=[1e-6, 3e-6, 2e-6], ratios=[1.0, 1.0, 1.0], flops=2e3, share=0.5),
                Measurement(name="ours | torch", seconds=[4e-6] * 3, ratios=[4.0, 1.5, 2.0], memory_mb=12.34, note="why"),
            ],
            refused={"native": "no compiler"},
        )
        for rows in (1, 20)
    ]
    return [RowResult(row=row, cases=cases, findings=["What was found."], seconds=1.5)]


def test_markdown_has_every_figure() -> None:
    text = as_markdown(fake_results(), SETTINGS, MAKER, finished=True, figures={"a.png": "a caption"})
    assert "**Quick: tiny sizes" in text
    assert "Not finished" not in text
    assert "Backend native is not measured: no compiler here." in text
    assert "| cpu | a processor |" in text
    assert "### rows = 20, n = 128, k_trunc = 5" in text
    assert "| nn.LSTM (base) | 2.00 us | 1.50 us .. 2.50 us | 1.00 | 1.00 .. 1.00 | 1.0 | 0.50 |  |  |" in text
    assert "| ours \\| torch | 4.00 us | 4.00 us .. 4.00 us | 2.00 | 1.75 .. 3.00 |  |  | 12.3 MB | why |" in text
    assert "- Cannot run: native: no compiler." in text
    assert "- What was found." in text
    assert "![a caption](a.png)" in text
    assert "**Not finished" in as_markdown([], SETTINGS, MAKER, finished=False)


def test_json_has_every_sample_and_who_made_it() -> None:
    data = json.loads(json.dumps(as_json(fake_results(), SETTINGS, MAKER, finished=True)))
    assert data["made_by"] == MAKER
    assert data["settings"]["seed"] == 0
    assert data["settings"]["backends_that_cannot_run"] == {"native": "no compiler here"}
    (row,) = data["rows"]
    assert row["cases"][1]["cannot_run"] == {"native": "no compiler"}
    first = row["cases"][0]["measurements"][0]
    assert first["seconds"] == [1e-6, 3e-6, 2e-6]
    assert first["seconds_per_unit"] == pytest.approx({"median": 2e-6, "low": 1.5e-6, "high": 2.5e-6})
    assert first["gflops"] == pytest.approx(1.0)


def test_the_terminal_shows_the_cases_that_matter() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(as_table(fake_results()))
    shown = console.export_text()
    assert "rows = 20" in shown
    assert "rows = 1," not in shown
    assert "native: cannot run, no compiler" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0.00 ns"), (1.5e-8, "15.0 ns"), (1.234e-6, "1.23 us"), (0.1234, "123 ms"), (-2e-6, "-2.00 us")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_plots_are_drawn_of_what_differs_in_one_size(tmp_path: Path) -> None:
    captions = draw(fake_results(), tmp_path)
    assert captions == {"cost_rows.png": "Cost against rows; n = 128, k_trunc = 5"}
    assert {path.name for path in tmp_path.iterdir()} == {"cost_rows.png", "cost_rows.svg"} <= set(file_names())
    svg = (tmp_path / "cost_rows.svg").read_text()
    assert "time per row-step (us)" in svg
    assert "rows R" in svg
