"""The one picture of a report: how well over training, and below it how far back credit goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..folders import Run
from ..style import BLUE, FAINT, HEAT, styled
from .parts import Panel

_PARTS = 24
"""Parts of training in which credit is summed."""
_SCORES = {
    "success": ("success", "evaluation", 100.0, "success (%)"),
    "return": ("return", "evaluation", 1.0, "mean return"),
    "metric": ("metric", "held-out", 1.0, "held-out score"),
}
"""Of each score: its column, the split it is in, its factor, and how the axis is called."""

_CAPTION = (
    "Above: the score in evaluations, in which nothing is learned{seeds}. Below: where credit went through replay. "
    "Each column is a part of training; the darker a cell, the greater the share of that part's credit that jumped "
    "so many steps back."
)
_CAPTION_WITHOUT = "The score in evaluations, in which nothing is learned{seeds}. No credit was replayed."
_CAVEAT = "Cells hold ever more lags (1, 2-3, 4-7, ... steps). Shares say where credit went, not how much there was."


def overview(runs: Sequence[Run]) -> Panel | None:
    """Score and the lags of credit against training, mean over ``runs``; ``None`` if there is neither.

    Raises RunFolderError: if a database cannot be read.
    """
    curves = _curves(runs)
    credit = credit_by_lag(runs)
    if not curves and credit is None:
        return None
    end = max([1.0, *(float(x[-1]) for x, _ in curves), *([] if credit is None else [credit[1]])])
    rows = [bool(curves), credit is not None]
    with styled():
        figure = Figure(figsize=(7.6, 1.2 + 2.0 * sum(rows)), layout="constrained")
        places = iter(figure.subplots(sum(rows), 1, sharex=True, squeeze=False)[:, 0])
        last = None
        if curves:
            last = next(places)
            _draw_curves(last, curves, _label(runs), len(runs))
        if credit is not None:
            last = next(places)
            _draw_credit(figure, last, *credit)
        if last is not None:
            last.set_xlim(0, end)
            last.xaxis.set_major_formatter("{x:,.0f}")
            last.set_xlabel(f"training step of each stream{_streams(runs)}")
    seeds = f" (thin lines: each of {len(runs)} seeds; thick: their mean)" if len(runs) > 1 else ""
    return Panel(
        title="Learning, and how far back credit went",
        figure=figure,
        alt="Two graphs over training: the score, and as a heat map the share of credit by how many steps it jumped back.",
        caption=(_CAPTION if credit is not None else _CAPTION_WITHOUT).format(seeds=seeds),
        caveat=_CAVEAT if credit is not None else "",
    )


def _score(run: Run) -> tuple[str, str, float, str]:
    if not run.agent:
        return _SCORES["metric"]
    told = run.rows("SELECT 1 FROM metrics WHERE success IS NOT NULL LIMIT 1")
    return _SCORES["success" if told else "return"]


def _label(runs: Sequence[Run]) -> str:
    return _score(runs[0])[3]


def _curves(runs: Sequence[Run]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Training steps and scores ``(n,)`` of each run that has been evaluated."""
    column, split, factor, _ = _score(runs[0])
    curves = []
    for run in runs:
        # The final evaluation counts instead of an earlier one at the same moment.
        points = dict(
            run.rows(
                f"SELECT step, {column} FROM metrics WHERE split IN (?, 'final') AND {column} IS NOT NULL ORDER BY id",
                (split,),
            )
        )
        if points:
            curves.append((np.array([*points], dtype=np.float64), factor * np.array([*points.values()], dtype=np.float64)))
    return curves


def credit_by_lag(runs: Sequence[Run]) -> tuple[NDArray[np.float64], float] | None:
    """Shares of credit ``(lag bins, parts)``, mean over runs with replay, and the step at which training ends."""
    events = [np.array(run.rows("SELECT step, lag, credit FROM events WHERE kind = 'replay' AND lag >= 1")) for run in runs]
    events = [found for found in events if len(found)]
    if not events:
        return None
    end = 1.0 + max(float(found[:, 0].max()) for found in events)
    edges = 2.0 ** np.arange(int(max(found[:, 1].max() for found in events)).bit_length() + 1)
    shares = []
    for step, lag, credit in (found.T for found in events):
        total, _, _ = np.histogram2d(lag, step, bins=(edges, np.linspace(0, end, _PARTS + 1)), weights=credit)
        shares.append(np.divide(total, total.sum(axis=0), out=np.full_like(total, np.nan), where=total.sum(axis=0) > 0))
    known = np.isfinite(shares).any(axis=(0, 1))
    mean = np.full(shares[0].shape, np.nan)
    mean[:, known] = np.nanmean(np.stack(shares)[:, :, known], axis=0)
    return mean, end


def _draw_curves(axes: Axes, curves: Sequence[tuple[Any, Any]], label: str, seeds: int) -> None:
    axes.grid(axis="y", color="#E8E8E8", linewidth=0.8)
    axes.set_axisbelow(True)
    if seeds > 1:
        for x, y in curves:
            axes.plot(x, y, color=BLUE, linewidth=0.8, alpha=0.5)
    where = max((x for x, _ in curves), key=len)
    mean = np.mean([np.interp(where, x, y) for x, y in curves], axis=0)
    axes.plot(where, mean, "o-", color=BLUE, markersize=4, clip_on=False)
    axes.annotate(f"{mean[-1]:.3g}", (where[-1], mean[-1]), (7, 0), textcoords="offset points", va="center", color=BLUE)
    axes.set_ylabel(label)
    if label.endswith("(%)"):
        axes.set_ylim(0, 112)
        axes.set_yticks([0, 25, 50, 75, 100])


def _draw_credit(figure: Figure, axes: Axes, shares: NDArray[np.float64], end: float) -> None:
    bins = len(shares)
    axes.set_facecolor("#F4F4F4")
    image = axes.imshow(
        100 * shares,
        HEAT,
        aspect="auto",
        origin="lower",
        extent=(0, end, -0.5, bins - 0.5),
        interpolation="nearest",
        vmin=0,
    )
    names = ["1", *(f"{2**k}–{2 ** (k + 1) - 1}" for k in range(1, bins))]
    axes.set_yticks(range(bins), names)
    axes.set_ylabel("credit went back\n(steps)")
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=12)
    bar.outline.set_visible(False)
    bar.set_label("share of credit (%)", color=FAINT, fontsize=9)


def _streams(runs: Sequence[Run]) -> str:
    group = runs[0].config.get("run")
    streams = group.get("streams") if isinstance(group, dict) else None
    return f" ({streams} side by side)" if isinstance(streams, int) and streams > 1 else ""
