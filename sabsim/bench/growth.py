"""Row 8: how the cost of a sequence grows with its length T."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..errors import SabsimError
from .case import GEMM, Case, CaseResult, Plan, Row
from .contenders import FUSED, Contender, Kind
from .fit import exponent
from .flops import bptt_products, gemm
from .recording import Recording
from .settings import HIDDEN, Settings
from .timing import Timer

STREAMS, K_ATT = 8, 2


def cases(settings: Settings) -> list[Plan]:
    """One case for each T."""
    return [Plan(f"T = {T}", partial(_measure, settings, T)) for T in settings.pick((100, 200, 400, 800), (10, 20, 40))]


def _measure(settings: Settings, T: int, timer: Timer) -> CaseResult:
    device, n, streams = settings.device, 16 if settings.quick else HIDDEN, 2 if settings.quick else STREAMS
    recording = Recording(T, streams, seed=settings.seed, device=device)
    products = bptt_products(streams, recording.steps, n, recording.task.d_in, recording.task.d_out)
    variants = [gemm(products, units=streams, device=device, note="those of nn.LSTM's BPTT")]
    kinds: list[tuple[Kind, str]] = [("fused", ""), ("literal", ""), *(("sab", name) for name in settings.backends.names)]
    refused, memory = dict[str, str](), {}
    for kind, backend in kinds:
        one = Contender(
            kind=kind, T=T, streams=streams, n=n, k_att=K_ATT, device=str(device), seed=settings.seed, backend=backend
        )
        try:
            if (why := one.too_large()) is not None:
                refused[one.name] = why
                continue
            # A process for each takes seconds; the quick bench shows that once, in row peers.
            if not settings.quick:
                memory[one.name] = one.memory_mb()
            variants.append(one.variant(recording, units=streams))
        except SabsimError as error:
            refused[one.name] = str(error)
    sizes = {"T": T, "steps": recording.steps, "streams": streams, "n": n, "k_att": K_ATT}
    case = Case(parameters=sizes, unit="sequence", base=FUSED, variants=variants, refused=refused)
    return timer.compare(case).with_memory(memory)


def findings(results: Sequence[CaseResult]) -> list[str]:
    """Exponents of time and of peak memory in the sequence's length."""
    said = []
    for name in {one.name: None for case in results for one in case.measurements if one.name != GEMM}:
        found = [(case.parameters, one) for case in results if (one := case.find(name)) is not None]
        times = [(float(sizes["steps"]), one.time.median) for sizes, one in found]
        if len(times) < 3:
            continue
        sentence = f"{name}: time per sequence grows as length^{exponent(times)}"
        memory = [(float(sizes["steps"]), one.memory_mb) for sizes, one in found if one.memory_mb]
        if len(memory) == len(times):
            sentence += f", peak memory as length^{exponent([(x, y) for x, y in memory])}"
        said.append(f"{sentence}.")
    return said


ROW = Row(
    name="growth",
    title="growth with the length of the sequence",
    purpose="copying at T = 100, 200, 400, 800 (T + 20 steps), 8 streams, k_att 2: time and peak memory per sequence, with "
    "the exponent of a power law in the number of steps and its standard error; nn.LSTM by BPTT and the published method "
    "beside ours.",
    cases=cases,
    conclude=findings,
)
