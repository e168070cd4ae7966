"""Those who learn whole sequences of the copying task: ours, fused ``nn.LSTM``, and the published method literally.

A contender is a description that can be sent to another process, where its memory is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ..credit import SAB
from ..network import Network
from ..reference import ReferenceLearner
from .backends import PLAIN, make_learner, ours
from .case import Variant
from .flops import Product, bptt_products, lstm_products, total, window_products
from .fused import LSTMLearner
from .isolated import available_bytes, isolated, peak_mb
from .literal import LiteralSAB, graph_bytes, microstates_scored
from .recording import Recording
from .settings import K_TRUNC, SLOTS

Kind = Literal["sab", "fused", "literal", "oracle"]
LITERAL, FUSED, ORACLE = "literal SAB, autograd", "nn.LSTM, BPTT", "sabsim.reference (oracle)"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Who learns (``kind``; ours in ``backend``), and the sizes: T, streams, n, k_att; k_top = k_trunc = 5, 32 slots."""

    kind: Kind
    T: int
    streams: int
    n: int
    k_att: int
    device: str
    seed: int
    backend: str = PLAIN

    @property
    def name(self) -> str:
        """As shown."""
        return {"sab": ours(self.backend, "SAB"), "fused": FUSED, "literal": LITERAL, "oracle": ORACLE}[self.kind]

    def play(self, recording: Recording) -> Callable[[], object]:
        """A call that learns one sequence of every stream of the ``recording``."""
        torch.manual_seed(self.seed)
        device, d, d_out = torch.device(self.device), recording.task.d_in, recording.task.d_out
        if self.kind == "sab":
            credit = SAB(k_top=K_TRUNC, k_trunc=K_TRUNC, k_att=self.k_att)
            network = Network(d_in=d, d_out=d_out, hidden=self.n)
            learner = make_learner(
                self.backend, network, credit=credit, streams=self.streams, seed=self.seed, device=device
            )
            return recording.player(learner)[0]
        if self.kind == "fused":
            fused = LSTMLearner(d, self.n, d_out, window=None, device=device)
            return lambda: fused.learn(recording.x, recording.target)
        if self.kind == "literal":
            literal = LiteralSAB(d, self.n, d_out, k_top=K_TRUNC, k_trunc=K_TRUNC, k_att=self.k_att, device=device)
            return lambda: literal.learn(recording.x, recording.target)
        return self._oracle(recording)

    def _oracle(self, recording: Recording) -> Callable[[], object]:
        """The oracle over whole sequences, with the parts of the authors' code; gradient only, no update."""
        network = Network(
            d_in=recording.task.d_in,
            d_out=recording.task.d_out,
            hidden=self.n,
            salience="tanh",
            sparsify="normalised",
            stores="h",
        )
        parameters = make_learner(PLAIN, network, seed=self.seed, device=torch.device("cpu")).parameters
        held = [list(range(self.k_att - 1, t, self.k_att)) for t in range(recording.steps)]
        births = [torch.tensor(steps, dtype=torch.int64).expand(self.streams, -1) for steps in held]

        def call() -> None:
            oracle = ReferenceLearner(
                parameters,
                streams=self.streams,
                k_top=K_TRUNC,
                k_trunc=K_TRUNC,
                k_att=self.k_att,
                update_every=1,
                salience="tanh",
                sparsify="normalised",
                stores="h",
                slots=recording.steps,
                whole_sequence=True,
            )
            for x, wanted, birth in zip(recording.x, recording.wanted, births, strict=True):
                oracle.learn(torch.softmax(oracle.step(x, birth), 1) - wanted)
            oracle.finish()

        return call

    def flops(self, recording: Recording) -> float:
        """Operations of the matrix products of one sequence of every stream; SAB's without its replays."""
        steps, b, n, d, d_out = recording.steps, self.streams, self.n, recording.task.d_in, recording.task.d_out
        if self.kind == "sab":
            block = window_products(b, K_TRUNC, n, d, d_out, slots=SLOTS, k_top=K_TRUNC)
            return total(block) * steps / K_TRUNC
        if self.kind == "fused":
            return total(bptt_products(b, steps, n, d, d_out))
        scores = Product(b * microstates_scored(steps, self.k_att), 2 * n, 1, 3)
        return total([*lstm_products(b, steps, n, d), Product(b * steps, 2 * n, d_out, 3), scores])

    def variant(self, recording: Recording, *, units: float, note: str = "") -> Variant:
        """To be timed."""
        return Variant(name=self.name, call=self.play(recording), units=units, flops=self.flops(recording), note=note)

    def too_large(self) -> str | None:
        """Why there is not enough memory, or None."""
        free = torch.cuda.mem_get_info()[0] if torch.device(self.device).type == "cuda" else available_bytes()
        if self.kind != "literal" or free is None:
            return None
        needed = 1.5 * graph_bytes(self.T + 20, self.streams, self.n, self.k_att)
        return f"needs about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free" if needed > free else None

    def memory_mb(self) -> float:
        """Most memory that learning takes beyond the sequences themselves, in a process of its own.

        Raises ProcessDiedError: there was not enough.
        """
        return isolated(peaks_mb, [self])[self.name]


def peaks_mb(contenders: Sequence[Contender]) -> dict[str, float]:
    """Peak memory of each by its name, one after the other in this process."""
    return {contender.name: _peak_of(contender) for contender in contenders}


def _peak_of(contender: Contender) -> float:
    device = torch.device(contender.device)

    def learn(one: Contender, recording: Recording) -> None:
        call = one.play(recording)
        for _ in range(2):
            call()

    small = replace(contender, T=5, streams=2)
    learn(small, Recording(small.T, small.streams, seed=small.seed, device=device))
    recording = Recording(contender.T, contender.streams, seed=contender.seed, device=device)
    return peak_mb(lambda: learn(contender, recording), device)
