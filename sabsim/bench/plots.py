"""Figures: cost against T, slots, streams, hidden size and replays, every variant a line with its quartiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from sabsim.analysis import save
from sabsim.analysis.style import FAINT, PALETTE, styled

from .case import GEMM, CaseResult, RowResult

_MARKERS = "osD^vP"
_DERIVED = ("steps", "parameters", "tensors")
"""Sizes that follow from others."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """``x`` of the cases of ``row`` against time; ``prefer`` says which of the other sizes, where there is a choice.

    ``without``: how the names of variants begin that are there for others to be made of, and would crowd the plot.
    """

    name: str
    row: str
    x: str
    label: str
    prefer: Mapping[str, int] = field(default_factory=dict)
    memory: bool = False
    log_x: bool = True
    without: tuple[str, ...] = ()


PLOTS = (
    Plot(name="cost_T", row="growth", x="T", label="T (steps between the last digit and the first output)"),
    Plot(name="memory_T", row="growth", x="T", label="T (steps between the last digit and the first output)", memory=True),
    Plot(name="cost_slots", row="recall", x="slots", label="slots S (microstates remembered)", without=("step with",)),
    Plot(name="cost_streams", row="window", x="streams", label="streams B", prefer={"replays": 2}),
    Plot(name="cost_hidden", row="window", x="n", label="hidden units n", prefer={"replays": 2}),
    Plot(name="cost_scale", row="scale", x="streams", label="streams B, whole blocks"),
    Plot(
        name="cost_replays",
        row="window",
        x="replays",
        label="replays at most, per stream and update",
        prefer={"streams": 32},
        log_x=False,
    ),
    Plot(
        name="cost_rows",
        row="cell",
        x="rows",
        label="rows R",
        prefer={"n": 128, "k_trunc": 5},
        without=("update with a replay",),
    ),
)
"""All there are. One whose row was not measured at two sizes at least is left out."""


def draw(results: Sequence[RowResult], out: Path) -> dict[str, str]:
    """Writes the plots that can be drawn, as PNG and SVG; returns their captions by the name of the PNG.

    Raises StorageError: the disk refuses.
    """
    rows = {result.row.name: result for result in results}
    captions = {}
    for plot in PLOTS:
        group = _group(rows[plot.row].cases, plot) if plot.row in rows else []
        if len(group) < 2 or not _lines(group, plot):
            continue
        save(figure(group, plot), out / plot.name)
        captions[f"{plot.name}.png"] = _title(group, plot)
    return captions


def file_names() -> list[str]:
    """Every file that ``draw`` may write."""
    return [f"{plot.name}.{kind}" for plot in PLOTS for kind in ("png", "svg")]


def figure(cases: Sequence[CaseResult], plot: Plot) -> Figure:
    """The plot of these cases, which differ in ``plot.x``."""
    with styled():
        made = Figure(figsize=(8.4, 4.8), layout="constrained")
        axes = made.add_subplot()
        for place, (name, points) in enumerate(_lines(cases, plot).items()):
            _line(axes, name, points, place)
        xs = sorted({float(case.parameters[plot.x]) for case in cases})
        axes.set_yscale("log")
        if plot.log_x:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(xs, [f"{x:,.0f}" for x in xs])
        axes.set_xlabel(plot.label)
        axes.set_ylabel("peak memory (MB)" if plot.memory else f"time per {cases[0].unit} (us)")
        axes.grid(axis="y", color="#E8E8E8", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_title(_title(cases, plot), fontsize=9)
        made.legend(loc="outside right center", frameon=False, fontsize=8)
    return made


_Points = list[tuple[float, float, float, float]]
"""x, and the median, first and third quartile of y."""


def _lines(cases: Sequence[CaseResult], plot: Plot) -> dict[str, _Points]:
    """The points of every variant that has some, by name."""
    lines: dict[str, _Points] = {}
    for case in cases:
        x = float(case.parameters[plot.x])
        for one in case.measurements:
            if one.name.startswith(plot.without):
                continue
            if plot.memory and one.memory_mb:
                lines.setdefault(one.name, []).append((x, one.memory_mb, one.memory_mb, one.memory_mb))
            elif not plot.memory and one.time.low > 0:
                middle, low, high = (1e6 * value for value in one.time)
                lines.setdefault(one.name, []).append((x, middle, low, high))
    return {name: sorted(points) for name, points in lines.items()}


def _line(axes: Axes, name: str, points: _Points, place: int) -> None:
    x, middle, low, high = zip(*points, strict=True)
    errors = [[m - a for m, a in zip(middle, low, strict=True)], [b - m for m, b in zip(middle, high, strict=True)]]
    turn, colour = divmod(place, len(PALETTE))
    look: dict[str, Any] = {"color": PALETTE[colour], "marker": _MARKERS[turn % len(_MARKERS)]}
    if name == GEMM:
        look = {"color": FAINT, "linestyle": "--"}
    axes.errorbar(x, middle, yerr=errors, label=name, capsize=2, markersize=5, linewidth=1.6, **look)


def _group(cases: Sequence[CaseResult], plot: Plot) -> list[CaseResult]:
    """Cases that differ in nothing but ``plot.x``: those with the most values of it, of these the preferred ones."""
    groups: dict[tuple[tuple[str, int | str], ...], list[CaseResult]] = {}
    for case in cases:
        if plot.x in case.parameters:
            others = tuple((k, v) for k, v in case.parameters.items() if k != plot.x and k not in _DERIVED)
            groups.setdefault(others, []).append(case)

    def merit(others: tuple[tuple[str, int | str], ...]) -> tuple[int, int]:
        return len(groups[others]), sum((name, value) in others for name, value in plot.prefer.items())

    return groups[max(groups, key=merit)] if groups else []


def _title(cases: Sequence[CaseResult], plot: Plot) -> str:
    fixed = [f"{k} = {v}" for k, v in cases[0].parameters.items() if k != plot.x and k not in _DERIVED]
    return f"{'Peak memory' if plot.memory else 'Cost'} against {plot.x}; {', '.join(fixed)}"
