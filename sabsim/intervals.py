"""95 % confidence intervals of means over seeds: of the few runs of a sweep or a table."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np


def over_seeds(
    scores: Sequence[float], bounds: tuple[float, float] = (-inf, inf)
) -> tuple[float, float] | tuple[None, None]:
    """Ends of the 95 % interval of the mean of ``scores``, one of each seed.

    Student's t, as seeds are too few for a bootstrap. None with one seed; the mean itself where all are equal. It is cut
    at ``bounds``, the least and the greatest that a score can be: the true mean lies between them, so that the interval
    covers it as often as before.
    """
    # Here and not above: it takes longer to load than many a command takes.
    from scipy import stats

    if len(scores) < 2:
        return None, None
    mean = float(np.mean(scores))
    if np.ptp(scores) == 0:
        return mean, mean
    low, high = stats.t.interval(0.95, len(scores) - 1, mean, stats.sem(scores))
    return max(float(low), bounds[0]), min(float(high), bounds[1])
