"""The keystone: the explicit, tape-free learner against the autograd oracle, every parameter, every block.

Both backends are held to it: torch on every combination of pieces, the native one on every combination that it serves.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import combinations, cycle, product

import pytest
import torch
from torch import Tensor

import sabsim.salience
import sabsim.sparsify
from sabsim import SAB, SGD, Network, ReplayEvents, StreamingLearner
from sabsim.native import library_or_none
from sabsim.reference import ReferenceLearner
from sabsim.retention import All, Novelty, Recent, Relevancy, Reservoir, Retention, Surprise

STREAMS, HIDDEN, D_IN, D_OUT, STEPS, K_TRUNC, SLOTS = 3, 5, 4, 3, 23, 3, 6
TOLERANCE = 1e-9

# Streams begin anew at awkward moments: inside a block, twice running, at a block's first and last step.
RESETS = {0: [0], 7: [1], 8: [1], 10: [0], 15: [1], 17: [0, 1]}

RETENTIONS: dict[str, Retention] = {
    "all": All(slots=STEPS),
    "recent": Recent(slots=SLOTS),
    "reservoir": Reservoir(slots=SLOTS),
    "relevancy": Relevancy(slots=SLOTS, buffer=2),
    "novelty": Novelty(slots=SLOTS, protect=2),
    "surprise": Surprise(slots=SLOTS),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration of both learners; `replays` None means as many as there are slots."""

    cell: str = "lstm"
    salience: str = "cosine"
    sparsify: str = "softmax"
    k_att: int = 1
    retention: str = "recent"
    stores: str = "h_hat"
    readout: str = "summary"
    feeds: str = "h"
    update_every: int = K_TRUNC
    replays: int | None = None
    k_top: int = 3
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    def __str__(self) -> str:
        return "-".join(str(value) for value in asdict(self).values())


LEVELS: dict[str, list] = {
    "cell": ["lstm", "gru", "rnn"],
    "salience": ["cosine", "dot", "mlp", "affine", "tanh"],
    "sparsify": ["softmax", "relu", "normalised", "dense"],
    "k_att": [1, 2, 3],
    "retention": list(RETENTIONS),
    "stores": ["h_hat", "h"],
    "readout": ["summary", "weights"],
    "feeds": ["h", "h_hat"],
    "update_every": [1, 2, K_TRUNC],
    "replays": [None, 2, 1, 0],
    "k_top": [2, 3, SLOTS],
}
Pair = tuple[tuple[str, object], tuple[str, object]]


def pairs(case: dict[str, object]) -> set[Pair]:
    """Every two settings that occur together in a case."""
    return set(combinations(case.items(), 2))


def wanted(levels: dict[str, list]) -> set[Pair]:
    """Every two settings that should occur together."""
    return {((a, x), (b, y)) for a, b in combinations(levels, 2) for x in levels[a] for y in levels[b]}


def covering(levels: dict[str, list], first: tuple[str, ...]) -> list[Case]:
    """Every combination of the settings ``first``, the others chosen so that each pair of settings occurs.

    Every other one has dropout, every third with an LSTM or a GRU recurrent dropout.
    """
    choose = random.Random(0)
    missing = wanted(levels)
    cases = []
    for triple in product(*(levels[name] for name in first)):
        drafts = [
            {n: triple[first.index(n)] if n in first else choose.choice(levels[n]) for n in levels} for _ in range(40)
        ]
        best = max(drafts, key=lambda draft: len(pairs(draft) & missing))
        missing -= pairs(best)
        recurrent = 0.3 * (best["cell"] != "rnn" and len(cases) % 3 == 0)
        cases.append(Case(**best, dropout=0.4 * (len(cases) % 2), recurrent_dropout=recurrent))
    return cases


CASES = covering(LEVELS, ("cell", "salience", "sparsify"))
SERVED = LEVELS | {"cell": ["lstm"], "salience": ["cosine"], "sparsify": ["softmax"], "readout": ["summary"]}
"""What the native backend serves."""
NATIVE_CASES = covering(SERVED, ("retention", "update_every", "k_top"))
compiled = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")


def streaming(case: Case, *, lr: float = 0.0, backend: str = "torch") -> StreamingLearner:
    """The fast learner of a case with every parameter, biases too, drawn at random."""
    retention = RETENTIONS[case.retention]
    learner = StreamingLearner(
        Network(
            d_in=D_IN, d_out=D_OUT, hidden=HIDDEN, cell=case.cell, salience=case.salience,
            sparsify=case.sparsify, stores=case.stores, readout=case.readout, feeds=case.feeds,
        ),
        credit=SAB(
            explore=0.0,
            negligible=0.0,
            k_top=case.k_top, k_trunc=K_TRUNC, k_att=case.k_att, update_every=case.update_every,
            replays=retention.slots if case.replays is None else case.replays, trigger="clock",
        ),
        retention=retention, optimizer=SGD(lr=lr, clip=0.0), streams=STREAMS, seed=1, dtype=torch.float64,
        dropout=case.dropout, recurrent_dropout=case.recurrent_dropout, backend=backend,
    )  # fmt: skip
    randomise(learner)
    return learner


def randomise(learner: StreamingLearner) -> None:
    generator = torch.Generator().manual_seed(5)
    learner.flat.copy_(0.4 * torch.randn(learner.flat.shape, generator=generator, dtype=torch.float64))


def reference(case: Case, learner: StreamingLearner, *, update: Callable | None = None) -> ReferenceLearner:
    """The oracle of a case with the learner's parameters."""
    names = [field.name for field in fields(case) if field.name not in ("retention", "dropout", "recurrent_dropout")]
    return ReferenceLearner(
        learner.parameters, streams=STREAMS, k_trunc=K_TRUNC, slots=RETENTIONS[case.retention].slots,
        update=update, **{name: getattr(case, name) for name in names},
    )  # fmt: skip


@dataclass(frozen=True)
class Signal:
    """What both learners meet at one step."""

    done: Tensor  # (streams,) bool
    x: Tensor  # (streams, d_in)
    dL_dy: Tensor  # (streams, d_out)
    loss: Tensor  # (streams,)


def signals(steps: int) -> Iterator[Signal]:
    generator = torch.Generator().manual_seed(6)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for t in range(steps):
        done = torch.zeros(STREAMS, dtype=torch.bool)
        done[RESETS.get(t, [])] = True
        yield Signal(done, draw(STREAMS, D_IN), draw(STREAMS, D_OUT), draw(STREAMS).square())


def deviation(found: Tensor, expected: Tensor, *, floor: float = 1e-30) -> float:
    """Greatest entry of the difference over the greatest expected, or `floor` if more; NaN is infinite."""
    error = (found - expected).abs().max().item() / max(expected.abs().max().item(), floor)
    return error if math.isfinite(error) else math.inf


@dataclass
class Comparison:
    """Gradients of every block from both sides, and what the outputs and events differ by."""

    fast: list[dict[str, Tensor]]
    slow: list[dict[str, Tensor]]
    output_error: float = 0.0
    event_error: float = 0.0

    def scale(self, name: str) -> float:
        """The greatest entry of a parameter's gradient in the whole run."""
        return max(g[name].abs().max().item() for g in self.slow)

    def error(self, name: str) -> float:
        """Worst block's greatest deviation over its greatest entry, or a thousandth of the run's if more."""
        floor = max(1e-3 * self.scale(name), 1e-30)
        pairs = zip(self.fast, self.slow, strict=True)
        return max(deviation(f[name], s[name], floor=floor) for f, s in pairs)

    def accumulated_error(self, name: str) -> float:
        fast, slow = (torch.stack([g[name] for g in side]).sum(0) for side in (self.fast, self.slow))
        return deviation(fast, slow)


def compare(learner: StreamingLearner, oracle: ReferenceLearner, steps: int = STEPS) -> Comparison:
    """Runs both on the same signals; the oracle is told what the macrostate holds and what dropout leaves, nothing else."""
    result = Comparison([], [])
    for signal in signals(steps):
        for side in (learner, oracle):
            side.reset(signal.done)
        birth = learner.macrostate.birth.clone() if oracle.equations.k_top else None
        y = learner.step(signal.x)
        expected = oracle.step(signal.x, birth, mask=learner.window.mask, carried=learner.window.carried)
        result.output_error = max(result.output_error, deviation(y, expected))
        events, gradients = learner.learn(signal.dL_dy, signal.loss), oracle.learn(signal.dL_dy)
        if gradients is None:
            assert events is None
        else:
            result.fast.append({name: g.clone() for name, g in learner.grads.items()})
            result.slow.append(gradients)
            result.event_error = max(result.event_error, event_error(events, oracle))
    return result


def event_error(events: ReplayEvents | None, oracle: ReferenceLearner) -> float:
    """Greatest error of the credit in the replay events, relative to the block's greatest credit.

    An event that is not the oracle's counts in full, and so does one that is missing.
    """
    found = {}
    if events is not None:
        for b, place in events.valid.nonzero().tolist():
            found[b, int(events.source_step[b, place])] = events.credit[b, place]
    norms = {source: oracle.credit[source].norm() for source in oracle.replayed}
    sources, zero = sorted(set(found) | set(norms)), torch.zeros((), dtype=torch.float64)
    if not sources:
        return 0.0
    both = (torch.stack([side.get(source, zero) for source in sources]) for side in (found, norms))
    return deviation(*both)


def cancels(case: Case, name: str) -> bool:
    """Whether a gradient is zero in theory: the query of a score that is a sum of query and memory terms."""
    return name == "salience.w_h" and case.salience in ("affine", "tanh")


def nearly_cancels(case: Case, name: str) -> bool:
    """Whether a gradient is zero but for the normaliser's epsilon: a common factor of scores that are normalised, and any
    score where one microstate alone is above the threshold, with a weight of 1 whatever it is.
    """
    scores = name == "salience.g" or (name.startswith("salience.") and case.k_top == 2)
    return scores and case.sparsify == "normalised"


def assert_equal(case: Case, result: Comparison) -> None:
    """Outputs, events and every parameter's gradient in every block; and none of it vacuous."""
    assert result.output_error < TOLERANCE
    assert result.event_error < TOLERANCE
    assert set(result.fast[0]) == set(result.slow[0])
    for name in result.slow[0]:
        if cancels(case, name):
            noise = max(side[name].abs().max().item() for side in result.fast + result.slow)
            assert noise < 1e-12 * max(result.scale(n) for n in result.slow[0]), name
            continue
        if nearly_cancels(case, name):
            greatest = max(result.scale(n) for n in result.slow[0])
            assert 0 < result.scale(name) < 1e-2 * greatest, name
            pairs = zip(result.fast, result.slow, strict=True)
            assert max((f[name] - s[name]).abs().max().item() for f, s in pairs) < 1e-12 * greatest, name
            continue
        assert result.scale(name) > 1e-6, f"{name} has a trivial gradient"
        assert result.error(name) < TOLERANCE, f"{name}: relative error {result.error(name):.1e}"
        assert result.accumulated_error(name) < TOLERANCE, name


def test_the_cases_cover_every_pair_of_settings() -> None:
    for levels, cases in ((LEVELS, CASES), (SERVED, NATIVE_CASES)):
        assert wanted(levels) <= set().union(*(pairs(asdict(case)) for case in cases))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_block_gradient_equals_the_oracle(case: Case) -> None:
    learner = streaming(case)
    assert_equal(case, compare(learner, reference(case, learner)))


@compiled
@pytest.mark.parametrize("case", NATIVE_CASES, ids=str)
def test_every_native_block_gradient_equals_the_oracle(case: Case) -> None:
    learner = streaming(case, backend="native")
    assert learner.backend == "native"
    assert_equal(case, compare(learner, reference(case, learner)))


def test_the_replay_limit_changes_the_gradient() -> None:
    """The limited cases above would prove nothing if the limit did nothing."""
    results = []
    for replays in (None, 1, 0):
        case = Case(replays=replays)
        learner = streaming(case)
        results.append(compare(learner, reference(case, learner)))
    for limited in results[1:]:
        change = max(
            (a["cell.W_h"] - b["cell.W_h"]).abs().max().item() for a, b in zip(results[0].fast, limited.fast, strict=True)
        )
        assert change > 1e-3 * results[0].scale("cell.W_h")


def descent(lr: float) -> Callable:
    """Plain gradient descent on the oracle's parameters."""

    def update(parameters: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        for name, parameter in parameters.items():
            parameter -= lr * gradients[name]

    return update


ONLINE = [
    Case(),
    Case(dropout=0.3),
    Case(recurrent_dropout=0.3),
    Case(feeds="h_hat"),
    Case(feeds="h_hat", stores="h", cell="gru", recurrent_dropout=0.3),
    Case(cell="gru", salience="mlp", retention="novelty", replays=2),
    Case(cell="rnn", sparsify="relu", stores="h", readout="weights", k_att=2),
    Case(salience="affine", sparsify="relu", stores="h", readout="weights", retention="all"),
    Case(cell="gru", salience="tanh", sparsify="normalised", stores="h", retention="relevancy"),
    Case(cell="rnn", salience="mlp", sparsify="dense", k_att=3, retention="reservoir", replays=1),
    Case(salience="affine", sparsify="dense", retention="surprise", k_top=2),
]


NATIVE_ONLINE = [
    Case(retention=name, stores=stores, feeds=feeds)
    for name, stores, feeds in zip(RETENTIONS, cycle(["h_hat", "h"]), cycle(["h", "h", "h_hat"]), strict=False)
]
BOTH = [("torch", case) for case in ONLINE] + [pytest.param("native", case, marks=compiled) for case in NATIVE_ONLINE]


@pytest.mark.parametrize(("backend", "case"), BOTH, ids=str)
def test_online_training_follows_the_oracle(backend: str, case: Case) -> None:
    """Ten updates by gradient descent: stored values are yesterday's, twins have today's parameters."""
    lr = 0.02
    learner = streaming(case, lr=lr, backend=backend)
    start = {name: p.clone() for name, p in learner.parameters.items()}
    oracle = reference(case, learner, update=descent(lr))
    result = compare(learner, oracle, steps=10 * K_TRUNC)
    assert result.output_error < TOLERANCE
    assert result.event_error < TOLERANCE
    for name, expected in oracle.parameters.items():
        moved = (expected - start[name]).abs().max().item()
        assert moved > 1e-4 or cancels(case, name), name
        assert (learner.parameters[name] - expected).abs().max().item() < TOLERANCE * max(moved, 1e-3), name


SLIDING = [
    ("torch", Case(update_every=1)),
    ("torch", Case(update_every=2, cell="gru", salience="mlp", retention="novelty")),
    ("torch", Case(update_every=1, salience="affine", sparsify="dense", replays=2)),
    pytest.param("native", Case(update_every=1), marks=compiled),
    pytest.param("native", Case(update_every=2, retention="novelty", replays=2), marks=compiled),
]


@pytest.mark.parametrize(("backend", "case"), SLIDING, ids=str)
def test_a_sliding_window_follows_the_oracle_to_first_order(backend: str, case: Case) -> None:
    """Steps before the block ran with older parameters, and the fast learner keeps their Jacobians.

    The oracle takes them with today's, so online the two differ by a term proportional to the step size; the
    readout's gradient, which needs none of them, by its square.
    """
    gaps = []
    for lr in (1e-4, 1e-5):
        learner = streaming(case, lr=lr, backend=backend)
        result = compare(learner, reference(case, learner, update=descent(lr)))
        names = [name for name in result.slow[0] if not cancels(case, name)]
        gaps.append({name: result.accumulated_error(name) for name in names})
    for name, gap in gaps[1].items():
        assert gap < (1e-8 if name.startswith("readout") else 1e-4), name
        assert gap < 0.2 * gaps[0][name] or gap < TOLERANCE, name


def without_mean(dw: Tensor, weight: Tensor) -> Tensor:
    """A softmax VJP that forgets that the weights sum to one."""
    return weight * dw


def without_query(self: object, p: object, da: Tensor, m: Tensor, h_hat: Tensor, *trace: object) -> Tensor:
    """A salience VJP that forgets that the query depends on the state."""
    return torch.zeros_like(h_hat)


@pytest.mark.parametrize(
    ("place", "name", "bug"),
    [(sabsim.sparsify, "_softmax_vjp", without_mean), (sabsim.salience.Cosine, "query_vjp", without_query)],
    ids=["softmax", "query"],
)
def test_a_planted_bug_is_caught(place: object, name: str, bug: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    learner = streaming(case)
    oracle = reference(case, learner)
    monkeypatch.setattr(place, name, bug)
    result = compare(learner, oracle)
    assert result.output_error < TOLERANCE
    assert result.error("cell.W_h") > 1e3 * TOLERANCE


@compiled
@pytest.mark.parametrize("pointer", ["W_q", "W_k", "W"])
def test_a_planted_native_bug_is_caught(pointer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backward pass in C is shown weights of zeros; the forward pass has its own packed copy."""
    case = Case()
    learner = streaming(case, backend="native")
    oracle = reference(case, learner)
    calls = learner._backend._calls
    calls.pack()
    monkeypatch.setattr(calls, "pack", lambda: None)
    struct = calls.learner
    struct.bind(**{pointer: torch.zeros_like(struct.tensors[pointer])})
    result = compare(learner, oracle)
    assert result.output_error < TOLERANCE
    assert result.error("cell.W_h") > 1e3 * TOLERANCE
