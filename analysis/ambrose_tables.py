"""What the Ambrose experiment found, as `stats.json` and tidy CSV tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sabsim.errors import StorageError

from .ambrose import PUBLISHED, Finding, contrast
from .ends import MEASURES, Animal
from .statistics import mean_interval, sign_flip

_COUNTS = ("epoch", "changed", "laps", "steps", "replay", "reminding", "credit", "td_error")


def statistics(animals: Sequence[Animal], findings: Sequence[Finding], about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was found as JSON can hold it; `about`: what was run, on what."""
    return {
        "about": dict(about),
        "published_per_cent": {f"{session} {kind}": list(values) for (session, kind), values in PUBLISHED.items()},
        "findings": [finding.to_json() for finding in findings],
        "against_equal_sessions": [_against_equal(animals, arm, session) for arm, session in _controlled(animals)],
        "behaviour": [_behaviour(animals, arm, session) for arm, session in _groups(animals)],
    }


def write(animals: Sequence[Animal], findings: Sequence[Finding], stats: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes `stats.json`, `ends.csv` (counts of every animal, epoch and end) and `effects.csv` (an effect a row).

    Raises:
        StorageError: the disk refuses
    """
    ends = [(a.arm, a.session, a.seed, *(_plain(asdict(end)[name]) for name in _COUNTS)) for a in animals for end in a.ends]
    effects = [(f.arm, f.session, f.what, f.per, number, value) for f in findings for number, value in f.values.items()]
    tables: dict[str, tuple[tuple[str, ...], Iterable[Any]]] = {
        "ends.csv": (("arm", "session", "seed", *_COUNTS), ends),
        "effects.csv": (("arm", "session", "what", "per", "seed", "ln_ratio_change"), effects),
    }
    paths = [folder / "stats.json", *(folder / name for name in tables)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(json.dumps(stats, indent=1, allow_nan=False) + "\n")
        for path, (titles, rows) in zip(paths[1:], tables.values(), strict=True):
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([titles, *rows])
    except OSError as error:
        raise StorageError(f"'{folder}': {error.strerror or error}; free space or give another --out") from error
    return paths


def _plain(value: Any) -> Any:
    """An empty field for what is not a number."""
    return None if value != value else value


def _groups(animals: Sequence[Animal]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((animal.arm, animal.session) for animal in animals))


def _controlled(animals: Sequence[Animal]) -> list[tuple[str, str]]:
    """Arms and sessions whose animals also had sessions in which nothing changed."""
    groups = _groups(animals)
    return [(arm, session) for arm, session in groups if session != "equal" and (arm, "equal") in groups]


def _against_equal(animals: Sequence[Animal], arm: str, session: str) -> dict[str, Any]:
    """Effects minus the same animals' effects in equal sessions: what the change did beyond drift and labels."""
    found: dict[str, Any] = {"arm": arm, "session": session}
    for what in (*MEASURES, "interaction"):
        values = list(contrast(animals, arm, session, what).values())
        found[what] = asdict(sign_flip(values)) if len(values) > 1 else None
    return found


def _behaviour(animals: Sequence[Animal], arm: str, session: str) -> dict[str, Any]:
    """Whether the animals ran: laps per 1,000 steps, and sessions; of the credit and TD error at the changed end."""
    mine = [animal for animal in animals if (animal.arm, animal.session) == (arm, session)]
    found: dict[str, Any] = {"arm": arm, "session": session, "sessions": [animal.sessions for animal in mine]}
    for epoch in range(3):
        for changed in (True, False):
            ends = [next(e for e in a.ends if (e.epoch, e.changed) == (epoch, changed)) for a in mine]
            name = f"epoch {epoch + 1}, {'changed' if changed else 'other'} end"
            rows: dict[str, list[float]] = {
                "laps": [end.laps for end in ends],
                "stationary steps per lap": [end.steps / end.laps for end in ends if end.laps],
                "replays per lap": [end.replay / end.laps for end in ends if end.laps],
                "remindings per lap": [end.reminding / end.laps for end in ends if end.laps],
                "credit per lap": [end.credit / end.laps for end in ends if end.laps],
                "abs TD error on arrival": [end.td_error for end in ends if end.laps],
            }
            found[name] = {what: mean_interval(row).estimate if row else None for what, row in rows.items()}
    return found
