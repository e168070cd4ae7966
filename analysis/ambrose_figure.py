"""The picture of the Ambrose experiment: rates at the changed end by epoch, effects of every arm, and the time course."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .ambrose import EPOCHS, PUBLISHED, Finding, published_effect
from .ends import KINDS, MEASURES, Animal
from .statistics import mean_interval
from .style import BLUE, FAINT, GREEN, INK, ORANGE, VERMILION, styled

SESSIONS = {"4x": "four times the reward", "0x": "no reward", "equal": "no change (control)"}
_LOOK = {
    "replay": (BLUE, "o", "replay (stands for reverse)"),
    "credit": (GREEN, "^", "credit replayed"),
    "reminding": (ORANGE, "s", "reminding (stands for forward)"),
}
_SHOWN = {"sab": "SAB as it is", "threshold": "with replay threshold"}
_PER_CENT = (-94, -75, -50, 0, 100, 300, 1500, 6300)
_APART = 0.25
"""Vertical distance between the measures of an arm."""


def ambrose_figure(animals: Sequence[Animal], findings: Sequence[Finding], *, title: str) -> Figure:
    """A row for each kind of session: rates by epoch, as it is and with the threshold; effects; time course.

    Arguments:
        animals: of the arms `sab` and `threshold` for the first and last columns; a panel without any stays empty
        findings: of all arms, per lap
    """
    sessions = [session for session in SESSIONS if any(animal.session == session for animal in animals)]
    with styled():
        figure = Figure(figsize=(14.5, 0.9 + 3.2 * len(sessions)), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left")
        panels = figure.subplots(len(sessions), 4, squeeze=False, gridspec_kw={"width_ratios": [1, 1, 1.35, 1.1]})
        for row, session in zip(panels, sessions, strict=True):
            for axes, (arm, words) in zip(row[:2], _SHOWN.items(), strict=True):
                _by_epoch(axes, _of(animals, arm, session), session, f"{SESSIONS[session]}: {words}")
            _effects(row[2], [f for f in findings if f.session == session and f.per == "lap"], session)
            _course(row[3], _of(animals, "threshold", session), session)
        _common_limits(panels[:, 2].tolist())
        shown: dict[str, Any] = {}
        for axes in (*panels[:, 0], panels[0, 2]):
            shown |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        figure.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _of(animals: Sequence[Animal], arm: str, session: str) -> list[Animal]:
    return [animal for animal in animals if (animal.arm, animal.session) == (arm, session)]


def _by_epoch(axes: Axes, animals: Sequence[Animal], session: str, title: str) -> None:
    """Rate per lap at the changed end against the other one, each animal a dot, and the published values as diamonds."""
    for shift, kind in zip((-0.1, 0.1), KINDS, strict=True):
        colour, marker, words = _LOOK[kind]
        columns = [[r for a in animals if (r := a.ratio(kind, epoch)) is not None] for epoch in range(3)]
        for epoch, values in enumerate(columns):
            axes.plot(np.full(len(values), epoch + shift), values, marker, color=colour, alpha=0.25, ms=3, mew=0)
        if all(columns):
            means = [float(np.mean(values)) for values in columns]
            axes.plot(np.arange(3) + shift, means, marker + "-", color=colour, ms=6, label=words)
        if (session, kind) in PUBLISHED:
            known = np.log(1 + np.array(PUBLISHED[session, kind]) / 100)
            label = f"rats, {'reverse' if kind == 'replay' else 'forward'}"
            axes.plot([shift * 2.6, 1 + shift * 2.6], known, "D", color=colour, mfc="white", mew=1.4, ms=6, label=label)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_xticks(range(3), EPOCHS)
    _in_per_cent(axes)
    axes.set(title=title, xlabel="epoch", xlim=(-0.5, 2.5))
    axes.set_ylabel("rate per lap at the changed end\nagainst the other end (%)")


def _effects(axes: Axes, findings: Sequence[Finding], session: str) -> None:
    """Effect of each arm: its mean and interval over animals; published ones as diamonds."""
    arms = list(dict.fromkeys(finding.arm for finding in findings))[::-1]
    for place, arm in enumerate(arms):
        for kind, shift in zip(MEASURES, (_APART, 0, -_APART), strict=True):
            for finding in findings:
                if (finding.arm, finding.what) == (arm, kind) and finding.interval:
                    _effect(axes, finding, place + shift, *_LOOK[kind][:2])
    for kind, shift in zip(KINDS, (0.15, -0.15), strict=True):
        if (session, kind) in PUBLISHED:
            where = (published_effect(session, kind), len(arms) + shift)
            axes.plot(*where, "D", color=_LOOK[kind][0], mfc="white", mew=1.4, ms=6)
    names = [*arms, *(["rats (published)"] if session in ("4x", "0x") else [])]
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set(title="effect of the change", ylim=(-0.6, len(names) - 0.4))
    axes.set_xlabel("ln rate ratio in the changed epoch minus the others")


def _common_limits(panels: Sequence[Axes]) -> None:
    limits = np.array([axes.get_xlim() for axes in panels])
    for axes in panels:
        axes.set_xlim(limits[:, 0].min(), limits[:, 1].max())


def _effect(axes: Axes, finding: Finding, height: float, colour: str, marker: str) -> None:
    assert finding.interval is not None
    values = list(finding.values.values())
    axes.plot(values, np.full(len(values), height), marker, color=colour, alpha=0.25, ms=3, mew=0)
    if finding.interval.low is not None and finding.interval.high is not None:
        axes.plot([finding.interval.low, finding.interval.high], [height] * 2, color=colour, linewidth=2)
    axes.plot(finding.interval.estimate, height, marker, color=colour, ms=6, label=_LOOK[finding.what][2])


def _course(axes: Axes, animals: Sequence[Animal], session: str) -> None:
    """Replays at each visit of an end, visit by visit in the changed epoch."""
    for changed, colour, words in ((True, VERMILION, "changed end"), (False, GREEN, "other end")):
        rows = []
        for animal in animals:
            v = animal.visits
            mine = (v.epoch == 1) & (v.changed == changed)
            most = int(v.lap[mine].max()) + 1 if mine.any() else 0
            rows.append([float(v.replay[mine & (v.lap == lap)].mean()) for lap in range(most)])
        laps = min((len(row) for row in rows), default=0)
        if not laps:
            continue
        table = np.array([row[:laps] for row in rows])
        found = [mean_interval(column) for column in table.T]
        where = np.arange(1, laps + 1)
        axes.plot(where, [item.estimate for item in found], "o-", color=colour, ms=4, label=words)
        if all(item.low is not None for item in found):
            low, high = ([float(getattr(item, side)) for item in found] for side in ("low", "high"))
            axes.fill_between(where, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set(title="with threshold, visit by visit", ylim=(0, None))
    axes.set(xlabel="visit of the end in the changed epoch", ylabel="replays per visit")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if session == "4x" and axes.lines:
        axes.legend(fontsize=8, frameon=False)


def _in_per_cent(axes: Axes) -> None:
    """A logarithmic axis with its ticks as differences in per cent."""
    low, high = axes.get_ylim()
    low, high = min(low, -1.0) - 0.3, max(high, 1.0) + 0.3
    shown = [number for number in _PER_CENT if low <= np.log(1 + number / 100) <= high]
    axes.set_yticks([np.log(1 + number / 100) for number in shown], [f"{number:+d}" if number else "0" for number in shown])
    axes.set_ylim(low, high)
    axes.tick_params(axis="y", colors=INK)
