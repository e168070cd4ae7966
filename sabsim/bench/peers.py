"""Row 7: the peers - sparse attentive backtracking as published, and a naive online actor-critic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..errors import SabsimError
from .agent import ACTIONS, OBSERVATION, WINDOW, NaiveActorCritic, StreamingActorCritic
from .backends import ours
from .case import Case, CaseResult, Plan, Row, Variant
from .contenders import LITERAL, Contender, Kind, peaks_mb
from .flops import bptt_products, gemm, total, window_products
from .isolated import isolated
from .recording import Recording
from .settings import HIDDEN, SLOTS, Settings
from .timing import Timer

NAIVE = "naive actor-critic, autograd"
K_ATT = 2


def cases(settings: Settings) -> list[Plan]:
    """The published method at the size of its paper, and the actor-critic."""
    T, streams, n = (10, 4, 16) if settings.quick else (300, 100, HIDDEN)
    scaled = ", scaled down" if settings.quick else ""
    return [
        Plan(f"literal, T = {T}, batch {streams}{scaled}", partial(_published, settings, T, streams, n)),
        Plan("actor-critic", partial(_agents, settings, 32 if settings.quick else HIDDEN)),
    ]


def _published(settings: Settings, T: int, streams: int, n: int, timer: Timer) -> CaseResult:
    device = settings.device
    recordings = {count: Recording(T, count, seed=settings.seed, device=device) for count in {1, streams}}
    kinds: list[tuple[Kind, str]] = [("literal", ""), ("fused", ""), *(("sab", name) for name in settings.backends.names)]
    contenders = [_contender(settings, kind, T, streams, n, backend) for kind, backend in kinds]
    refused = dict[str, str]()
    oracle = _contender(settings, "oracle", T, 1, n, "")
    if device.type == "cpu":
        contenders.append(oracle)
    else:
        refused[oracle.name] = "loops over single numbers; it is measured on the CPU only"
    note = f"scaled down: T = {T}, batch {streams}" if settings.quick else ""
    steps = recordings[streams].steps
    products = bptt_products(streams, steps, n, recordings[streams].task.d_in, recordings[streams].task.d_out)
    variants = [gemm(products, units=steps * streams, device=device, note="those of nn.LSTM's BPTT")]
    # A process for each takes seconds, which tiny sizes are not worth.
    memory = isolated(peaks_mb, contenders) if settings.quick else {}
    for one in contenders:
        try:
            if (why := one.too_large()) is not None:
                refused[one.name] = why
                continue
            if not settings.quick:
                memory[one.name] = one.memory_mb()
            alone = "loops over streams: one stream only, its memory included" if one is oracle else note
            recording = recordings[one.streams]
            variants.append(one.variant(recording, units=steps * one.streams, note=alone))
        except SabsimError as error:
            refused[one.name] = str(error)
    sizes = {"T": T, "streams": streams, "n": n, "k_att": K_ATT, "slots": SLOTS}
    case = Case(parameters=sizes, unit="stream-step", base=LITERAL, variants=variants, refused=refused)
    return timer.compare(case).with_memory(memory)


def _contender(settings: Settings, kind: Kind, T: int, streams: int, n: int, backend: str) -> Contender:
    device = "cpu" if kind == "oracle" else str(settings.device)
    return Contender(kind=kind, T=T, streams=streams, n=n, k_att=K_ATT, device=device, seed=settings.seed, backend=backend)


def _agents(settings: Settings, n: int, timer: Timer) -> CaseResult:
    device = settings.device
    products = bptt_products(1, WINDOW, n, OBSERVATION, ACTIONS + 1)
    naive = NaiveActorCritic(n, device, settings.seed)
    variants = [
        gemm(products, units=1, device=device, note="those of the naive one"),
        Variant(name=NAIVE, call=naive.update, units=1, flops=total(products), note="no recall"),
    ]
    refused = dict[str, str]()
    work = total(window_products(1, WINDOW, n, OBSERVATION, ACTIONS + 1, slots=SLOTS, k_top=5))
    for backend in settings.backends.names:
        name = ours(backend, "SAB actor-critic")
        try:
            agent = StreamingActorCritic(backend, n, device, settings.seed)
        except SabsimError as error:
            refused[name] = str(error)
            continue
        agent.update()
        note = "recall and replay included; its replays' products not counted"
        variants.append(Variant(name=name, call=agent.update, units=1, flops=work, note=note))
    sizes = {"streams": 1, "window": WINDOW, "n": n, "slots": SLOTS}
    return timer.compare(Case(parameters=sizes, unit="update", base=NAIVE, variants=variants, refused=refused))


def findings(results: Sequence[CaseResult]) -> list[str]:
    """How many times the throughput and what part of the memory of the published method; updates per second."""
    said = []
    for case in results:
        base = case.find(case.base)
        for one in case.measurements:
            if not one.name.startswith("SAB") or base is None:
                continue
            times = base.time.median / one.time.median
            if case.base == NAIVE:
                rates = f"{1 / one.time.median:,.0f} updates/s against {1 / base.time.median:,.0f}"
                said.append(f"{one.name}: {rates}, {times:.1f} times the rate of the naive one.")
                continue
            memory = ""
            if one.memory_mb and base.memory_mb:
                memory = f", its memory over ours {base.memory_mb / one.memory_mb:.1f}"
            sizes = f"T = {case.parameters['T']}, batch {case.parameters['streams']}"
            said.append(f"{one.name}: {times:.1f} times the throughput of the literal one ({sizes}){memory}.")
    return said


ROW = Row(
    name="peers",
    title="the published method, and a naive online agent",
    purpose="sparse attentive backtracking as published (a growing memory, autograd over the whole sequence; T = 300, "
    "batch 100, k_att 2), batched and as the oracle sabsim.reference, and nn.LSTM by BPTT: time, and peak memory in a "
    "process of its own. Then an online LSTM actor-critic in eager torch (batch 1, window 10, Adam; random observations "
    "instead of an environment).",
    cases=cases,
    conclude=findings,
)
