"""Row 5: recall over few and very many slots: score, choice of the k_top, weights and summary of one step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from ..credit import SAB
from ..errors import SabsimError
from ..learner import StreamingLearner
from ..network import Network
from ..retention import Recent
from . import parts
from .backends import make_learner, ours
from .case import Case, CaseResult, Plan, Row, Variant
from .fit import exponent
from .settings import HIDDEN, K_TRUNC, Settings
from .timing import Timer

FLOOR = "keys . query, top-k"
RECALL, KEYS, STEP = "recall, one step", "keys, once per update", "whole step, not learning"


def cases(settings: Settings) -> list[Plan]:
    """One case for each number of slots."""
    sizes = settings.pick((32, 128, 1_000, 10_000, 100_000), (32, 128))
    return [Plan(f"{slots:,} slots", partial(_measure, settings, slots)) for slots in sizes]


def _measure(settings: Settings, slots: int, timer: Timer) -> CaseResult:
    n = 32 if settings.quick else HIDDEN
    torch.manual_seed(settings.seed)
    keys, query = torch.randn(1, slots, n, device=settings.device), torch.randn(1, n, 1, device=settings.device)
    products = 2.0 * slots * n
    variants = [
        Variant(
            name=FLOOR,
            call=lambda: torch.bmm(keys, query).squeeze(2).topk(K_TRUNC, dim=1),
            units=1,
            flops=products,
            note="two torch operations and nothing else",
        )
    ]
    refused = dict[str, str]()
    for backend in settings.backends.names:
        try:
            learner = _learner(backend, slots, n, settings)
        except SabsimError as error:
            refused[ours(backend)] = str(error)
            continue
        query_products = 2.0 * n * n
        ways = {
            RECALL: (partial(parts.recall, learner, settings.seed), products + query_products),
            KEYS: (partial(parts.refresh, learner), slots * query_products),
        }
        for what, (make, work) in ways.items():
            try:
                variants.append(Variant(name=ours(backend, what), call=make(), units=1, flops=work))
            except SabsimError as error:
                refused[ours(backend, what)] = str(error)
        variants.append(_whole_step(backend, learner))
    sizes = {"slots": slots, "streams": 1, "n": n, "k_top": K_TRUNC}
    return timer.compare(Case(parameters=sizes, unit="step", base=FLOOR, variants=variants, refused=refused))


def _learner(backend: str, slots: int, n: int, settings: Settings) -> StreamingLearner:
    """One stream whose slots are all occupied, as after a long time."""
    learner = make_learner(
        backend,
        Network(d_in=10, d_out=9, hidden=n),
        credit=SAB(k_top=K_TRUNC, k_trunc=K_TRUNC, replays=0),
        retention=Recent(slots=slots),
        seed=settings.seed,
        device=settings.device,
    )
    parts.play_blocks(learner, 1, settings.seed)
    parts.fill_memory(learner, settings.seed)
    learner.learning = False
    return learner


def _whole_step(backend: str, learner: StreamingLearner) -> Variant:
    x = torch.zeros(1, learner.network.d_in, device=learner.device)

    def call() -> None:
        for _ in range(K_TRUNC):
            learner.step(x)

    note = f"cell, recall, readout; retention and new keys every {K_TRUNC} steps"
    return Variant(name=ours(backend, STEP), call=call, units=K_TRUNC, note=note)


def findings(results: Sequence[CaseResult]) -> list[str]:
    """How the cost of a recall grows with the slots."""
    said = []
    for name in {one.name: None for case in results for one in case.measurements if one.name.startswith((RECALL, KEYS))}:
        points = [
            (float(case.parameters["slots"]), one.time.median)
            for case in results
            if (one := case.find(name)) is not None and int(case.parameters["slots"]) >= 1_000
        ]
        if len(points) > 2:
            said.append(f"{name}: time grows as slots^{exponent(points)} from {points[0][0]:,.0f} slots on.")
    return said


ROW = Row(
    name="recall",
    title="recall over many slots",
    purpose="one stream, 32 to 100,000 occupied slots, n = 128, exact: scores of all slots, the k_top = 5 chosen, weights "
    "and summary of one step; beside it the keys of all slots, which change with the parameters and so are worked out "
    "once per update, and a bare matrix-vector product with top-k.",
    cases=cases,
    conclude=findings,
)
