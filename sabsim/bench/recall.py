"""Row 5: recall over few and very many slots: score, choice of the k_top, weights and summary of one step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from ..credit import SAB, TBPTT
from ..errors import SabsimError
from ..learner import StreamingLearner
from ..network import Network
from ..retention import Recent
from . import parts
from .backends import make_learner, ours
from .case import Case, CaseResult, Plan, Row, Variant, difference
from .fit import exponent
from .settings import HIDDEN, K_TRUNC, Settings
from .timing import Timer

FLOOR = "keys . query, top-k"
WITH, WITHOUT, RECALL = "step with recall", "step without recall", "recall, one step"
KEYS, BLOCK, LEARNING = "all keys anew", "steps with retention and keys", "steps with updates"


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
            graph=True,
        )
    ]
    refused = dict[str, str]()
    per_step = products + 2.0 * n * n
    for backend in settings.backends.names:
        try:
            learner = _learner(backend, slots, n, settings)
            plain = _learner(backend, 0, n, settings)
            for what, one in ((WITH, learner), (WITHOUT, plain)):
                call = parts.step(one, settings.seed)
                variants.append(Variant(name=ours(backend, what), call=call, units=1, graph=True))
            variants.append(_blocks(backend, _learner(backend, slots, n, settings)))
            variants.append(_learning(backend, _learner(backend, slots, n, settings), settings))
            # A learner of its own each: what one is asked to do again and again must not disturb another.
            call = parts.keys(_learner(backend, slots, n, settings))
            work = 2.0 * slots * n * n
            variants.append(Variant(name=ours(backend, KEYS), call=call, units=1, flops=work, graph=True))
        except SabsimError as error:
            refused[ours(backend)] = str(error)
    sizes = {"slots": slots, "streams": 1, "n": n, "k_top": K_TRUNC}
    result = timer.compare(Case(parameters=sizes, unit="step", base=FLOOR, variants=variants, refused=refused))
    for backend in settings.backends.names:
        name, whole, rest = (ours(backend, what) for what in (RECALL, WITH, WITHOUT))
        note = "the step with recall less the one without, round by round"
        result = difference(result, name, whole, rest, flops=per_step, note=note)
    return result


def _learner(backend: str, slots: int, n: int, settings: Settings) -> StreamingLearner:
    """One stream whose slots are all occupied, as after a long time; 0 slots: a learner that recalls nothing."""
    learner = make_learner(
        backend,
        Network(d_in=10, d_out=9, hidden=n),
        credit=SAB(k_top=K_TRUNC, k_trunc=K_TRUNC, replays=0) if slots else TBPTT(k_trunc=K_TRUNC),
        retention=Recent(slots=max(slots, 1)),
        seed=settings.seed,
        device=settings.device,
    )
    learner.learning = False
    if slots:
        parts.fill_memory(learner, settings.seed)
        parts.play_blocks(learner, 2, settings.seed)
    return learner


def _blocks(backend: str, learner: StreamingLearner) -> Variant:
    x = torch.zeros(1, learner.network.d_in, device=learner.device)

    def call() -> None:
        for _ in range(K_TRUNC):
            learner.step(x)

    note = f"not learning; retention, and keys of what was kept, every {K_TRUNC} steps"
    return Variant(name=ours(backend, BLOCK), call=call, units=K_TRUNC, note=note, graph=True)


def _learning(backend: str, learner: StreamingLearner, settings: Settings) -> Variant:
    learner.learning = True
    note = f"the same and an update every {K_TRUNC} steps, on random signals; no replay"
    call = parts.learning_steps(learner, settings.seed)
    return Variant(name=ours(backend, LEARNING), call=call, units=K_TRUNC, note=note)


def findings(results: Sequence[CaseResult]) -> list[str]:
    """How the cost of a recall grows with the slots."""
    said = []
    growing = (RECALL, KEYS, LEARNING)
    for name in {one.name: None for case in results for one in case.measurements if one.name.startswith(growing)}:
        points = [
            (float(case.parameters["slots"]), one.time.median)
            for case in results
            if (one := case.find(name)) is not None and int(case.parameters["slots"]) >= 1_000 and one.time.median > 0
        ]
        if len(points) > 2:
            said.append(f"{name}: time grows as slots^{exponent(points)} from {points[0][0]:,.0f} slots on.")
    return said


ROW = Row(
    name="recall",
    title="recall over many slots",
    purpose="one stream, 32 to 100,000 occupied slots, n = 128, exact: a step with recall less the same step without is "
    "recall (scores of all slots, the k_top = 5 chosen, weights, summary); beside it new keys for all slots, which torch "
    "makes once per update and native when it pays, whole blocks of steps with retention, the same with updates, and a "
    "bare matrix-vector product with top-k.",
    cases=cases,
    conclude=findings,
)
