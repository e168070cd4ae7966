"""Row 4: an optimiser step on all parameters: ours on one flat vector against ``torch.optim.Adam``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from ..errors import SabsimError
from ..network import Network
from ..optim import Adam
from . import parts
from .backends import PLAIN, make_learner, ours
from .case import Case, CaseResult, Plan, Row, Variant
from .settings import Settings
from .timing import Timer

D_IN, D_OUT = 16, 9
FUSED = "torch.optim.Adam, fused"
_WAYS: dict[str, dict[str, Any]] = {
    "torch.optim.Adam, per tensor": {"foreach": False, "fused": False},
    "torch.optim.Adam, foreach": {"foreach": True},
    FUSED: {"fused": True},
}


def cases(settings: Settings) -> list[Plan]:
    """One case for each number of units."""
    return [Plan(f"n = {n}", partial(_measure, settings, n)) for n in settings.pick((64, 128, 256), (64,))]


def _measure(settings: Settings, n: int, timer: Timer) -> CaseResult:
    torch.manual_seed(settings.seed)
    network = Network(d_in=D_IN, d_out=D_OUT, hidden=n)
    plain = make_learner(PLAIN, network, device=settings.device)
    count, shapes = plain.flat.numel(), list(plain.parameters.values())
    variants, refused = [], dict[str, str]()
    for backend in settings.backends.names:
        name = ours(backend, "Adam on the flat vector")
        try:
            learner = make_learner(backend, network, seed=settings.seed, device=settings.device)
            variants.append(Variant(name=name, call=parts.optimise(learner), units=1, graph=True))
        except SabsimError as error:
            refused[name] = str(error)
    for name, way in _WAYS.items():
        call = _torch_adam(shapes, way, clip=True)
        variants.append(Variant(name=name, call=call, units=1, note=f"{len(shapes)} tensors", graph=True))
    flat = [torch.empty(count, device=settings.device)]
    one = _torch_adam(flat, {"fused": True}, clip=True)
    variants.append(Variant(name=f"{FUSED}, one tensor", call=one, units=1, graph=True))
    alone, note = _torch_adam(flat, {"fused": True}, clip=False), "less work than the others"
    variants.append(Variant(name=f"{FUSED}, one tensor, no clip", call=alone, units=1, note=note, graph=True))
    sizes = {"n": n, "parameters": count, "tensors": len(shapes)}
    return timer.compare(Case(parameters=sizes, unit="update", base=FUSED, variants=variants, refused=refused))


def _torch_adam(like: Sequence[torch.Tensor], way: dict[str, Any], *, clip: bool) -> parts.Call:
    """A step of torch's Adam on tensors shaped like these, with settings like ours and a clip of the global norm."""
    tensors = [torch.zeros(tensor.shape, device=tensor.device).normal_(0, 0.1).requires_grad_() for tensor in like]
    for tensor in tensors:
        tensor.grad = torch.full_like(tensor, 1e-3)
    settings = Adam()
    adam = torch.optim.Adam(
        tensors,
        lr=settings.lr,
        betas=(settings.beta_1, settings.beta_2),
        eps=settings.eps,
        amsgrad=settings.amsgrad,
        capturable=tensors[0].is_cuda,
        **way,
    )

    def call() -> None:
        if clip:
            torch.nn.utils.clip_grad_norm_(tensors, settings.clip)
        adam.step()

    return call


ROW = Row(
    name="optimizer",
    title="an optimiser step",
    purpose="Adam with AMSGrad and a clip of the global norm on all parameters (input 16, n = 64, 128, 256): ours on one "
    "flat vector, which also looks for spikes and for values that are not finite, against torch.optim.Adam per tensor, "
    "foreach and fused.",
    cases=cases,
)
