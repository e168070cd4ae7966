"""What was measured, as numbers in a few lines, as JSON and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sabsim.errors import StorageError

from .measure import RULES, Measured, Recalled


def describe(measured: Measured) -> dict[str, Any]:
    """The figures of each rule and of each forward pass.

    Of a rule, means over steps and sequences: ``needed``, |dL/dh| at the steps that a scored one needs; ``others``, at the
    rest, scored steps left out; ``without``, share of the needed steps that get none at all; ``cosine``, with full BPTT's
    at the needed steps that get some; ``loss``.
    """
    needed, scored = measured.needed(), measured.scored()
    rules = {}
    for rule in measured.gradient:
        norm, cosine = measured.norm(rule), measured.cosine(rule)[needed]
        some = np.isfinite(cosine)
        rules[rule] = {
            "what": RULES[rule],
            "needed": float(norm[needed].mean()),
            "others": float(norm[~(needed | scored)].mean()),
            "without": float((norm[needed] == 0).mean()),
            "cosine": float(cosine[some].mean()) if some.any() else None,
            "loss": float(measured.loss[rule].mean()),
        }
    recalled = {name: [_summary(item) for item in items] for name, items in measured.recalled.items()}
    return {"rules": rules, "recall": recalled, "left_out": measured.left_out}


def _summary(item: Recalled) -> dict[str, Any]:
    reached = item.to_sources[item.to_sources > 0]
    return {
        "least_weight": item.least,
        "kappa_mean": float(item.kappa.mean()),
        "kappa_max": int(item.kappa.max()),
        "d": int(item.depth.max()),
        "d_to_needed": int(reached.max()) if len(reached) else None,
        "needed_reached": float((item.to_sources > 0).mean()) if len(item.to_sources) else None,
    }


def as_rows(measured: Measured) -> list[list[Any]]:
    """A line for every step of every sequence, under a line of titles; |dL/dh| by rule."""
    names, needed, scored = list(measured.gradient), measured.needed(), measured.scored()
    norms = np.stack([measured.norm(rule) for rule in names], axis=2)
    kappas = {
        f"kappa_{name}_above_{item.least:g}": item.kappa for name, items in measured.recalled.items() for item in items
    }
    rows: list[list[Any]] = [["sequence", "step", "needed", "scored", *names, *kappas]]
    for b, t in np.ndindex(*needed.shape):
        counted = [int(kappa[b, t]) for kappa in kappas.values()]
        rows.append([b, t, int(needed[b, t]), int(scored[b, t]), *(f"{value:.6g}" for value in norms[b, t]), *counted])
    return rows


def write_gradients(measured: Measured, about: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes ``gradients.json`` and ``gradients.csv``; returns their paths.

    Raises StorageError: if the disk refuses.
    """
    paths = [folder / f"gradients.{kind}" for kind in ("json", "csv")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(json.dumps({**about, **describe(measured)}, indent=1, allow_nan=False) + "\n")
        with paths[1].open("w", newline="") as file:
            csv.writer(file).writerows(as_rows(measured))
    except OSError as error:
        raise StorageError(f"'{folder}': {error.strerror or error}; free space or give another --out") from error
    return paths
