"""The numbers of one or several runs as JSON can hold them: `stats.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .replay_labels import label
from .replay_summary import Across, RunSummary
from .statistics import Outcome


def as_json(
    summaries: Sequence[RunSummary], across: Sequence[Across], labels: Outcome | str, **further: Any
) -> dict[str, Any]:
    """Each run's numbers, what they say over seeds, and whatever else there is, by name; arrays are in the CSV tables."""
    task = summaries[0].task
    return {
        "runs": [_run(summary) for summary in summaries],
        "across": {
            item.name: {
                "label": label(item.name, task=task),
                "interval": asdict(item.interval),
                "test": asdict(item.test) if item.test else None,
                "q": item.q,
            }
            for item in across
        },
        "log10_credit_rewarded_minus_others": labels if isinstance(labels, str) else asdict(labels),
        **further,
    }


def plain(value: Any) -> Any:
    """Dataclasses' dicts with arrays as lists and what is not finite as `None`."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _run(summary: RunSummary) -> dict[str, Any]:
    run = summary.run
    tables = {"steps": run.steps, "replays": run.replays, "remindings": run.remindings, "episodes": run.episodes}
    return {
        "run": run.name,
        "what": run.what,
        "credit": run.credit,
        "seed": run.seed,
        "finished": bool(run.run.summary),
        "recorded": {name: len(table["stream"]) for name, table in tables.items()},
        "left_out": run.left_out,
        "values": summary.values(),
        "rates": plain(asdict(summary.rates)) if summary.rates else None,
        "causal": plain(asdict(summary.causal)) if summary.causal else None,
        "sequences": plain(asdict(summary.sequences)) if summary.sequences else None,
        "experience": plain(asdict(summary.experience)) if summary.experience else None,
        "missing": summary.missing,
    }
