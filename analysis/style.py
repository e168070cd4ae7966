"""One look for all figures: colours that colour-blind readers can tell apart, plain fonts, no frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
"""Of the palette of Okabe & Ito (2008, jfly.uni-koeln.de/color); its yellow and black are left out."""
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
"""In the order in which lines take them."""
INK, FAINT = "#222222", "#6B6B6B"
"""Of text and axes; of what stands behind the data, such as chance levels."""
HEAT = LinearSegmentedColormap.from_list("heat", ["white", *matplotlib.colormaps["magma_r"](np.linspace(0.1, 1, 10))])
"""Colour map of quantities that begin at 0: white there, evenly darker with the value, also in grey."""

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "figure.titlesize": 12,
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 200,
    # Text stays text in an SVG, and the same figure gives the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "sabsim",
}
"""Settings of matplotlib; what is not here keeps matplotlib's default, whatever the user's own settings are."""


@contextmanager
def styled() -> Iterator[None]:
    """Figures made and saved inside have the look of this module."""
    with matplotlib.style.context(["default", STYLE]):
        yield
