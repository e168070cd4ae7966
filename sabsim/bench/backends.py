"""The backends of the learner: which there are, which of them work here, and one learner of each.

Every backend that ``StreamingLearner`` knows is timed beside the others; one that cannot run here, or that falls back to
another, is named with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import torch

from ..backend import BackendName
from ..credit import SAB, CreditRule
from ..errors import SabsimError
from ..learner import StreamingLearner
from ..network import Network
from ..optim import Adam, Optimizer
from ..retention import Novelty, Retention

PLAIN = "torch"
"""The backend that is always there."""
NAMES = tuple(name for name in get_args(BackendName) if name != "auto")
"""All of them; "auto" is a choice among them."""


class Backends(NamedTuple):
    """``names`` of those that work here, ``refused``: the others, each with the reason."""

    names: tuple[str, ...]
    refused: dict[str, str]


def find_backends(device: torch.device, kind: Callable[..., Any] = StreamingLearner) -> Backends:
    """The backends of ``kind``, a learner, that work on ``device``: each is tried on a tiny learner."""
    names, refused = [], {}
    for name in NAMES:
        try:
            learner = make_learner(name, Network(d_in=2, d_out=2, hidden=8), device=device, kind=kind)
        except SabsimError as error:
            refused[name] = str(error)
            continue
        if learner.backend == name:
            names.append(name)
        else:
            refused[name] = f"falls back to {learner.backend!r} here"
    return Backends(tuple(names), refused)


def make_learner(
    backend: str,
    network: Network,
    *,
    credit: CreditRule | None = None,
    retention: Retention | None = None,
    optimizer: Optimizer | None = None,
    streams: int = 1,
    seed: int = 0,
    device: torch.device,
    kind: Callable[..., Any] = StreamingLearner,
) -> StreamingLearner:
    """A learner in ``backend``; default: SAB as it comes, 32 slots, Adam.

    Raises SabsimError: what the backend does not offer, or settings that do not fit each other.
    """
    learner: StreamingLearner = kind(
        network,
        credit=SAB() if credit is None else credit,
        retention=Novelty(slots=32) if retention is None else retention,
        optimizer=Adam() if optimizer is None else optimizer,
        streams=streams,
        seed=seed,
        device=device,
        backend=backend,
    )
    return learner


def ours(backend: str, what: str = "sabsim") -> str:
    """The name of a variant of ours."""
    return f"{what} ({backend})"
