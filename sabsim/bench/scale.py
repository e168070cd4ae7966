"""Row 9: whole blocks on many streams and on a large network: how long a window takes, and how many steps a second."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..credit import SAB
from ..errors import SabsimError
from ..graph import BlockGraph
from ..network import Network
from .backends import make_learner, ours
from .case import Case, CaseResult, Plan, Row, Variant
from .flops import bptt_products, gemm, lstm_products, total, window_products
from .fused import LSTMLearner
from .settings import HIDDEN, K_TRUNC, SLOTS, Settings
from .timing import Timer

WINDOW, FUSED = "SAB, one window", f"nn.LSTM, TBPTT {K_TRUNC}"
SYMBOLS, LETTERS = 10, 50
"""Inputs and outputs: as in copying, and about the characters of the Penn Treebank."""
BLOCKS, LENGTH = 8, 100
"""Blocks drawn beforehand, and steps of a sequence."""


class Size(NamedTuple):
    """Of one case."""

    streams: int
    n: int
    d: int
    replays: int


def cases(settings: Settings) -> list[Plan]:
    """Many streams; the window of 32 streams with 8 replays; a network as large as the Penn Treebank's in the paper."""
    streams, n, large = (4, 16, 32) if settings.quick else (32, HIDDEN, 1_000)
    many = settings.pick((32, 128), (4, 8), on_gpu=(512, 2_048, 8_192))
    sizes = [Size(b, n, SYMBOLS, 2) for b in many]
    sizes += [Size(streams, n, SYMBOLS, 8), Size(streams, large, LETTERS, 2)]
    return [
        Plan(f"{size.streams:,} streams, n = {size.n:,}, {size.replays} replays", partial(_measure, settings, size))
        for size in sizes
    ]


def _measure(settings: Settings, size: Size, timer: Timer) -> CaseResult:
    torch.manual_seed(settings.seed)
    device, (streams, n, d, replays) = settings.device, size
    x, begins, target = symbols(size, settings)
    units = K_TRUNC * streams
    whole = bptt_products(streams, K_TRUNC, n, d, d)
    peer = LSTMLearner(d, n, d, window=K_TRUNC, device=device)
    learn = partial(peer.learn, x[0], target[0])
    variants = [
        gemm(whole, units=units, device=device, note="those of nn.LSTM"),
        Variant(name=FUSED, call=learn, units=units, flops=total(whole), note="state from zero each time", graph=True),
    ]
    work = total(window_products(streams, K_TRUNC, n, d, d, slots=SLOTS, k_top=K_TRUNC))
    work += replays * streams * total(lstm_products(1, K_TRUNC, n, d))
    refused = dict[str, str]()
    for backend in settings.backends.names:
        name = ours(backend, WINDOW)
        try:
            call, note = play(backend, size, settings, x, begins, target)
        except SabsimError as error:
            refused[name] = str(error)
            continue
        variants.append(Variant(name=name, call=call, units=units, flops=work, note=note))
    sizes = {**size._asdict(), "slots": SLOTS, "k_trunc": K_TRUNC}
    return timer.compare(Case(parameters=sizes, unit="stream-step", base=FUSED, variants=variants, refused=refused))


def symbols(size: Size, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks of random symbols: one-hot inputs, the streams that begin, and classes to tell."""
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (BLOCKS, K_TRUNC, size.streams)
    symbols, target = (torch.randint(size.d, shape, generator=generator).to(settings.device) for _ in range(2))
    begins = torch.rand(shape, generator=generator) < 1 / LENGTH
    return nn.functional.one_hot(symbols, size.d).float(), begins.to(settings.device), target


def play(
    backend: str, size: Size, settings: Settings, x: Tensor, begins: Tensor, target: Tensor
) -> tuple[Callable[[], object], str]:
    """A call that plays the next block, the memory being full; and a note on how."""
    learner = make_learner(
        backend,
        Network(d_in=size.d, d_out=size.d, hidden=size.n),
        credit=SAB(k_top=K_TRUNC, k_trunc=K_TRUNC, replays=size.replays, negligible=0),
        streams=size.streams,
        seed=settings.seed,
        device=settings.device,
    )
    graph = BlockGraph(learner, partial(cross_entropy, streams=size.streams), target=target[0, 0])
    blocks = list(zip(x.unbind(0), begins.unbind(0), target.unbind(0), strict=True))
    for block in blocks:
        graph.play(*block)
    turn = itertools.cycle(blocks)
    how = "a CUDA graph for each block" if graph.captured else f"not a CUDA graph: {graph.reason}"
    return lambda: graph.play(*next(turn)), how if settings.device.type == "cuda" else ""


def cross_entropy(y: Tensor, target: Tensor, *, streams: int) -> tuple[Tensor, Tensor]:
    """Mean over ``streams`` and steps of a block: dL/dy (B, d_out), and each stream's own loss (B,)."""
    log_p = torch.log_softmax(y, 1)
    chosen = target.unsqueeze(1)
    dL_dy = log_p.exp().scatter_add_(1, chosen, torch.full_like(chosen, -1, dtype=y.dtype))
    return dL_dy.div_(K_TRUNC * streams), -log_p.gather(1, chosen).squeeze(1)


def findings(results: Sequence[CaseResult]) -> list[str]:
    """The time of a window, stream-steps a second, and the ratio to ``nn.LSTM``'s row-step."""
    said = []
    for case in results:
        sizes = case.parameters
        units = int(sizes["streams"]) * int(sizes["k_trunc"])
        for one in case.measurements:
            if one.name.startswith(WINDOW) and one.ratio is not None:
                seconds = one.time.median
                said.append(
                    f"{one.name} of {sizes['streams']} streams, n = {sizes['n']}, {sizes['replays']} replays: "
                    f"{1e3 * seconds * units:,.2f} ms, {1 / seconds:,.0f} stream-steps a second, "
                    f"{one.ratio.median:.2f} of {FUSED}."
                )
    return said


ROW = Row(
    name="scale",
    title="many streams and large networks",
    purpose="a whole window of 5 steps with its update, 32 slots, every replay used, on random symbols: 32 and 128 streams "
    "(on a GPU up to 8,192) with n = 128 and 2 replays; 32 streams with 8 replays; and n = 1,000 with 50 inputs and "
    "outputs, about the size that the paper used for the Penn Treebank. On a GPU every block is one CUDA graph. The peer "
    "is nn.LSTM with a readout, clip and fused Adam on windows of 5 steps.",
    cases=cases,
    conclude=findings,
)
