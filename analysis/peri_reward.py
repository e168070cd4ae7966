"""Replay around reward (or around the steps that a task scores), against comparable steps that were not paid.

The histogram by itself shows the clock: updates come every window, and the first steps of an episode trigger nothing. So
the rate around paid steps is set against that around unpaid steps of the same part of training, position in the episode,
place in the window and, where told, place in the environment (`contrasts.strata_of`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .contrasts import Comparable, comparable, strata_of
from .recorded import Recorded, keys
from .statistics import LogRatio, log_rate_ratio

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Of `marks` paid steps with comparable unpaid ones: triggers per step around them, and around the comparable ones.

    `rate`, `expected` `(offsets,)`, NaN where there are no steps. `near`: logarithm of the ratio of the two, at most a
    window before or after; 0 if replay does not care whether a step was paid. `None` if nothing was replayed around
    either. `at`: the same of the paid step and the one after it, at which the reward is first seen: updates replay about
    as much in each window, so that more replay at a step can leave its window's rate as it was. `counts`: what `near` is
    made of: triggers and steps near paid steps, and the same expected of comparable ones.
    """

    marks: int
    rate: Floats
    expected: Floats
    near: LogRatio | None
    at: LogRatio | None
    counts: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class PeriReward:
    """Replays triggered per step, `rate` `(offsets,)`, at `offset` steps from a paid step of the same episode.

    `steps` is how many recorded steps lie there, and `rate` is NaN where there are none; a step may lie at two offsets.
    `mean`: over all recorded steps. `near`: logarithm of the ratio of the rates at most `window` steps before or after a
    paid one and farther away; `None` if one of the two has no steps or both no replay. It is not 0 if replay knows nothing:
    `matched` is for that, `None` where no unpaid step is comparable.
    """

    rewards: int
    offset: Ints
    steps: Ints
    rate: Floats
    mean: float
    window: int
    near: LogRatio | None
    matched: Matched | None


def peri_reward(run: Recorded, *, reach: int = 20) -> PeriReward:
    """Replay triggers around paid steps (of a task: scored ones), up to `reach` before and after, in recorded episodes.

    Raises RunFolderError: if nothing was replayed, or no recorded step was paid.
    """
    run.need_replays()
    run.need_marks()
    replays, offsets = run.steps["replays"], np.arange(-reach, reach + 1)
    at = np.stack([_row_at(run, offset) for offset in offsets.tolist()])
    paid = run.marks()
    there = at[:, paid]
    steps = (there >= 0).sum(axis=1)
    count = np.where(there >= 0, replays[there], 0).sum(axis=1)
    near = np.zeros(len(paid), dtype=bool)
    around = there[np.abs(offsets) <= run.window]
    near[around[around >= 0]] = True
    return PeriReward(
        rewards=int(paid.sum()),
        offset=offsets,
        steps=steps,
        rate=_ratio(count, steps),
        mean=float(replays.mean()),
        window=run.window,
        near=_log_ratio(replays[near].sum(), near.sum(), replays[~near].sum(), (~near).sum()),
        matched=_matched(run, at, offsets),
    )


def _matched(run: Recorded, at: Ints, offsets: Ints) -> Matched | None:
    """`at` `(offsets, steps)`: rows at each of the `offsets` from each step, or -1."""
    steps = run.steps
    pairs = comparable(run.marks(), strata_of(run, steps["step"], steps["position"], np.arange(len(steps["step"]))))
    if not pairs.use.any():
        return None
    present = at >= 0
    triggered = np.where(present, steps["replays"][at], 0)
    count, expected_count = _sums(pairs, triggered)
    exposure, expected_exposure = _sums(pairs, present)
    near, seen = np.abs(offsets) <= run.window, (offsets == 0) | (offsets == 1)
    sums = (count, exposure, expected_count, expected_exposure)
    here, there, other, elsewhere = (float(part[near].sum()) for part in sums)
    return Matched(
        marks=int(pairs.labels.sum()),
        rate=_ratio(count, exposure),
        expected=_ratio(expected_count, expected_exposure),
        near=_log_ratio(here, there, other, elsewhere),
        at=_log_ratio(*(float(part[seen].sum()) for part in sums)),
        counts=(here, there, other, elsewhere),
    )


def _sums(pairs: Comparable, values: NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Observed and expected sums around labelled steps, of `values` `(offsets, steps)`; each `(offsets,)`."""
    observed, expected = np.array([pairs.matched(row) for row in values]).T
    return observed, expected


def _row_at(run: Recorded, offset: int) -> Ints:
    """The row so many steps after each recorded step, in the same episode, or -1; `(steps,)`."""
    steps = run.steps
    known = keys(steps["stream"], steps["step"])
    found = np.minimum(np.searchsorted(known, known + offset), len(known) - 1)
    same = (known[found] == known + offset) & (steps["episode"][found] == steps["episode"])
    return np.where(same, found, -1)


def _ratio(count: NDArray[np.generic], steps: NDArray[np.generic]) -> Floats:
    return np.divide(count, steps, out=np.full(len(steps), np.nan), where=np.asarray(steps) > 0)


def _log_ratio(count: float, exposure: float, other_count: float, other_exposure: float) -> LogRatio | None:
    if min(exposure, other_exposure) <= 0 or count + other_count <= 0:
        return None
    return log_rate_ratio(count, exposure, other_count, other_exposure)
