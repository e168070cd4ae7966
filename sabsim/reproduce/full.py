"""The tables at the size of the paper: several passes of the data, and for text, on a GPU, more units and many streams.

Many streams make an update of many gradients, so step sizes of the texts are those of large batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sabsim.tasks import CharLM

from .table import Row


@dataclass(frozen=True, kw_only=True)
class Full:
    """What the runs of a table at full size have: options that differ from the task's recipe, most sequences, a note.

    ``rows``: such as there are at this size only.
    """

    learner: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    run: Mapping[str, Any]
    budget: int
    note: str
    rows: tuple[Row, ...] = ()


_UNITS = 1000
"""Hidden units that the paper has for texts."""
_LARGE_BATCH = {"lr_schedule": "cosine", "warmup_updates": 200, "amsgrad": False, "eps": 1e-8}


def _text(budget: int, passes: int, rows: tuple[Row, ...] = ()) -> Full:
    return Full(
        learner={
            "hidden": _UNITS,
            "retention": "recent",
            "slots": 32,
            "forget_bias": 1.0,
            "input_scale": 0.3,
            "explore": 0.0,
            "dropout": 0.2,
        },
        optimizer={"lr": 3e-3, **_LARGE_BATCH},
        run={"streams": 128, "eval_every": 25_000, "eval_sequences": 1_280, "checkpoint_every": 150_000, "tf32": True},
        rows=rows,
        budget=budget,
        note=f"n = 1,000 as in the paper, 128 streams, {passes} passes of the training text unless said otherwise.",
    )


def _on_a_cpu(*, streams: int, budget: int, fall: int, hidden: int = _UNITS) -> tuple[Row, ...]:
    """What two hours of a CPU allow: fewer streams than on a GPU, so more updates, and at most one pass, so no dropout.

    ``fall``: passages after which the step size would be 0.
    """
    k_trunc = 20
    updates = -(-fall // streams) * CharLM.passage // k_trunc
    size = f"{streams} streams" if hidden == _UNITS else f"n = {hidden}, {streams} streams"
    learners: dict[str, dict[str, Any]] = {
        "LSTM, TBPTT (20)": {"credit": "tbptt", "k_trunc": k_trunc},
        "SAB (20, 5, 5), feeds h_hat": {"k_trunc": k_trunc, "k_top": 5, "k_att": 5, "explore": 0.0, "feeds": "h_hat"},
    }
    return tuple(
        Row(
            name=f"{name}, {size}",
            learner={**learner, "hidden": hidden, "dropout": 0.0},
            optimizer={"lr": 2e-3, "decay_updates": updates},
            run={"streams": streams, "eval_every": 10_000, "checkpoint_every": 5_000},
            budget=budget,
        )
        for name, learner in learners.items()
    )


def _images(budget: int, passes: int, rows: tuple[Row, ...] = ()) -> Full:
    return Full(
        learner={},
        optimizer={},
        run={"eval_every": 25_000, "eval_sequences": 2_000, "checkpoint_every": 50_000},
        rows=rows,
        budget=budget,
        note=f"n = 128 as in the paper, 16 streams in phase, {passes} passes of the training images unless said otherwise.",
    )


_PERMUTED_BUDGET = 440_000
_RESTARTS = 2
# An update of every sequence in which something is replayed, 16 side by side.
_WHOLE_IMAGE = Row(
    name="SAB (56, 14, 56)",
    learner={"k_trunc": 56, "k_top": 14, "k_att": 56, "slots": 14, "replays": 14, "dropout": 0.25, "trigger": "replay"},
    optimizer={
        "lr": 5e-3,
        "weight_decay": 0.3,
        "average": 0.9998,
        "decay_updates": _PERMUTED_BUDGET // 16,
        "restarts": _RESTARTS,
    },
    budget=_PERMUTED_BUDGET * (1 + _RESTARTS),
)
"""Longer segments, which together are the whole image, and all of its states read; the step size begins again twice."""
_UNITS_LEFT_OUT = replace(
    _WHOLE_IMAGE,
    name="SAB (56, 14, 56), recurrent dropout",
    learner={**_WHOLE_IMAGE.learner, "recurrent_dropout": 0.1},
)
"""The same, but that a tenth of the units is not seen by the next step, others in each image."""
_WITHOUT_REPLAY = tuple(
    replace(
        row,
        name=row.name.replace("SAB", "no replay"),
        learner={**row.learner, "replays": 0},
        optimizer={**row.optimizer, "restarts": 0},
        budget=_PERMUTED_BUDGET,
    )
    for row in (_WHOLE_IMAGE, _UNITS_LEFT_OUT)
)
"""Both without replay, to be compared with them when the step size has fallen once."""

FULL: dict[str, Full] = {
    "table6": _text(200_000, 4),
    "table7": _text(
        450_000,
        4,
        (
            *_on_a_cpu(streams=32, budget=70_000, fall=85_000),
            *_on_a_cpu(streams=16, budget=112_000, fall=112_000, hidden=512),
        ),
    ),
    "table8": _images(275_000, 5),
    "table8-permuted": _images(_PERMUTED_BUDGET, 8, (_WHOLE_IMAGE, _UNITS_LEFT_OUT, *_WITHOUT_REPLAY)),
}
"""By the table's name."""
