"""Row 3: the whole streaming window - steps, recall, replay, optimiser - against ``nn.LSTM`` with BPTT and TBPTT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from ..credit import SAB, TBPTT, CreditRule
from ..errors import SabsimError
from ..network import Network
from .backends import make_learner, ours
from .case import Case, CaseResult, Plan, Row, Variant
from .flops import bptt_products, gemm, lstm_products, total, window_products
from .fused import LSTMLearner
from .recording import Recording
from .settings import HIDDEN, K_TRUNC, SLOTS, Settings
from .settings import T as USUAL_T
from .timing import Timer

BPTT, FUSED_TBPTT = "nn.LSTM, BPTT", f"nn.LSTM, TBPTT {K_TRUNC}"
ONE_BY_ONE = "steps queued one by one"
SAB_NAME, ALL, PLAIN_TBPTT = "SAB", "SAB, every replay", f"TBPTT {K_TRUNC}"


def cases(settings: Settings) -> list[Plan]:
    """One case for each number of streams and of replays, and for each number of units at 32 streams."""
    n, streams = (32, 8) if settings.quick else (HIDDEN, 32)
    varied = [(b, r, n) for b in settings.pick((1, 8, 32, 128), (1, 8)) for r in settings.pick((0, 1, 2, 8), (0, 2))]
    varied += [(streams, 2, other) for other in settings.pick((32, 64, 256), (16, 64))]
    return [Plan(f"{b} streams, {r} replays, n = {m}", partial(_measure, settings, b, r, m)) for b, r, m in varied]


def _measure(settings: Settings, streams: int, replays: int, n: int, timer: Timer) -> CaseResult:
    torch.manual_seed(settings.seed)
    device = settings.device
    recording = Recording(10 if settings.quick else USUAL_T, streams, seed=settings.seed, device=device)
    d, d_out, steps = recording.task.d_in, recording.task.d_out, recording.steps
    units = steps * streams
    whole = bptt_products(streams, steps, n, d, d_out)
    variants = [gemm(whole, units=units, device=device, note="those of nn.LSTM's BPTT")]
    for name, window in ((BPTT, None), (FUSED_TBPTT, K_TRUNC)):
        peer = LSTMLearner(d, n, d_out, window=window, device=device)
        call = partial(peer.learn, recording.x, recording.target)
        variants.append(Variant(name=name, call=call, units=units, flops=total(whole), graph=True))
    refused = dict[str, str]()
    for backend in settings.backends.names:
        for what, credit in _rules(replays).items():
            name = ours(backend, what)
            try:
                variants += _streaming(name, backend, credit, recording, n, settings)
            except SabsimError as error:
                refused[name] = str(error)
    sizes = {"streams": streams, "replays": replays, "n": n, "T": recording.task.T, "slots": SLOTS, "k_trunc": K_TRUNC}
    return timer.compare(Case(parameters=sizes, unit="stream-step", base=BPTT, variants=variants, refused=refused))


def _rules(replays: int) -> dict[str, CreditRule]:
    rules: dict[str, CreditRule] = {SAB_NAME: SAB(k_top=K_TRUNC, k_trunc=K_TRUNC, replays=replays)}
    if replays:
        rules[ALL] = SAB(k_top=K_TRUNC, k_trunc=K_TRUNC, replays=replays, negligible=0)
    else:
        rules[PLAIN_TBPTT] = TBPTT(k_trunc=K_TRUNC)
    return rules


def _streaming(
    name: str, backend: str, credit: CreditRule, recording: Recording, n: int, settings: Settings
) -> list[Variant]:
    """The streaming learner playing the recording, its memory already full; on a GPU as a graph and one by one."""
    d, d_out, streams, steps = recording.task.d_in, recording.task.d_out, recording.streams, recording.steps
    learner = make_learner(
        backend,
        Network(d_in=d, d_out=d_out, hidden=n),
        credit=credit,
        streams=streams,
        seed=settings.seed,
        device=settings.device,
    )
    recording.play(learner)
    replayed = recording.replayed(learner)
    blocks = steps / credit.block
    if credit.recalls:
        work = window_products(streams, credit.block, n, d, d_out, slots=SLOTS, k_top=credit.k_top)
    else:
        work = bptt_products(streams, credit.block, n, d, d_out)
    one_segment = total(lstm_products(1, credit.k_trunc, n, d))
    plain = Variant(
        name=name,
        call=lambda: recording.play(learner),
        units=steps * streams,
        flops=blocks * (total(work) + replayed * streams * one_segment),
        note=f"{replayed:.2f} segments replayed per stream and update" if credit.budget else "",
    )
    call, how = recording.player(learner)
    if not how:
        return [plain]
    note = f"{plain.note}; {how}" if plain.note else how
    return [replace(plain, call=call, note=note), replace(plain, name=f"{name}, {ONE_BY_ONE}")]


def findings(results: Sequence[CaseResult]) -> list[str]:
    """What a stream-step costs of BPTT's."""
    said = []
    for case in results:
        ratios = [
            f"{one.name} {one.ratio.median:.1f}"
            for one in case.measurements
            if one.ratio is not None and one.name.startswith((SAB_NAME, FUSED_TBPTT))
        ]
        sizes = case.parameters
        said.append(
            f"Of nn.LSTM BPTT's time per stream-step, {sizes['streams']} streams, replays = {sizes['replays']}, "
            f"n = {sizes['n']}: {', '.join(ratios)}."
        )
    return said


ROW = Row(
    name="window",
    title="the whole streaming window",
    purpose="copying, 32 slots, k_top = k_trunc = 5, an update every 5 steps: steps, recall, replay, retention, clip and "
    "optimiser, per stream-step, for 1 to 128 streams, 0 to 8 replays and several n. Peers: nn.LSTM with a readout, clip "
    "and fused Adam, by BPTT over whole sequences and by TBPTT every 5 steps. 'every replay' uses the whole budget of "
    "replays at each update; SAB as it comes leaves out credits that are negligible. On a GPU each block is a CUDA graph.",
    cases=cases,
    conclude=findings,
    headline={"n": (128,), "streams": (1, 32), "replays": (0, 1, 8)},
)
