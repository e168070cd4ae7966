"""The gradient that reaches each step, rule by rule, on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from sabsim.errors import ConfigError

from .folders import Floats
from .style import FAINT, PALETTE, SKY, styled

_DECADES = 14
"""Shown below the greatest value; what is smaller is rounding, in float64 after some hundred steps."""


def gradient_figure(lines: Mapping[str, Floats], *, needed: Sequence[int], scored: Sequence[int], title: str) -> Figure:
    """|dL/dh_t| against t, a line for each rule; a step that gets nothing leaves a gap.

    Arguments:
        lines: by the words to show, `(steps,)` each, not negative
        needed: steps that carry what the answers need, marked below
        scored: steps at which the answers are given
        title: what it is; a second line is set smaller

    Raises:
        ConfigError: no line, or nothing but zeros
    """
    greatest = max((float(line.max()) for line in lines.values()), default=0.0)
    if not greatest > 0:
        raise ConfigError("there is no gradient to draw: it is zero at every step under every rule")
    with styled():
        figure = Figure(figsize=(9.6, 5.2), layout="constrained")
        axes = figure.add_subplot()
        for i, (words, line) in enumerate(lines.items()):
            shown = np.where(line > 0, line, np.nan)
            # Later lines are thinner and on top, so that equal ones can be told; a single step shows by its marker.
            (drawn,) = axes.plot(np.arange(len(line)), shown, label=words, zorder=2 + i / 10)
            width = 1.2 + 0.8 * (len(lines) - 1 - i)
            drawn.set(color=PALETTE[i % len(PALETTE)], linewidth=width, marker="o", markersize=width + 1)
        least = min(float(line[line > 0].min()) for line in lines.values() if (line > 0).any())
        axes.set_yscale("log")
        axes.set_ylim(max(least / 3, greatest * 10.0**-_DECADES), greatest * 3)
        for steps, colour, words in ((needed, SKY, "steps that are needed"), (scored, FAINT, "steps that are scored")):
            if steps:
                (drawn,) = axes.plot(np.asarray(steps), np.full(len(steps), 0.012), label=words)
                drawn.set(marker="^", linestyle="none", color=colour, markersize=5, clip_on=False)
                drawn.set_transform(axes.get_xaxis_transform())
        axes.set(xlabel="step t", ylabel=r"$|\partial L / \partial \hat h_t|$")
        axes.set_xlim(-1, max(len(line) for line in lines.values()))
        axes.grid(axis="y", color="#E8E8E8", linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
        first, _, second = title.partition("\n")
        axes.set_title(first, pad=24 if second else 10, fontweight="bold")
        if second:
            axes.annotate(second, (0, 1), xycoords="axes fraction", xytext=(0, 9), textcoords="offset points", color=FAINT)
    return figure
