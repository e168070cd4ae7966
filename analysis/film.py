"""A film of one episode: what is seen now, what is recalled now, what is replayed, and where in time that lies.

The time line is a figure drawn once; each frame puts what moves on top of it, which is many times faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sabsim.errors import ConfigError

from .filmed import Episode, Picture, Reminding
from .pen import Pen
from .style import BLUE, FAINT, GREEN, INK, PURPLE, VERMILION, styled

NARROWEST, WIDEST = 480, 1600
"""Widths of a film, in pixels."""
_DESIGN = (720, 552)
"""Size that places are given for; other widths are drawn in proportion."""
_MOST_BESIDE = 6
"""Small pictures side by side, at most."""
_PALE = 0.3


def check_width(width: int) -> None:
    """Raises ConfigError: for a width that a film cannot have."""
    if not NARROWEST <= width <= WIDEST:
        raise ConfigError(f"width = {width}: must be between {NARROWEST} and {WIDEST} pixels")


class Film:
    """Frames of ``episode``, each an RGB array ``(height, width, 3)``: ``film.frame(i)`` for i in ``range(len(film))``.

    Args: ``title``: what is played, in a line. ``subtitle``: which episode. ``width``: in pixels; the height follows.

    Raises ConfigError: for a width out of range.
    """

    def __init__(self, episode: Episode, *, title: str, subtitle: str = "", width: int = 720) -> None:
        check_width(width)
        self._episode, self._scale = episode, width / _DESIGN[0]
        self._steps = len(episode.reward)
        self._return = np.cumsum(episode.reward)
        self._recalled = _by(episode.recalled, lambda event: event.step, lambda event: event.weight)
        self._replayed = _by(episode.replayed, lambda event: event.window, lambda event: event.credit)
        events = [*episode.recalled, *episode.replayed]
        self._farthest = max((event.step - event.source for event in events), default=1)
        self._most_credit = max((event.credit for event in episode.replayed), default=1.0)
        self._columns = max(map(len, [[1] * 4, *self._recalled.values(), *self._replayed.values()]))
        self._columns = min(self._columns, _MOST_BESIDE)
        self._title, self._subtitle, self._pen = title, subtitle, Pen(self._scale)
        self._moving: list[Any] = []
        self._bands: list[Any] = []
        self._present: list[Any] = []
        self._curves: list[Any] = []
        with styled():
            # Points are pixels here: a font of 12 is 12 pixels high, at the width of the design.
            self._figure = Figure(figsize=(width / 72, round(_DESIGN[1] * self._scale) / 72), dpi=72)
            self._canvas = _canvas(self._figure)
            self._time_line()
            for artist in self._moving:
                artist.set_animated(True)
            self._canvas.draw()
            self._still = self._canvas.copy_from_bbox(self._figure.bbox)

    def __len__(self) -> int:
        return len(self._episode.frames)

    def frame(self, number: int) -> Picture:
        """Frame ``number``, from 0 on. Frames can be asked for in any order."""
        t = self._episode.first + number
        self._canvas.restore_region(self._still)
        self._move_to(t)
        for artist in self._moving:
            self._figure.draw_artist(artist)
        pen = self._pen
        pen.begin(np.asarray(self._canvas.buffer_rgba()))
        pen.write(14, 20, self._title, 14, INK, bold=True)
        pen.write(14, 38, self._subtitle, 11.5, FAINT)
        pen.write(706, 38, self._where(t), 11.5, INK, anchor="rs")
        self._show_now(t, number)
        self._show_recalled(t)
        self._show_replayed(t)
        return pen.done()

    # Above the time line

    def _where(self, t: int) -> str:
        where, episode = f"step {t} of 0 to {self._steps - 1}", self._episode
        if t < self._steps - 1:
            return where
        if not episode.over:
            return f"{where} - cut here, the episode went on"
        return where + {True: " - the end: success", False: " - the end: failure", None: " - the end"}[episode.success]

    def _show_now(self, t: int, number: int) -> None:
        episode = self._episode
        self._pen.write(14, 60, "The environment now", 12, INK, bold=True)
        bottom = self._pen.show(episode.frames[number], 14, 68, 236, 192, INK, 1)
        action = int(episode.action[t])
        name = f" ({episode.action_names[action]})" if action in episode.action_names else ""
        self._pen.write(14, bottom + 16, f"action {action}{name}, then reward {episode.reward[t]:.3g}", 11.5, INK)

    def _show_recalled(self, t: int) -> None:
        episode, found = self._episode, self._recalled.get(t, [])
        title, nothing = "Recalled now", "nothing with a recall weight of 0.05 or more"
        if not episode.recalls:
            nothing = "this credit rule recalls nothing"
        captions = [f"{_ago(t - event.source)}\nweight {event.weight:.2f}" for event in found]
        self._row(54, title, nothing, BLUE, [event.source for event in found], captions)

    def _show_replayed(self, t: int) -> None:
        episode, window = self._episode, t // self._episode.window
        found = self._replayed.get(window, [])
        begin, end = window * episode.window, (window + 1) * episode.window - 1
        end = min(end, self._steps - 1) if episode.over else end
        steps = f"steps {begin}-{end}" if end > begin else f"step {end}"
        title, nothing = f"Replayed after this window ({steps}): credit went here", "nothing"
        if not episode.replays:
            title, nothing = "Replayed after this window", "this credit rule replays nothing"
        captions = [f"{_ago(t - event.source)}\ncredit {event.credit:.2g}" for event in found]
        self._row(172, title, nothing, VERMILION, [event.source for event in found], captions)

    def _row(
        self, top: float, title: str, nothing: str, colour: str, sources: Sequence[int], captions: Sequence[str]
    ) -> None:
        """Small pictures side by side with captions; the largest first, and how many more there would be."""
        left, right, gap, columns = 272.0, 706.0, 8.0, self._columns
        more = len(sources) - columns
        if more > 0:
            title = f"{title.partition(':')[0]}, + {more} more"
        self._pen.write(left, top + 6, title, 12, colour, bold=True)
        if not sources:
            self._pen.write(left, top + 30, nothing, 11.5, FAINT)
        width = (right - left - gap * (columns - 1)) / columns
        for i, (source, caption) in enumerate(zip(sources[:columns], captions, strict=False)):
            x = left + i * (width + gap)
            bottom = self._pen.show(self._episode.thumbnails[source], x, top + 14, width, 62, colour, 2.5)
            self._pen.write(x, bottom + 14, caption, 10.5, INK)

    # The time line

    def _move_to(self, t: int) -> None:
        """The present moment, this window, and the arcs of both; those of earlier ones stay, faint."""
        episode = self._episode
        window = t // episode.window
        for band, line in zip(self._bands, self._present, strict=True):
            band.set(x=window * episode.window - 0.5, width=episode.window)
            line.set_xdata([t, t])
        for curve, values in self._curves:
            curve.set_data(np.arange(t + 1), values[: t + 1])
        recalled, replayed = self._recalled.get(t, []), self._replayed.get(window, [])
        self._set_arcs(self._recall_arcs, recalled, [event.weight for event in recalled], 1)
        self._set_arcs(self._replay_arcs, replayed, [event.credit / self._most_credit for event in replayed], -1)
        self._set_past(self._recall_past, [event for event in episode.recalled if event.step < t], 1)
        self._set_past(self._replay_past, [event for event in episode.replayed if event.window < window], -1)
        walked = [Path([(e.source - e.length + 0.5, 0), (e.source + 0.5, 0)]) for e in replayed]
        self._walked.set_paths(walked)

    def _set_arcs(self, arcs: PathCollection, events: Sequence[Reminding], shares: Sequence[float], side: int) -> None:
        arcs.set_paths([_arc(event, side, self._farthest) for event in events])
        arcs.set_linewidth([(0.8 + 4 * share) * self._scale for share in shares] or [1.0])

    def _set_past(self, arcs: PathCollection, events: Sequence[Reminding], side: int) -> None:
        """One path of them all: thousands are drawn as fast as a few."""
        paths = [_arc(event, side, self._farthest) for event in events]
        arcs.set_paths([Path.make_compound_path(*paths)] if paths else [])

    def _time_line(self) -> None:
        strip, upper, lower = (self._axes(66, top, 532, height) for top, height in ((306, 84), (398, 62), (468, 46)))
        for axes in (strip, upper, lower):
            axes.set_xlim(-0.6, max(self._steps - 0.4, 1))
            axes.tick_params(labelsize=10 * self._scale, length=3 * self._scale, pad=2 * self._scale)
            self._bands.append(axes.axvspan(-0.5, 0.5, color="#EDEDED", linewidth=0))
        self._moving += self._bands
        strip.set(ylim=(-1.08, 1.08), yticks=[], xticks=[])
        strip.spines[["left", "bottom"]].set_visible(False)
        self._moving.append(strip.axhline(0, color=FAINT, linewidth=0.8 * self._scale))
        self._recall_past, self._replay_past = (self._arcs(strip, colour, _PALE) for colour in (BLUE, VERMILION))
        self._recall_arcs, self._replay_arcs, self._walked = (self._arcs(strip, c) for c in (BLUE, VERMILION, VERMILION))
        self._walked.set_linewidth([6 * self._scale])
        self._plot(upper, self._return, INK)
        self._plot(upper, self._episode.value, GREEN)
        self._plot(lower, self._episode.td_error, PURPLE)
        for axes in (upper, lower):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.margins(y=0.15)
            axes.locator_params(axis="y", nbins=3)
        for axes in (strip, upper, lower):
            self._present.append(axes.axvline(0, color=INK, linewidth=1.2 * self._scale))
        self._moving += self._present
        upper.set_xticklabels([])
        lower.set_xlabel("step of the episode", fontsize=10.5 * self._scale, labelpad=2 * self._scale)
        self._label(20, 456, "units of reward", INK, rotation=90, ha="center")
        self._label(604, 328, "recall, from now to\nthe step it reads", BLUE)
        self._label(604, 368, "replay, to the step\nthe credit goes to", VERMILION)
        self._label(604, 418, "return so far", INK)
        self._label(604, 438, "value of the state", GREEN)
        self._label(604, 490, "TD error", PURPLE)

    def _plot(self, axes: Axes, values: NDArray[np.float64], colour: str) -> None:
        """A line, pale for what is still to come."""
        width = 1.8 * self._scale
        (whole,) = axes.plot(np.arange(len(values)), values, color=colour, alpha=_PALE, linewidth=width)
        (line,) = axes.plot([0], [values[0]], color=colour, linewidth=width)
        self._curves.append((line, values))
        self._moving += [whole, line]

    def _arcs(self, axes: Axes, colour: str, alpha: float = 1.0) -> PathCollection:
        style: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "alpha": alpha, "capstyle": "butt"}
        arcs = PathCollection([], linewidth=0.8 * self._scale, transform=axes.transData, **style)
        axes.add_collection(arcs, autolim=False)
        self._moving.append(arcs)
        return arcs

    def _axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at a place of the design."""
        w, h = _DESIGN
        return self._figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))

    def _label(self, x: float, y: float, words: str, colour: str, **how: Any) -> None:
        w, h = _DESIGN
        size = 10.5 * self._scale
        self._figure.text(x / w, 1 - y / h, words, fontsize=size, color=colour, va="center", linespacing=1.15, **how)


def _canvas(figure: Figure) -> Any:
    """What the figure is drawn on. ``Any``: some of its methods have no annotations."""
    return FigureCanvasAgg(figure)


def _ago(steps: int) -> str:
    return f"{steps} step{'' if steps == 1 else 's'} ago"


def _by(events: Sequence[Any], key: Callable[[Any], int], size: Callable[[Any], float]) -> dict[int, list[Any]]:
    """The events by ``key``, each list with the largest first."""
    found: dict[int, list[Any]] = {}
    for event in sorted(events, key=size, reverse=True):
        found.setdefault(key(event), []).append(event)
    return found


def _arc(event: Reminding, side: int, farthest: int) -> Path:
    """From the recalling step to the source, above (1) or below (-1) the line, the higher the farther."""
    height = 2 * side * (0.15 + 0.85 * (event.step - event.source) / max(farthest, 1))
    middle = (event.step + event.source) / 2
    return Path([(event.step, 0), (middle, height), (event.source, 0)], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
