"""The question of Ambrose, Pfeiffer & Foster (2016): does a changed reward change replay at its end, and which replay?

Within one event SAB's backtracking runs backwards by construction, so replay stands for reverse replay here and reminding,
which acts forward, for forward replay: a correspondence of roles, not of measured sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .ends import MEASURES, Animal
from .statistics import Interval, Outcome, benjamini_hochberg, mean_interval, sign_flip

EPOCHS = ("before", "changed", "after")
UNITS = ("lap", "stationary step")
PUBLISHED: dict[tuple[str, str], tuple[float, float]] = {
    ("4x", "replay"): (-36.0, 56.0),
    ("4x", "reminding"): (-11.0, -3.0),
    ("0x", "replay"): (-1.0, -88.0),
    ("0x", "reminding"): (13.0, -83.0),
}
"""Of session and direction (reverse stands at replay, forward at reminding): rates at the changed end against the other,
in per cent, before and during the change; as quoted and modelled by Mattar & Daw 2018 (Nat. Neurosci. 21, 1609)."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number over the animals of an arm and session.

    `what`: one of `MEASURES` or `interaction`; `per` lap or stationary step; `values` by seed, `left_out` those that
    had none; their mean and `interval`; the sign-flip `test`, None with fewer than two; `q`: p adjusted over all findings.
    """

    arm: str
    session: str
    what: str
    per: str
    values: dict[int, float]
    left_out: tuple[int, ...]
    interval: Interval | None
    test: Outcome | None
    q: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As `stats.json` holds it."""
        return asdict(self)


def published_effect(session: str, kind: str) -> float:
    """The effect in rats, on the scale of `Animal.effect`: ln rate ratio during the change minus before."""
    before, during = (float(np.log(1 + number / 100)) for number in PUBLISHED[session, kind])
    return during - before


def findings(animals: Sequence[Animal], *, seed: int = 0) -> list[Finding]:
    """Effects and interactions of every arm and session over its animals, with q over all that could be tested."""
    found = []
    groups = dict.fromkeys((animal.arm, animal.session) for animal in animals)
    for arm, session in groups:
        mine = [animal for animal in animals if (animal.arm, animal.session) == (arm, session)]
        for per in UNITS:
            for what in (*MEASURES, "interaction"):
                values = {a.seed: a.interaction(per) if what == "interaction" else a.effect(what, per) for a in mine}
                found.append(_finding(arm, session, what, per, values, seed))
    return _adjusted(found)


def contrast(animals: Sequence[Animal], arm: str, session: str, what: str, per: str = "lap") -> dict[int, float]:
    """Per seed: an effect in `session` minus the same animal's in sessions in which nothing changed (the control)."""
    by = {(a.session, a.seed): a for a in animals if a.arm == arm}
    values: Mapping[tuple[str, int], float | None] = {
        key: a.interaction(per) if what == "interaction" else a.effect(what, per) for key, a in by.items()
    }
    found = {}
    for (kind, number), value in values.items():
        other = values.get(("equal", number))
        if kind == session and value is not None and other is not None:
            found[number] = value - other
    return found


def _finding(arm: str, session: str, what: str, per: str, values: Mapping[int, float | None], seed: int) -> Finding:
    known = {number: value for number, value in values.items() if value is not None}
    numbers = list(known.values())
    return Finding(
        arm=arm,
        session=session,
        what=what,
        per=per,
        values=known,
        left_out=tuple(number for number, value in values.items() if value is None),
        interval=mean_interval(numbers, seed=seed) if numbers else None,
        test=sign_flip(numbers, seed=seed) if len(numbers) > 1 else None,
    )


def _adjusted(found: list[Finding]) -> list[Finding]:
    tested = [finding for finding in found if finding.test]
    if not tested:
        return found
    q = iter(benjamini_hochberg([finding.test.p for finding in tested if finding.test]).tolist())
    return [Finding(**{**vars(finding), "q": next(q)}) if finding.test else finding for finding in found]
