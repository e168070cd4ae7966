"""The replay explorer's plot, made with plotly, and the data that its script moves through.

Above the line of time lie, for the present step alone, the moments that it reads; below it all replays of the episode, from
the recalling step to the source and on through the steps that were backtracked. Below that the signals, one by one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from .. import style
from .moments import Arc, Moments, Series
from .pictures import embedded_frames

_POINTS = 41
"""Of each arc; it can be pointed at near any of them."""
_WIDTHS = (1.0, 7.0)
"""Pixels of an arc whose recall weight is 0 and 1."""
_DECADES = 2.0
"""Credit less than the greatest by more than so many powers of ten has the colour of the least."""
_SCALES = {"light": ("magma_r", 0.18, 0.85), "dark": ("magma", 0.35, 0.97)}
"""Colour map of credit, and the part of it that stands out, on each background."""
_ARCS_HEIGHT, _SERIES_HEIGHT = 280, 92
"""Pixels of the rows of the plot."""
_COLOURS = (style.VERMILION, style.PURPLE, style.GREEN)
"""Of the signals, from the top."""
_BAND = 5
"""Recall weights are drawn in so many widths above the line."""


def explorer_data(moments: Moments) -> dict[str, Any]:
    """Everything the page's script needs, as JSON can hold it: the plot, and what is known of each step and arc."""
    frames, which = embedded_frames(moments.frames)
    colours = {theme: credit_colours(moments.arcs, theme) for theme in _SCALES}
    return {
        "figure": json.loads(_figure(moments, colours["light"]).to_json(engine="json")),
        "first": moments.first,
        "steps": moments.steps,
        "frames": frames,
        "frameOf": which,
        "actions": list(moments.actions),
        "series": [{"name": series.name, "values": _plain(series.values)} for series in moments.series],
        "readings": [[reading.step, reading.source, reading.weight] for reading in moments.readings],
        "arcs": [
            {
                "step": arc.step,
                "source": arc.source,
                "weight": arc.weight,
                "credit": arc.credit,
                "length": arc.length,
                "begin": arc.begin,
                "end": arc.end,
            }
            for arc in moments.arcs
        ],
        "colours": colours,
        "replays": moments.replays,
        "band": _BAND,
    }


def arc_line(arc: Arc) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of a replay below the line: half an ellipse from step to source, then on through the backtracked steps.

    Its depth is the root of its lag, so that short ones can be seen beside long ones.
    """
    angle = np.linspace(0, np.pi, _POINTS)
    centre, radius = (arc.step + arc.source) / 2, (arc.step - arc.source) / 2
    x = centre + radius * np.cos(angle)
    y = -math.sqrt(arc.step - arc.source) * np.sin(angle)
    return np.append(x, arc.source - arc.length + 1), np.append(y, 0.0)


def credit_colours(arcs: Sequence[Arc], theme: str) -> list[str]:
    """A colour for each arc by the logarithm of its credit, for a ``light`` or ``dark`` page."""
    if not arcs:
        return []
    credit = np.log10(np.maximum([arc.credit for arc in arcs], 1e-300))
    share = np.clip(1 + (credit - credit.max()) / _DECADES, 0, 1)
    name, least, most = _SCALES[theme]
    return [to_hex(matplotlib.colormaps[name](least + (most - least) * value)) for value in share]


def _figure(moments: Moments, colours: Sequence[str]) -> Any:
    # Here and not above: it takes longer to load than the rest of a report takes.
    from plotly.subplots import make_subplots

    heights = [_ARCS_HEIGHT, *[_SERIES_HEIGHT] * len(moments.series)]
    figure = make_subplots(rows=len(heights), cols=1, shared_xaxes=True, row_heights=heights, vertical_spacing=0.035)
    for number, (arc, colour) in enumerate(zip(moments.arcs, colours, strict=True)):
        x, y = arc_line(arc)
        figure.add_scatter(
            x=x.round(3).tolist(),
            y=y.round(3).tolist(),
            mode="lines",
            line={"color": colour, "width": _WIDTHS[0] + (_WIDTHS[1] - _WIDTHS[0]) * min(1.0, arc.weight)},
            hovertemplate=f"{_told(arc, moments)}<extra></extra>",
            meta={"kind": "arc", "number": number},
            row=1,
            col=1,
        )
    for band in range(_BAND):
        figure.add_scatter(
            x=[],
            y=[],
            mode="lines",
            line={"color": style.BLUE, "width": _WIDTHS[0] + (_WIDTHS[1] - _WIDTHS[0]) * (band + 0.5) / _BAND},
            hovertemplate="%{text}<extra></extra>",
            meta={"kind": "reading", "band": band},
            row=1,
            col=1,
        )
    steps = list(range(moments.first, moments.first + moments.steps))
    for row, (series, colour) in enumerate(zip(moments.series, _COLOURS, strict=False), 2):
        _add_series(figure, series, steps, colour, row)
    if moments.arcs:
        _add_scale(figure, moments.arcs)
    _lay_out(figure, moments, sum(heights))
    return figure


def _told(arc: Arc, moments: Moments) -> str:
    """What is said of an arc when it is pointed at."""
    steps = "1 step" if arc.length == 1 else f"{arc.length} steps"
    done = f"<br>action then: {escape(moments.actions[arc.source - moments.first])}" if moments.actions else ""
    return (
        f"<b>step {arc.step} replays step {arc.source}</b><br>{arc.step - arc.source} steps back{done}<br>"
        f"credit {arc.credit:.3g}, recall weight {arc.weight:.2f}<br>{steps} backtracked"
    )


def _add_series(figure: Any, series: Series, steps: Sequence[int], colour: str, row: int) -> None:
    values = _plain(series.values)
    hover = f"step %{{x}}: {escape(series.name)} %{{y:.4g}}<extra></extra>"
    if series.kind == "bar":
        fill = {"color": colour, "line": {"width": 0}}
        figure.add_bar(
            x=steps, y=values, marker=fill, width=0.7, hovertemplate=hover, meta={"kind": "series"}, row=row, col=1
        )
    else:
        look = {"color": colour, "width": 2}
        figure.add_scatter(
            x=steps, y=values, mode="lines", line=look, hovertemplate=hover, meta={"kind": "series"}, row=row, col=1
        )
    figure.update_yaxes(title_text=escape(series.name), row=row, col=1, nticks=4)


def _add_scale(figure: Any, arcs: Sequence[Arc]) -> None:
    """A bar that tells which colour is how much credit; it belongs to a trace without points."""
    most = max(arc.credit for arc in arcs)
    top = math.log10(max(most, 1e-300))
    ticks = [top - _DECADES, top - _DECADES / 2, top]
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="markers",
        hoverinfo="skip",
        marker={
            "color": [top],
            "cmin": top - _DECADES,
            "cmax": top,
            "colorscale": _scale("light"),
            "colorbar": {
                "title": {"text": "credit", "side": "top"},
                "thickness": 12,
                "len": 0.42,
                "y": 1,
                "yanchor": "top",
                "tickvals": ticks,
                "ticktext": [f"≤ {10 ** ticks[0]:.1g}", *(f"{10**tick:.1g}" for tick in ticks[1:])],
            },
        },
        meta={"kind": "scale", "scales": {theme: _scale(theme) for theme in _SCALES}},
        row=1,
        col=1,
    )


def _scale(theme: str) -> list[list[Any]]:
    name, least, most = _SCALES[theme]
    shares = np.linspace(0, 1, 9)
    return [[float(share), to_hex(matplotlib.colormaps[name](least + (most - least) * share))] for share in shares]


def _lay_out(figure: Any, moments: Moments, height: int) -> None:
    deepest = math.sqrt(max((arc.step - arc.source for arc in moments.arcs), default=1))
    highest = math.sqrt(max((r.step - r.source for r in moments.readings), default=1)) if moments.readings else 0.3
    cursor = {"type": "line", "x0": moments.first, "x1": moments.first, "yref": "paper", "y0": 0, "y1": 1}
    figure.update_layout(
        height=height + 70,
        margin={"l": 64, "r": 20, "t": 18, "b": 44},
        showlegend=False,
        hovermode="closest",
        hoverdistance=14,
        dragmode=False,
        plot_bgcolor="rgba(0,0,0,0)",
        paper_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12},
        shapes=[{**cursor, "line": {"width": 2}}, {**cursor, "line": {"width": 1.5, "dash": "dot"}, "visible": False}],
    )
    figure.update_xaxes(range=[moments.first - 0.8, moments.first + moments.steps - 0.2], zeroline=False, fixedrange=True)
    figure.update_yaxes(fixedrange=True, zeroline=True, zerolinewidth=1)
    figure.update_yaxes(
        range=[-1.06 * deepest, 1.06 * highest],
        showticklabels=False,
        showgrid=False,
        zerolinewidth=2,
        row=1,
        col=1,
    )
    for words, place in (("reads", "top"), ("replays", "bottom")):
        figure.add_annotation(
            text=words,
            xref="paper",
            yref="y domain",
            x=0,
            xanchor="right",
            xshift=-10,
            y=1 if place == "top" else 0,
            yanchor=place,
            showarrow=False,
        )
    figure.update_xaxes(title_text="step of the episode", row=1 + len(moments.series), col=1)


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    """As JSON can hold them: six digits, None for what is not a finite number."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
