"""Figures of where and in which order the past is replayed: recall over training, places, direction."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sabsim.errors import RunFolderError

from .causal import PARTS
from .replay_labels import LABELS, TESTED, full_label
from .replay_summary import RunSummary
from .sequences import LAGS, LEVEL
from .statistics import mean_interval
from .style import BLUE, FAINT, HEAT, INK, VERMILION, styled

_ACROSS = 5
"""Panels side by side in a comparison."""


def recall_map_figure(summaries: Sequence[RunSummary], *, title: str) -> Figure:
    """Recall weight by position and recalled position, in thirds of training: the mean over seeds.

    Raises:
        RunFolderError: no run has recorded remindings of sequences of one length
    """
    found = [summary.recall for summary in summaries if summary.recall]
    if not found:
        raise RunFolderError("recall map: no run has recorded remindings of sequences of one length")
    length = max(item.weight.shape[1] for item in found)
    same = [item for item in found if item.weight.shape[1] == length]
    weight = np.mean([item.weight for item in same], axis=0)
    episodes = np.sum([item.episodes for item in same], axis=0)
    with styled():
        figure = Figure(figsize=(10.4, 3.9), layout="constrained")
        panels = figure.subplots(1, len(PARTS), sharey=True)
        # Weights differ by orders of magnitude from the diagonal to the rest; the colour saturates at the top half percent.
        norm = Normalize(0, max(float(np.quantile(weight[weight > 0], 0.995)) if weight.any() else 0.0, 1e-6))
        for axes, name, part, count in zip(panels, PARTS, weight, episodes.tolist(), strict=True):
            image = axes.imshow(part, HEAT, norm, origin="lower", aspect="equal", interpolation="nearest")
            axes.set_title(f"{name} third ({count:,} sequences)", fontsize=10)
            axes.set_xlabel("recalled step")
            axes.locator_params(integer=True, nbins=6)
        panels[0].set_ylabel("recalling step")
        bar = figure.colorbar(image, ax=panels, shrink=0.8, extend="max")
        bar.set_label("mean recall weight")
        bar.outline.set_visible(False)
        _heading(figure, title)
    return figure


def place_map_figure(summaries: Sequence[RunSummary], *, title: str) -> Figure:
    """Replayed place by the place at the trigger: of each place's replays, the share that goes to each other; all seeds.

    Raises:
        RunFolderError: no run tells places
    """
    found = [summary.places for summary in summaries if summary.places]
    if not found:
        raise RunFolderError("place map: no run tells places")
    places = np.unique(np.concatenate([item.place for item in found]))
    count = np.zeros((len(places), len(places)))
    for item in found:
        at = np.searchsorted(places, item.place)
        count[np.ix_(at, at)] += item.count
    total = count.sum(axis=1, keepdims=True)
    share = 100 * np.divide(count, total, out=np.zeros_like(count), where=total > 0)
    with styled():
        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(share, HEAT, Normalize(0, max(float(np.quantile(share, 0.995)), 1e-6)), origin="lower")
        step = max(1, len(places) // 10)
        names = [f"{place:g}" for place in places[::step]]
        axes.set_xticks(np.arange(0, len(places), step), names)
        axes.set_yticks(np.arange(0, len(places), step), names)
        axes.set(xlabel="replayed place", ylabel="place at the trigger")
        bar = figure.colorbar(image, extend="max")
        bar.set_label("share of the replays from there (%)")
        bar.outline.set_visible(False)
        _heading(figure, title)
    return figure


def order_figure(summaries: Sequence[RunSummary], *, title: str) -> Figure:
    """Forward and reverse events against lag-matched sources, and forwardness minus backwardness (TDLM) by lag.

    Raises:
        RunFolderError: no run has enough consecutive triggers
    """
    found = [summary.sequences for summary in summaries if summary.sequences]
    if not found:
        raise RunFolderError("order: no run has enough consecutive triggers")
    with styled():
        figure = Figure(figsize=(9.4, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        shares = [("forward", [item.forward for item in found]), ("reverse", [item.reverse for item in found])]
        for place, (_, values) in enumerate(shares):
            _seeds(left, place, 100 * np.array(values))
        left.axhline(50 * LEVEL, color=FAINT, linewidth=1.2, linestyle=(0, (5, 4)), label="if lag-matched")
        left.set_xticks(range(len(shares)), [name for name, _ in shares])
        left.set(xlim=(-0.5, len(shares) - 0.4), ylim=(0, None), ylabel="share of events (%)")
        left.set_title("Sources of 5 consecutive triggers", fontsize=10)
        left.legend(frameon=False, fontsize=9)
        lags = np.arange(1, LAGS + 1)
        for item in found:
            right.plot(
                lags, item.forwardness - item.backwardness, color=BLUE, linewidth=0.8, alpha=0.4, marker="o", markersize=3
            )
        right.plot(lags, np.mean([f.forwardness - f.backwardness for f in found], axis=0), color=BLUE, label="replay")
        null = np.mean([item.matched_difference for item in found], axis=0)
        right.plot(lags, null, color=INK, linestyle=(0, (5, 4)), linewidth=1.4, label="lag-matched sources")
        right.axhline(0, color=FAINT, linewidth=0.8)
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.set(xlabel="lag (triggers)", ylabel="forwardness minus backwardness")
        right.set_title("TDLM over tenths of the episode", fontsize=10)
        right.legend(frameon=False, fontsize=9)
        _heading(figure, title)
    return figure


def comparison_figure(here: Sequence[RunSummary], there: Sequence[RunSummary], *, title: str) -> Figure:
    """The numbers of `TESTED` that both sets have, a panel each: seeds as dots, means with intervals beside them.

    Where they share none of these, as beside a control without replay, whatever numbers they share.

    Raises:
        RunFolderError: the sets have no number in common
    """
    sets = [[run.values() for run in runs] for runs in (here, there)]
    common = [name for name in LABELS if all(any(name in values for values in runs) for runs in sets)]
    if not common:
        raise RunFolderError("comparison: the two sets have no number in common")
    shared = [name for name in TESTED if name in common] or common
    rows = -(-len(shared) // _ACROSS)
    with styled():
        figure = Figure(figsize=(11.0, 0.8 + 2.5 * rows), layout="constrained")
        panels = figure.subplots(rows, _ACROSS, squeeze=False).ravel()
        for axes, name in zip(panels, shared, strict=False):
            for place, runs in enumerate(sets):
                _seeds(axes, place, np.array([values[name] for values in runs if name in values]))
            axes.axhline(0, color=FAINT, linewidth=1, linestyle=(0, (5, 4)))
            axes.set_xticks((0, 1), ("these", "those"))
            axes.set_xlim(-0.5, 1.6)
            axes.set_title(fill(full_label(name, task=here[0].task), 27), fontsize=8.5)
        for axes in panels[len(shared) :]:
            axes.remove()
        _heading(figure, title)
    return figure


def _seeds(axes: Axes, place: float, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Each seed as a dot, and beside them their mean with its interval."""
    axes.plot(np.full(len(values), place), values, "o", color=BLUE, markersize=5, alpha=0.6)
    interval = mean_interval(values)
    beside = place + 0.16
    axes.plot(beside, interval.estimate, "D", color=VERMILION, markersize=5)
    if interval.low is not None and interval.high is not None:
        axes.plot([beside, beside], [interval.low, interval.high], color=VERMILION, linewidth=1.5)


def _heading(figure: Figure, title: str) -> None:
    """The title; a second line is set smaller."""
    first, _, second = title.partition("\n")
    figure.suptitle(f"{first}\n{second}" if second else first, x=0.01, ha="left", fontsize=11)
