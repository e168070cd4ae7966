"""Sparsity and depth of what is recalled: kappa and d of Kerg et al. 2020 (arXiv 2006.09471), as they are computed here.

A step is said to recall a source if the source's microstate has a weight above a least one in its summary. *Sparsity*
kappa of a step is how many it recalls. A *chain* from step t to source i is a sequence of recalls: t recalls i_1, the step
whose recall went into i_1 recalls i_2, and so on, the last one i; its length is the number of recalls. What went into a
microstate is the recall of the step before it where microstates are h_hat (formed before recall), of its own step where
they are h, and none where they are h_hat and the next step gets h_hat too: there no chain is longer than 1. *Depth* d is
the longest, over all pairs that are connected, of their shortest chains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Recalls = Sequence[Mapping[int, float]]
"""For each step, source step -> recall weight."""


def sparsity(recalls: Recalls, *, least: float = 0.0) -> NDArray[np.int64]:
    """How many microstates each step recalls with a weight above ``least``, shape ``(steps,)``."""
    return np.array([sum(weight > least for weight in recalled.values()) for recalled in recalls], dtype=np.int64)


def chains(recalls: Recalls, *, behind: int | None, least: float = 0.0) -> NDArray[np.int64]:
    """Length of the shortest chain from each step to each source, shape ``(steps, steps)``; 0 where there is none.

    ``behind``: how many steps before its own the recall went into a microstate, None: none went in.
    """
    steps = len(recalls)
    never = 2 * steps + 2
    shortest: NDArray[Any] = np.full((steps, steps), never, dtype=np.int64)
    for step, recalled in enumerate(recalls):  # recall looks back only, so what lies on the way is known already
        for source, weight in recalled.items():
            if weight <= least:
                continue
            if behind is not None and (before := source - behind) >= 0:
                np.minimum(shortest[step], shortest[before] + 1, out=shortest[step])
            shortest[step, source] = 1
    return np.where(shortest < never, shortest, 0)
