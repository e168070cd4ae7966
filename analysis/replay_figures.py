"""Figures of replay over seeds: how far back, around reward, onto the causal step; each beside what chance would give."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

from .causal import CausalFraction
from .measures import Lags
from .peri_reward import PeriReward
from .replay_summary import RunSummary
from .statistics import mean_interval
from .style import BLUE, FAINT, INK, VERMILION, styled

_GRID: dict[str, Any] = {"axis": "y", "color": "#E8E8E8", "linewidth": 0.8}


def lag_distribution(summaries: Sequence[RunSummary], *, title: str) -> Figure:
    """Share of replays by lag, in bins that double, and what sources uniform over the episode's past would give.

    Raises:
        RunFolderError: no run has replayed anything
    """
    found = [summary.lags for summary in summaries if summary.lags]
    if not found:
        raise RunFolderError("lag distribution: no run has replayed anything")
    longest = max(found, key=lambda lags: len(lags.edges)).edges
    observed, uniform = (_padded(found, name, len(longest) - 1) for name in ("observed", "uniform"))
    where = np.arange(len(longest) - 1)
    with styled():
        figure, axes = _panel(title)
        axes.bar(where, 100 * observed.mean(axis=0), color=BLUE, alpha=0.35, width=0.8, label=_mean_of(found, "replays"))
        _dots(axes, where, 100 * observed)
        axes.plot(
            where,
            100 * uniform.mean(axis=0),
            color=FAINT,
            linestyle=(0, (5, 4)),
            label="if uniform over the episode's past",
        )
        names = [str(a) if b == a + 1 else f"{a}–{b - 1}" for a, b in pairwise(longest.tolist())]
        axes.set_xticks(where, names)
        axes.set(
            xlabel="lag: steps from the recalling step back to the source", ylabel="share of replays (%)", ylim=(0, None)
        )
        _legend(axes)
    return figure


def peri_reward_histogram(summaries: Sequence[RunSummary], *, title: str) -> Figure:
    """Replays triggered per step around paid steps (of a task: scored ones), and around comparable steps that were not.

    Raises:
        RunFolderError: no run has both replays and recorded paid steps
    """
    found = [summary.peri_reward for summary in summaries if summary.peri_reward]
    if not found:
        raise RunFolderError("peri-reward histogram: no run has both replays and recorded paid steps")
    marked = summaries[0].run.marked
    matched = [item.matched for item in found if item.matched]
    rate = np.stack([item.rate for item in matched or found])
    shown = np.isfinite(rate).any(axis=0)
    offset, rate = found[0].offset[shown], rate[:, shown]
    with styled():
        figure, axes = _panel(title)
        name = f"around {marked} steps" if matched else f"around {marked} steps; none is comparable"
        axes.bar(offset, _mean(rate), color=BLUE, alpha=0.35, width=0.9, label=_mean_of(found, name))
        _dots(axes, offset, rate)
        if matched:
            expected = np.stack([item.expected for item in matched])[:, shown]
            style: dict[str, Any] = {"color": INK, "linewidth": 1.4, "where": "mid"}
            axes.step(offset, _mean(expected), label=f"around comparable steps, not {marked}", **style)
        mean = float(np.mean([item.mean for item in found]))
        axes.axhline(mean, color=FAINT, linewidth=1.2, linestyle=(0, (5, 4)), label="over all recorded steps")
        axes.axvline(0, color=VERMILION, linewidth=1, zorder=0)
        axes.annotate(
            marked,
            (0, 1),
            xycoords=("data", "axes fraction"),
            annotation_clip=False,
            xytext=(3, 4),
            textcoords="offset points",
            color=VERMILION,
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=f"steps from a {marked} step", ylabel="replays triggered per step", ylim=(0, None))
        axes.margins(y=0.2)
        _legend(axes)
    return figure


def causal_fraction_figure(summaries: Sequence[RunSummary], *, title: str) -> Figure:
    """Share of replays whose segment holds the causal step, of each seed, and under two nulls; means with intervals.

    Raises:
        RunFolderError: no run tells causal steps that its replays could have reached
    """
    found = [summary.causal for summary in summaries if summary.causal]
    if not found:
        raise RunFolderError("causal fraction: no run tells causal steps that its replays could have reached")
    columns = {
        "replay": [item.fraction for item in found],
        "lag-matched\nsources": [item.lag_matched.mean for item in found],
        "sources uniform\nover the past": [item.uniform.mean for item in found],
    }
    values = 100 * np.array(list(columns.values()))
    with styled():
        figure, axes = _panel(title)
        axes.plot(range(len(columns)), values, color=FAINT, linewidth=0.7, alpha=0.5, zorder=1)
        for place, (row, colour) in enumerate(zip(values, (BLUE, FAINT, FAINT), strict=True)):
            axes.plot(np.full(len(row), place), row, "o", color=colour, markersize=5, alpha=0.6, zorder=2)
            interval = mean_interval(row)
            beside = place + 0.16
            axes.plot(beside, interval.estimate, "D", color=INK, markersize=5, zorder=3)
            if interval.low is not None and interval.high is not None:
                axes.plot([beside, beside], [interval.low, interval.high], color=INK, linewidth=1.5, zorder=3)
            axes.annotate(
                f"{interval.estimate:.1f} %", (beside, interval.estimate), (8, 0), textcoords="offset points", va="center"
            )
        for place, nulls in ((1, [item.lag_matched for item in found]), (2, [item.uniform for item in found])):
            for null in nulls:
                axes.plot([place, place], [100 * null.low, 100 * null.high], color=FAINT, linewidth=3, alpha=0.25, zorder=1)
        axes.set_xticks(range(len(columns)), list(columns))
        axes.set(xlim=(-0.5, len(columns) - 0.3), ylim=(0, None), ylabel="replays whose segment holds\nthe causal step (%)")
    return figure


def _panel(title: str) -> tuple[Figure, Axes]:
    """A figure of one panel; a second line of the title is set smaller."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(**_GRID)
    axes.set_axisbelow(True)
    first, _, second = title.partition("\n")
    axes.set_title(first, pad=24 if second else 10, fontweight="bold")
    if second:
        axes.annotate(second, (0, 1), xycoords="axes fraction", xytext=(0, 9), textcoords="offset points", color=FAINT)
    return figure, axes


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over seeds, `(places,)`, of those that have a value there; NaN where none has."""
    known = np.isfinite(values)
    total, count = np.where(known, values, 0).sum(axis=0), known.sum(axis=0)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _legend(axes: Axes) -> None:
    """A legend above the data, in room made for it."""
    axes.set_ylim(0, 1.2 * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper left")


def _dots(axes: Axes, where: Any, values: Any) -> None:
    """Each seed as a dot per place; `values` `(seeds, places)`."""
    for row in values:
        axes.plot(where, row, "o", color=BLUE, markersize=3.5, alpha=0.7, zorder=3)


def _padded(found: Sequence[Lags], name: str, bins: int) -> Any:
    """Shares `(seeds, bins)`; a run of shorter episodes has none in the last bins."""
    rows = [getattr(lags, name) for lags in found]
    return np.stack([np.pad(row, (0, bins - len(row))) for row in rows])


def _mean_of(found: Sequence[Lags | PeriReward | CausalFraction], what: str) -> str:
    return what if len(found) == 1 else f"{what}, mean of {len(found)} seeds (dots)"
