"""Row 2: a cell step and its VJP, a replayed segment and the window's VJP, per row and step, against fused ``nn.LSTM``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from ..cells import LSTM
from ..credit import SAB
from ..errors import SabsimError
from ..learner import StreamingLearner
from ..network import Network, Parameters
from ..optim import SGD
from ..retention import Recent
from . import parts
from .backends import PLAIN, make_learner, ours
from .case import Case, CaseResult, Plan, Row, Variant, difference
from .flops import Product, chain_vjp_products, gemm, lstm_products, total
from .fused import EagerLSTM, FusedLSTM, TiedLSTM
from .settings import K_TRUNC, SLOTS, Settings
from .timing import Timer

D_IN = 16
FUSED, EAGER = "nn.LSTM forward + backward", "nn.LSTMCell loop, autograd"
CELL, TIED = "cell step + VJP", "replay as tied nn.LSTM"
REPLAY, CHAIN, BOTH = "segment replay", "update without replay", "update with a replay a row"


def cases(settings: Settings) -> list[Plan]:
    """One case for each number of rows, units and steps."""
    return [
        Plan(f"{rows} rows, n = {n}, k_trunc = {steps}", partial(_measure, settings, rows, n, steps))
        for n in settings.pick((64, 128, 256), (64,))
        for steps in settings.pick((5, 10), (5,))
        for rows in settings.pick((1, 20, 160, 800), (1, 20), on_gpu=(8_192,))
    ]


def _measure(settings: Settings, rows: int, n: int, steps: int, timer: Timer) -> CaseResult:
    device, units = settings.device, rows * steps
    torch.manual_seed(settings.seed)
    products = lstm_products(rows, steps, n, D_IN)
    variants = [
        gemm(products, units=units, device=device, note="an LSTM's, forward and back"),
        *(
            Variant(name=name, call=peer(rows, steps, n, D_IN, device), units=units, flops=total(products), graph=True)
            for name, peer in ((FUSED, FusedLSTM), (EAGER, EagerLSTM))
        ),
        _explicit(rows, steps, n, device, products),
        _tied(rows, steps, n, device, products),
    ]
    refused = dict[str, str]()
    chain = chain_vjp_products(rows, steps, n, D_IN, K_TRUNC)
    for backend in settings.backends.names:
        for what, replays in ((CHAIN, 0), (BOTH, 1)):
            name = ours(backend, what)
            try:
                call = parts.update(_learner(backend, rows, steps, n, settings, replays), settings.seed)
            except SabsimError as error:
                refused[name] = str(error)
                continue
            work = total([*chain, *(products if replays else ())])
            note = "optimiser: plain SGD"
            variants.append(Variant(name=name, call=call, units=units, flops=work, note=note, graph=True))
    sizes = {"rows": rows, "n": n, "k_trunc": steps}
    result = timer.compare(Case(parameters=sizes, unit="row-step", base=FUSED, variants=variants, refused=refused))
    for backend in settings.backends.names:
        name, whole, rest = (ours(backend, what) for what in (REPLAY, BOTH, CHAIN))
        note = "the update with replays less the one without, round by round"
        result = difference(result, name, whole, rest, flops=total(products) / units, note=note)
    return result


def _explicit(rows: int, steps: int, n: int, device: torch.device, products: list[Product]) -> Variant:
    """Our cell as it is, without memory: forward steps, VJPs, parameter gradient."""
    network = Network(d_in=D_IN, d_out=1, hidden=n)
    parameters = Parameters(network, recall=False, slots=0, dtype=torch.float32, device=device)
    parameters.initialise(0)
    cell, value, gradient = parameters.cell, parameters.value["cell"], parameters.gradient["cell"]
    assert isinstance(cell, LSTM)
    tape = cell.tape(steps, rows, parameters.flat)
    places = cell.places(tape)
    xh = torch.randn(steps + 1, rows, D_IN + n, device=device).mul_(0.3)
    c, credit = xh.new_zeros(steps + 1, rows, n), torch.randn(rows, n, device=device)
    inputs, states = list(xh[:steps].unbind(0)), list(c.unbind(0))
    outputs = list(xh[1:, :, D_IN:].unbind(0))

    @torch.no_grad()
    def call() -> None:
        for t in range(steps):
            cell.step(value, inputs[t], states[t], places[t], outputs[t], states[t + 1])
        local = cell.prepare(tape, xh[:steps], c[:steps], 0, steps)
        dh, dc = credit, torch.zeros_like(credit)
        for t in range(steps - 1, -1, -1):
            dh, carried = cell.vjp(value, local, t, dh, dc)
            assert carried is not None
            dc = carried
        cell.accumulate(gradient, local, xh[:steps])

    return Variant(name=ours(PLAIN, CELL), call=call, units=rows * steps, flops=total(products), graph=True)


def _tied(rows: int, steps: int, n: int, device: torch.device, products: list[Product]) -> Variant:
    network = Network(d_in=D_IN, d_out=1, hidden=n)
    parameters = Parameters(network, recall=False, slots=0, dtype=torch.float32, device=device)
    parameters.initialise(0)
    tied = TiedLSTM(parameters.value["cell"], parameters.gradient["cell"])
    segment = torch.randn(steps, rows, D_IN + n, device=device).mul_(0.3)
    c, credit = torch.zeros(rows, n, device=device), torch.randn(rows, n, device=device)
    return Variant(
        name=TIED,
        call=lambda: tied.replay(segment, c, credit),
        units=rows * steps,
        flops=total(products),
        note="the gather of the segments not included; works out W_h s beside W_h h, which ours adds first",
        graph=True,
    )


def _learner(backend: str, rows: int, steps: int, n: int, settings: Settings, replays: int) -> StreamingLearner:
    """One with ``rows`` streams whose updates change nothing, so that each is like the one before."""
    return make_learner(
        backend,
        Network(d_in=D_IN, d_out=9, hidden=n),
        credit=SAB(k_top=K_TRUNC, k_trunc=steps, replays=replays, negligible=0),
        retention=Recent(slots=SLOTS),
        optimizer=SGD(lr=0, clip=0),
        streams=rows,
        seed=settings.seed,
        device=settings.device,
    )


def findings(results: Sequence[CaseResult]) -> list[str]:
    """For each number of rows at n = 128 (else the largest n): what a replay costs of the fused limit."""
    sizes = [int(case.parameters["n"]) for case in results]
    n = 128 if 128 in sizes else max(sizes)
    said = []
    for case in results:
        if case.parameters["n"] != n:
            continue
        ratios = [
            f"{one.name} {one.ratio.median:.2f}"
            for one in case.measurements
            if one.ratio is not None and one.name.startswith((CELL, REPLAY, CHAIN, TIED))
        ]
        at = f"{case.parameters['rows']} rows, n = {n}, {case.parameters['k_trunc']} steps"
        said.append(f"Of nn.LSTM's time per row-step, at {at}: {', '.join(ratios)}.")
    return said


ROW = Row(
    name="cell",
    title="cell, segment replay and window backward",
    purpose="an LSTM cell's steps, VJP and parameter gradient; the streaming learner's update with a replayed segment for "
    "each row and without; their difference, the replay; and a replay as nn.LSTM over [x ; s_prev] with tied weights. Per "
    "row and step, against nn.LSTM's forward and backward, the fused limit. The update without replay has no forward steps "
    "in it, but it has recall's VJP (k_top 5 of 32 slots).",
    cases=cases,
    conclude=findings,
    headline={"n": (128,), "k_trunc": (5,)},
)
