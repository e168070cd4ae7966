"""The backends of the learner: which there are, which of them work here, and one learner of each.

``StreamingLearner`` may take an argument ``backend``. If it does, every backend it knows is timed beside the others;
one that cannot run here, or that falls back to another, is named with the reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch

from ..credit import SAB, CreditRule
from ..errors import SabsimError
from ..learner import StreamingLearner
from ..network import Network
from ..optim import Adam, Optimizer
from ..retention import Novelty, Retention

ARGUMENT = "backend"
PLAIN = "torch"
"""The backend that is always there."""
KNOWN = (PLAIN, "native")
"""Tried where the argument's type does not name its choices."""
CHOOSES_ITSELF = "auto"
"""No backend but a choice among them."""


class Backends(NamedTuple):
    """``names`` of those that work here, ``refused``: the others, each with the reason."""

    names: tuple[str, ...]
    refused: dict[str, str]


def find_backends(device: torch.device, kind: Callable[..., Any] = StreamingLearner) -> Backends:
    """The backends that ``kind``, a learner, accepts and that work on ``device``: each is tried on a tiny learner."""
    if ARGUMENT not in inspect.signature(kind).parameters:
        return Backends((PLAIN,), {})
    names, refused = [], {}
    for name in _choices(kind):
        try:
            learner = make_learner(name, Network(d_in=2, d_out=2, hidden=8), device=device, kind=kind)
        except SabsimError as error:
            refused[name] = str(error)
            continue
        actual = getattr(learner, ARGUMENT, name)
        if actual == name:
            names.append(name)
        else:
            refused[name] = f"falls back to {actual!r} here"
    return Backends(tuple(names), refused)


def _choices(kind: Callable[..., Any]) -> list[str]:
    target = kind.__init__ if inspect.isclass(kind) else kind
    hint = get_type_hints(target).get(ARGUMENT)
    named = [str(name) for name in get_args(hint)] if get_origin(hint) is Literal else KNOWN
    return [name for name in named if name != CHOOSES_ITSELF]


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
    chosen = {ARGUMENT: backend} if ARGUMENT in inspect.signature(kind).parameters else {}
    learner: StreamingLearner = kind(
        network,
        credit=SAB() if credit is None else credit,
        retention=Novelty(slots=32) if retention is None else retention,
        optimizer=Adam() if optimizer is None else optimizer,
        streams=streams,
        seed=seed,
        device=device,
        **chosen,
    )
    return learner


def ours(backend: str, what: str = "sabsim") -> str:
    """The name of a variant of ours."""
    return f"{what} ({backend})"
