"""Figures of runs: learning curves, and what is recalled when (the recall map of the SAB paper, its Figure 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from sabsim.errors import ConfigError, StorageError

from .folders import Curve, Floats, Run
from .recall_phases import causal_steps, recall_phases
from .style import FAINT, HEAT, INK, PALETTE, SKY, styled

_BESIDE = 5
"""Steps shown to the right of the last causal one in the enlargement."""
_ENLARGED = "Enlarged: the steps that are scored"
_FRAMED = "; framed in blue: the step at which the symbol they want was shown"
_AXES = {False: ("training sequences", "held-out accuracy"), True: ("environment steps", "success in evaluation episodes")}
"""What a learning curve is drawn over, and of what it is, for supervised runs and for agents'."""
_ERRORS = {"mse": "held-out mean squared error", "bpc": "held-out bits per character"}
"""What it is of for tasks that are measured by an error."""


@dataclass(frozen=True)
class _Scale:
    """The axis of a metric: its `label`, from 0 to `top`; what is drawn is `factor` times the metric."""

    label: str
    factor: float
    top: float

    def words(self, value: float) -> str:
        """A value as it is drawn."""
        return f"{value:.1f} %" if self.factor == 100 else f"{value:.3g}"

    @classmethod
    def of(cls, run: Run, values: Iterable[float]) -> _Scale:
        """A share of cases is shown in percent, an error as it is, up to the greatest of `values`."""
        if run.agent or run.metric not in _ERRORS:
            return cls(f"{_AXES[run.agent][1]} (%)", 100.0, 100.0)
        return cls(_ERRORS[run.metric], 1.0, 1.05 * max(values))


def learning_curves(
    runs: Mapping[str, Run | Sequence[Run]], *, title: str, levels: Mapping[str, float] | None = None
) -> Figure:
    """Held-out accuracy of several runs against training sequences, each line labelled where it ends.

    Of adding and charlm: the mean squared error, the bits per character. Of agents' runs: success in evaluation episodes
    against environment steps. Of several runs under one name (seeds) each is a thin line, and their mean a thick one.

    Arguments:
        runs: by the name to show, in the order of colours; of one task, so that they share its chance levels
        title: what was learned; a second line is set smaller
        levels: what needs no learning, by name; by default what the first run's summary tells

    Raises:
        ConfigError: no runs, or agents' runs together with others
        RunFolderError: a run without an evaluation, or a damaged one
    """
    if not runs:
        raise ConfigError("runs = {}: there must be at least one")
    groups = {name: [some] if isinstance(some, Run) else list(some) for name, some in runs.items()}
    first = next(iter(groups.values()))[0]
    if any(run.agent != first.agent for group in groups.values() for run in group):
        raise ConfigError(f"runs = {', '.join(runs)}: agents' runs and supervised ones share no axes")
    if levels is None:
        ending = f" {first.metric}"
        levels = {name.removesuffix(ending): v for name, v in first.baselines.items() if name.endswith(ending)}
    seeds = {name: [run.curve() for run in group] for name, group in groups.items()}
    curves = {name: _mean(group) for name, group in seeds.items()}
    greatest = [float(curve.metric.max()) for group in seeds.values() for curve in group]
    scale = _Scale.of(first, [*greatest, *levels.values()])
    with styled():
        figure = Figure(figsize=(8.4, 4.6), layout="constrained")
        axes = figure.add_subplot()
        _levels(axes, levels, scale)
        for place, (curve, colour) in enumerate(zip(curves.values(), _colours(len(curves)), strict=True)):
            # The first run lies on top: it is what the figure is about. The marker is for the last point only.
            (line,) = axes.plot(
                curve.sequences, scale.factor * curve.metric, color=colour, clip_on=False, zorder=3 - place / 10
            )
            line.set(marker="o", markersize=5, markevery=[-1])
        for group, colour in zip(seeds.values(), _colours(len(seeds)), strict=True):
            for curve in group if len(group) > 1 else ():
                axes.plot(curve.sequences, scale.factor * curve.metric, color=colour, linewidth=0.8, alpha=0.45, zorder=2)
        axes.set(xlabel=f"{_AXES[first.agent][0]}, all streams together", ylabel=scale.label, ylim=(0, scale.top))
        axes.set_xlim(0, max(1, *(int(curve.sequences[-1]) for curve in curves.values())))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="y", color="#E8E8E8", linewidth=0.8)
        axes.set_axisbelow(True)
        _label_ends(axes, curves, scale)
        _title(axes, title)
    return figure


def recall_map(run: Run, *, title: str) -> Figure:
    """Which step recalls which, early, while the accuracy climbs, and late; below, the scored steps enlarged.

    Colour is the recall weight that a step (y) gives to the microstate formed at another one (x), as the mean over
    a tenth of the recorded sequences. Weights too small to be recorded count as 0. Where the task tells which step a scored
    one needs (copying), that place is framed.

    Arguments:
        run: a run of which sequences were recorded
        title: what it is; a second line is set smaller

    Raises:
        RunFolderError: no recorded sequences, or a damaged folder
    """
    phases = recall_phases(run)
    rows, causal = run.scored_positions(), causal_steps(run)
    width = min(run.length(), max(causal.values(), default=int(rows[-1])) + 1 + _BESIDE)
    norm = Normalize(0, max(float(phase.weight.max()) for phase in phases) or 1.0)
    with styled():
        # Placed by hand, so that a cell is a square in copying: maps of 2.5 by 2.5 inches above 2.5 by 1.7.
        figure = Figure(figsize=(10.4, 6.9))
        places = {"left": 0.065, "right": 0.9, "bottom": 0.075, "top": 0.81, "wspace": 0.22, "hspace": 0.44}
        grid = figure.subplots(2, len(phases), squeeze=False, height_ratios=(3, 2), gridspec_kw=places)
        for phase, above, below in zip(phases, *grid, strict=True):
            image = _heat(above, phase.weight, norm, rows=range(run.length()), width=run.length())
            above.set_title(phase.title, fontsize=10)
            _frame(above, (0, int(rows[0])), width, int(rows[-1] - rows[0]) + 1)
            _heat(below, phase.weight, norm, rows=range(int(rows[0]), int(rows[-1]) + 1), width=width)
            for recalling, recalled in causal.items():
                _frame(below, (recalled, recalling), 1, 1)
            for axes in (above, below):
                axes.set_xlabel("recalled step")
        for axes in grid[:, 0]:
            axes.set_ylabel("recalling step")
        grid[1, 0].set_title(_ENLARGED + (_FRAMED if causal else ""), fontsize=10)
        bar = figure.colorbar(image, cax=figure.add_axes((0.925, 0.25, 0.014, 0.5)))
        bar.ax.set_title("mean\nrecall\nweight", fontsize=9)
        bar.outline.set_visible(False)
        first, _, second = title.partition("\n")
        figure.suptitle(first, x=0.065, y=0.98, ha="left", fontweight="bold")
        figure.text(0.065, 0.938, second, color=FAINT, va="top")
    return figure


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG beside each other; `path` has no suffix. Returns both paths.

    Raises:
        StorageError: the disk refuses
    """
    paths = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]
    for target in paths:
        try:
            with styled():
                figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
        except OSError as error:
            raise StorageError(f"'{target}': {error.strerror or error}; free space or give another --out") from error
    return paths


# Learning curves


def _mean(curves: Sequence[Curve]) -> Curve:
    """The mean of curves, at the points of the first."""
    where = curves[0].sequences
    return Curve(where, np.mean([np.interp(where, curve.sequences, curve.metric) for curve in curves], axis=0))


def _colours(count: int) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(count)]


def _levels(axes: Axes, known: Mapping[str, float], scale: _Scale) -> None:
    """Scores that need no learning, as dashed lines with their names on them."""
    levels = {name: scale.factor * level for name, level in known.items()}
    for name, level in levels.items():
        # At the end a run has left these levels or never will; at the beginning all cross them.
        below = level == min(levels.values())
        axes.axhline(level, color=FAINT, linewidth=1, linestyle=(0, (5, 4)), zorder=1)
        axes.annotate(
            f"{name} {scale.words(level)}",
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(-8, -5 if below else 3),
            textcoords="offset points",
            ha="right",
            va="top" if below else "bottom",
            color=FAINT,
            fontsize=8.5,
        )


def _label_ends(axes: Axes, curves: Mapping[str, Curve], scale: _Scale) -> None:
    """Name and last value of each line, right of the axes; labels that would overlap are moved apart."""
    ends = [scale.factor * float(curve.metric[-1]) for curve in curves.values()]
    places = _spread([100 * end / scale.top for end in ends]) * scale.top / 100
    for (name, curve), end, place, colour in zip(curves.items(), ends, places, _colours(len(ends)), strict=True):
        axes.annotate(
            f"{name}\n{scale.words(end)}",
            (float(curve.sequences[-1]), end),
            xytext=(1.035, place),
            textcoords=("axes fraction", "data"),
            color=colour,
            va="center",
            linespacing=1.1,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "relpos": (0, 0.5), "shrinkB": 4},
            annotation_clip=False,
        )


def _spread(values: Sequence[float], gap: float = 12.0, least: float = 4.0, most: float = 97.0) -> Floats:
    """Places for labels: at least `gap` apart, between `least` and `most` if there is room, each group about its values."""
    order = np.argsort(values, kind="stable")
    # Without the gaps, what is left is to put numbers in ascending order: neighbours that are not share their mean.
    groups: list[list[float]] = []
    for rank, value in enumerate(np.asarray(values, dtype=np.float64)[order]):
        groups.append([float(value) - rank * gap])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    means = np.concatenate([np.full(len(group), np.mean(group)) for group in groups])
    highest = most - gap * (len(order) - 1)
    places = np.empty(len(order))
    places[order] = np.clip(means, least, max(least, highest)) + gap * np.arange(len(order))
    return places


def _title(axes: Axes, title: str) -> None:
    first, _, second = title.partition("\n")
    axes.set_title(first, pad=24 if second else 10, fontweight="bold")
    if second:
        axes.annotate(second, (0, 1), xycoords="axes fraction", xytext=(0, 9), textcoords="offset points", color=FAINT)


# Recall map


def _heat(axes: Axes, weight: Floats, norm: Normalize, *, rows: range, width: int) -> AxesImage:
    """One map: these `rows` of recalling steps, the first `width` recalled ones."""
    extent = (-0.5, width - 0.5, rows[0] - 0.5, rows[-1] + 0.5)
    shown = weight[rows[0] : rows[-1] + 1, :width]
    image = axes.imshow(shown, HEAT, norm, aspect="auto", origin="lower", extent=extent, interpolation="nearest")
    if width <= 20:
        axes.set_xticks(range(0, width, 5))
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#BBBBBB")
    return image


def _frame(axes: Axes, corner: tuple[int, int], width: int, height: int) -> None:
    """A frame around cells, from the lower left one at `corner` (recalled, recalling)."""
    x, y = corner
    colour = SKY if width == 1 else INK
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=colour, linewidth=1.0))
