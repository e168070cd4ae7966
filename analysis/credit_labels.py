"""More credit from rewarded triggers? Labels (rewarded, or answered wrongly) among comparable triggers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import ConfigError, RunFolderError

from .contrasts import comparable, strata_of
from .recorded import Recorded, keys
from .statistics import Outcome, label_permutation

_MOST_DRAWS = 20_000_000
"""Events times permutations of their labels, at most."""


@dataclass(frozen=True, kw_only=True)
class Triggers:
    """Of each triggering step: `credit` (mean log10 over its replays), `label`, and `strata` `(triggers, 4)`."""

    credit: NDArray[np.float64]
    label: NDArray[np.bool_]
    strata: NDArray[np.int64]


def triggers(run: Recorded) -> Triggers:
    """Triggers whose label is known. One that replays several sources counts once: they share its outcome."""
    label, known = run.labels()
    use = (run.replays["credit"] > 0) & known
    replays = {name: column[use] for name, column in run.replays.items()}
    _, first, trigger = np.unique(keys(replays["stream"], replays["step"]), return_index=True, return_inverse=True)
    credit = np.bincount(trigger, weights=np.log10(replays["credit"])) / np.bincount(trigger)
    step, position, row = (replays[name][first] for name in ("step", "position", "row"))
    return Triggers(credit=credit, label=label[use][first], strata=strata_of(run, step, position, row))


def credit_difference(run: Recorded) -> float:
    """Mean log10 credit of labelled triggers minus that of comparable others, in one run.

    Raises RunFolderError: if nothing was replayed, or no labelled trigger has a comparable one without the label.
    """
    run.need_replays()
    found = triggers(run)
    pairs = comparable(found.label, found.strata)
    if not pairs.use.any():
        raise RunFolderError(f"'{run.run.path}': no comparable triggers with both outcomes")
    return pairs.difference(found.credit)


def permuted_credit(runs: Sequence[Recorded], *, draws: int = 2000, seed: int = 0) -> Outcome | str:
    """The same of all runs together, tested by permuting labels among comparable triggers of each seed.

    The test is about these runs, not about other seeds; for those, `credit_difference` of each is one value of a sign-flip
    test. Returns the reason instead if there is nothing to compare.
    """
    parts = [triggers(run) for run in runs]
    seeds = np.concatenate([np.full(len(part.label), number) for number, part in enumerate(parts)])
    if not len(seeds):
        return "no replay is recorded whose outcome is known"
    strata = np.unique(np.concatenate([part.strata for part in parts]), axis=0, return_inverse=True)[1].reshape(-1)
    values, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("credit", "label"))
    affordable = max(99, min(draws, _MOST_DRAWS // len(values)))
    try:
        return label_permutation(values, labels, seeds=seeds, strata=strata, draws=affordable, seed=seed)
    except ConfigError as error:
        return str(error).removeprefix("labels: ")
