"""What is recalled early in training, while the accuracy climbs, and late: the numbers behind the recall map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sabsim.errors import RunFolderError

from .folders import Curve, Floats, Run

_SHARE = 0.1
"""Share of the recorded sequences that each phase is the mean of."""
_CLIMB = 0.1
"""A curve that rises by less has no climb."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of training.

    `name`; `first`, `last`: training sequences at the beginning of its first and last recorded one, `recorded` of them;
    `accuracy`: held-out, midway; `weight` `(length, length)`: mean recall weight, recalling by recalled step.
    """

    name: str
    first: float
    last: float
    recorded: int
    accuracy: float
    weight: Floats

    @property
    def title(self) -> str:
        """Which part, when, and how well the task was done, in three lines."""
        when = f"{self.first:,.0f}" if self.recorded == 1 else f"{self.first:,.0f} to {self.last:,.0f}"
        return f"{self.name}\n{when} training sequences\nheld-out accuracy {100 * self.accuracy:.0f} %"

    def onto(self, causal: Mapping[int, int]) -> tuple[float, float]:
        """Mean weight, over the recalling steps of `causal`, on the step each needs, and on any step that one needs.

        Weights too small to be recorded count as 0.
        """
        rows, wanted = np.array([*causal]), np.array([*causal.values()])
        return float(self.weight[rows, wanted].mean()), float(self.weight[np.ix_(rows, wanted)].sum(axis=1).mean())


def recall_phases(run: Run) -> list[Phase]:
    """Early, around the climb (or midway, if there was none), and late; each a tenth of the recorded sequences.

    Raises:
        RunFolderError: no recorded sequences, or a damaged folder
    """
    episodes = run.episodes()
    if not len(episodes):
        raise RunFolderError(f"'{run.path}': no recorded sequences; run it with --record-streams 1 or more")
    curve, n = run.curve(), len(episodes)
    count = max(1, round(_SHARE * n))
    climb = _climb(curve)
    centre = n // 2 if climb is None else int(np.searchsorted(episodes.sequences, climb))
    middle = int(np.clip(centre - count // 2, 0, n - count))
    starts = {"Early": 0, "Midway" if climb is None else "While accuracy climbs": middle, "Late": n - count}
    phases = []
    for name, begin in starts.items():
        chosen = episodes.part(begin, count)
        first, last = float(chosen.sequences[0]), float(chosen.sequences[-1])
        seen = run.remindings(chosen)
        weight = np.zeros((run.length(), run.length()))
        np.add.at(weight, (seen.position, seen.recalled), seen.weight / count)
        accuracy = curve.at((first + last) / 2)
        phases.append(Phase(name=name, first=first, last=last, recorded=count, accuracy=accuracy, weight=weight))
    return phases


def causal_steps(run: Run) -> dict[int, int]:
    """For each scored step the one at which its answer was shown, if the task fixes that: output i, shown at i."""
    if run.config.get("task") != "copying":
        return {}
    return {int(position): i for i, position in enumerate(run.scored_positions())}


def _climb(curve: Curve) -> float | None:
    """After how many sequences the curve is first half way up to its peak; None if it does not rise."""
    upto_peak = curve.metric[: int(curve.metric.argmax()) + 1]
    low, high = float(upto_peak.min()), float(upto_peak[-1])
    if high - low < _CLIMB:
        return None
    bottom = int(upto_peak.argmin())
    return float(curve.sequences[bottom + int(np.argmax(upto_peak[bottom:] >= (low + high) / 2))])
