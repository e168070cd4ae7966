"""What each step of a sequence recalls early, midway and late in training: the SAB paper's Figure 3, for any run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

from .causal import PARTS
from .contrasts import fixed_length
from .recorded import Recorded, keys

_LONGEST = 1000
"""Steps of a sequence at most: a map has so many rows and columns."""


@dataclass(frozen=True, kw_only=True)
class RecallMap:
    """Mean recall weight `(PARTS, length, length)` that a position (row) gives to an earlier one (column), by thirds.

    `episodes` `(PARTS,)`: how many sequences each is the mean of. Weights below the recorder's least one count as 0.
    """

    weight: NDArray[np.float64]
    episodes: NDArray[np.int64]


def recall_map(run: Recorded) -> RecallMap:
    """The remindings of recorded sequences by position, in thirds of the training that is recorded.

    Raises RunFolderError: if no single step or reminding was recorded, or sequences differ in length or are too long.
    """
    run.need_steps()
    if not len(run.remindings["step"]):
        raise RunFolderError(f"'{run.run.path}': no reminding is recorded (credit {run.credit})")
    length = fixed_length(run)
    if length is None:
        raise RunFolderError(f"'{run.run.path}': sequences differ in length; positions cannot be compared")
    if length > _LONGEST:
        raise RunFolderError(f"'{run.run.path}': sequences have {length:,} steps; a map is drawn of up to {_LONGEST:,}")
    steps, found = run.steps, run.remindings
    last = int(steps["step"].max()) + 1
    sequence = keys(steps["stream"], steps["episode"])
    begun = steps["position"] == 0
    third = len(PARTS) * steps["step"][begun] // last
    of_sequence = dict(zip(sequence[begun].tolist(), third.tolist(), strict=True))
    part = np.array([of_sequence.get(key, -1) for key in keys(found["stream"], found["episode"]).tolist()])
    source = found["position"] - found["lag"]
    use = (part >= 0) & (found["position"] < length)
    weight = np.zeros((len(PARTS), length, length))
    np.add.at(weight, (part[use], found["position"][use], source[use]), found["weight"][use])
    episodes = np.bincount(third, minlength=len(PARTS))
    return RecallMap(weight=weight / np.maximum(episodes, 1)[:, None, None], episodes=episodes)
