"""The gradient of a run's loss with respect to every step's state, under several rules, on the same sequences.

All rules have the parameters of the run, fixed, and all but one its forward pass, with the memory that the streaming
learner kept; they differ in where credit may go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sabsim.attentive import AttentiveLearner
from sabsim.errors import ConfigError
from sabsim.learner import StreamingLearner
from sabsim.runs.build import build_learner
from sabsim.runs.config import RunConfig
from sabsim.tasks import TaskStream

from .flow import CreditFlow
from .recall_graph import Recalls, chains, sparsity

RULES = {
    "sab": "SAB, streaming",
    "tbptt": "truncated BPTT",
    "recurrence": "BPTT, recurrence alone",
    "bptt": "BPTT, recurrence and recall",
    "self-attention": "full self-attention, BPTT",
}
"""By name. Credit goes: through the windows and by replay; through the windows; back to the beginning, microstates being
constants; everywhere, the exact gradient; everywhere, in another forward pass, which reads every past state."""

TASKS = ("copying", "adding", "denoise")
"""Those that draw sequences of a known length and tell which steps matter."""

LEAST = 0.05
"""Recall weight below which a recall hardly counts; kappa and d are told for 0 and for this."""

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """Sparsity and depth of one forward pass, for a least weight.

    ``kappa`` ``(sequences, steps)``; ``depth``: d of each sequence, ``(sequences,)``; ``to_sources``: lengths of the
    shortest chains from scored steps to the steps they need, of all sequences, ``(pairs,)``; 0: there is none.
    """

    least: float
    kappa: NDArray[np.int64]
    depth: NDArray[np.int64]
    to_sources: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What `measure` found.

    ``gradient``: by rule, dL/dh_hat of every step, ``(sequences, steps, n)``, L being a sequence's own loss; ``loss``: by
    rule, ``(sequences,)``; ``sources``: for each sequence (scored step, step it needs); ``recalled``: by forward pass
    (``run``, ``self-attention``) for both least weights; ``left_out``: by rule, why it is not there.
    """

    gradient: dict[str, Floats]
    loss: dict[str, Floats]
    sources: list[list[tuple[int, int]]]
    recalled: dict[str, list[Recalled]]
    left_out: dict[str, str]

    def norm(self, rule: str) -> Floats:
        """|dL/dh_hat_t|, ``(sequences, steps)``."""
        return np.asarray(np.linalg.norm(self.gradient[rule], axis=2))

    def cosine(self, rule: str) -> Floats:
        """Cosine with full BPTT's gradient of the same step, ``(sequences, steps)``; NaN where either is 0."""
        mine, whole = self.gradient[rule], self.gradient["bptt"]
        with np.errstate(invalid="ignore"):
            return np.asarray((mine * whole).sum(axis=2) / (self.norm(rule) * self.norm("bptt")))

    def needed(self) -> Marks:
        """Steps that a scored one needs, ``(sequences, steps)``."""
        return self._marked(1)

    def scored(self) -> Marks:
        """Steps that are scored and need another one, ``(sequences, steps)``."""
        return self._marked(0)

    def _marked(self, end: int) -> Marks:
        marked = np.zeros(self.norm("bptt").shape, dtype=bool)
        for b, pairs in enumerate(self.sources):
            marked[b, [pair[end] for pair in pairs]] = True
        return marked


def measure(
    config: RunConfig,
    learned: Mapping[str, Tensor],
    *,
    sequences: int,
    seed: int,
    all_losses: bool = False,
    after_rule: Callable[[str], None] = lambda rule: None,
) -> Measured:
    """Plays held-out ``sequences`` in float64, each from the beginning of a block, and differentiates their losses.

    Args:
        config: the run.
        learned: its parameters, as `StreamingLearner.learned`.
        sequences: how many, side by side.
        seed: of the sequences.
        all_losses: L is the loss of all steps, as in training; by default that of the scored ones, the answers.
        after_rule: hears of each rule that is done.

    Raises:
        ConfigError: a task or an option that cannot be measured
    """
    if config.task.name not in TASKS:
        raise ConfigError(f"task = {config.task.name!r}: gradients can be followed in {', '.join(TASKS)}")
    if config.learner.replay_threshold > 0:
        raise ConfigError(f"replay_threshold = {config.learner.replay_threshold}: only runs without one can be measured")
    run = replace(config.run, streams=sequences, seed=seed, device="cpu", dtype="float64", backend="torch")
    # The oracle knows no range: gradients are those of the cell itself.
    config = replace(config, run=run, learner=replace(config.learner, familiar=False))
    learner = build_learner(config)
    if isinstance(learner, AttentiveLearner):
        raise ConfigError(f"credit = {learner.credit.name!r}: cannot be measured; runs of sab, tbptt, bptt can")
    for name, value in learner.learned.items():
        value.copy_(learned[name])
    player = _Player(config, learner.evaluator(seed=seed), all_losses=all_losses)
    flows: dict[str, CreditFlow] = {}
    losses: dict[str, Floats] = {}
    for rule, options in _options(learner, config.length).items():
        flows[rule] = CreditFlow(learner.parameters, steps=config.length, streams=sequences, **options)
        losses[rule] = player.play(flows[rule], everything=rule == "self-attention")
        after_rule(rule)
    return _found(learner, flows, losses, player.sources())


def _options(learner: StreamingLearner, length: int) -> dict[str, dict[str, Any]]:
    """For each rule that must be played, the options of its `CreditFlow`; tbptt is the window of sab."""
    network, credit = learner.network, learner.credit
    same: dict[str, Any] = {
        "cell": network.cell,
        "salience": network.salience,
        "sparsify": network.sparsify,
        "stores": network.stores,
        "readout": network.readout,
        "feeds": network.feeds,
        "k_top": credit.k_top,
        "k_att": credit.k_att,
        "slots": learner.retention.slots if credit.recalls else 0,
        "update_every": credit.block,
    }
    streaming = same | {"k_trunc": credit.k_trunc, "replays": credit.budget, "negligible": credit.negligible}
    # The oracle of the whole sequence cuts its chain at every k_trunc-th step: beyond the end it never does.
    whole = same | {"k_trunc": length + credit.block, "whole_sequence": True}
    if not credit.recalls:
        return {"tbptt": streaming, "bptt": whole}
    rules = {"sab": streaming, "recurrence": whole | {"constant_memory": True}, "bptt": whole}
    if _any_slots(learner):
        all_of_it = {"sparsify": "softmax", "k_top": length, "slots": length, "k_att": 1, "update_every": 1}
        rules["self-attention"] = whole | all_of_it
    return rules


def _any_slots(learner: StreamingLearner) -> bool:
    """Whether the parameters can read more microstates than there are slots."""
    return learner.network.salience != "affine" and learner.network.readout == "summary"


class _Player:
    """The same sequences again and again, for one rule after the other; the evaluator tells what memory held."""

    def __init__(self, config: RunConfig, evaluator: StreamingLearner, *, all_losses: bool) -> None:
        self._task, self._run, self._length = config.task, config.run, config.length
        self._all_losses = all_losses
        self._held = self._watch(evaluator) if evaluator.credit.recalls else []

    def play(self, flow: CreditFlow, *, everything: bool) -> Floats:
        """All steps of all sequences through ``flow``; returns their losses, ``(sequences,)``.

        ``everything``: every past state can be read, not what the run's memory held.
        """
        stream, streams = self._stream(), self._run.streams
        loss = torch.zeros(streams, dtype=torch.float64)
        for t in range(self._length):
            step = stream.next()
            flow.reset(step.first)
            past = torch.where(torch.arange(self._length) < t, torch.arange(self._length), -1).expand(streams, -1)
            birth = past if everything else self._held[t] if self._held else None
            score = stream.score(flow.step(step.x, birth), step)
            counts = step.scored | self._all_losses
            loss += score.loss * counts
            flow.learn(score.dL_dy * streams * counts.unsqueeze(1))  # the score's gradient is that of the mean over streams
        if flow.whole_sequence:
            flow.finish()
        else:
            self._end_block(flow)
        return loss.numpy()

    def sources(self) -> list[list[tuple[int, int]]]:
        """For each sequence, pairs of a scored step and a step that it needs."""
        stream = self._stream()
        pairs: list[list[tuple[int, int]]] = [[] for _ in range(self._run.streams)]
        for t in range(self._length):
            scored = stream.next().scored
            for b, needed in enumerate(stream.sources().tolist()):
                pairs[b] += [(t, source) for source in needed if source >= 0 and scored[b]]
        return pairs

    def _stream(self) -> TaskStream:
        run = self._run
        return self._task.stream(streams=run.streams, seed=run.seed, dtype=torch.float64, part="validation")

    def _watch(self, evaluator: StreamingLearner) -> list[Tensor]:
        """Which source step each slot held at every step, each ``(sequences, slots)``."""
        stream, held = self._stream(), []
        for _ in range(self._length):
            step = stream.next()
            evaluator.reset(step.first)
            held.append(evaluator.macrostate.birth)
            score = stream.score(evaluator.step(step.x), step)
            evaluator.learn(score.dL_dy, score.loss)
        evaluator.check()
        return held

    def _end_block(self, flow: CreditFlow) -> None:
        """Steps of another sequence, without a loss, until the last block of this one is over."""
        streams = self._run.streams
        for _ in range(ceil(self._length / flow.update_every) * flow.update_every - self._length):
            flow.reset(torch.ones(streams, dtype=torch.bool))
            y = flow.step(torch.zeros(streams, self._task.d_in, dtype=torch.float64))
            flow.learn(torch.zeros_like(y))


def _found(
    learner: StreamingLearner,
    flows: Mapping[str, CreditFlow],
    losses: dict[str, Floats],
    sources: list[list[tuple[int, int]]],
) -> Measured:
    gradient = {rule: flow.flow.numpy() for rule, flow in flows.items()}
    recalled, left_out = {}, {}
    if learner.credit.recalls:
        gradient["tbptt"], losses["tbptt"] = flows["sab"].window.numpy(), losses["sab"]
        behind = _behind(learner)
        passes = {"run": flows["bptt"]} | {rule: flow for rule, flow in flows.items() if rule == "self-attention"}
        for name, flow in passes.items():
            graphs = [flow.recalls(b) for b in range(learner.streams)]
            recalled[name] = [_recalled(graphs, sources, behind=behind, least=least) for least in (0.0, LEAST)]
        if not _any_slots(learner):
            left_out["self-attention"] = "its parameters belong to a fixed number of slots"
    else:
        left_out = dict.fromkeys(("sab", "recurrence", "self-attention"), "the run recalls nothing")
    order = [rule for rule in RULES if rule in gradient]
    return Measured(
        gradient={rule: gradient[rule] for rule in order},
        loss={rule: losses[rule] for rule in order},
        sources=sources,
        recalled=recalled,
        left_out=left_out,
    )


def _behind(learner: StreamingLearner) -> int | None:
    """How many steps before its own the recall went into a microstate, see `chains`."""
    if learner.network.stores == "h":
        return 0
    return 1 if learner.network.feeds == "h" else None


def _recalled(
    graphs: list[list[dict[int, float]]], sources: list[list[tuple[int, int]]], *, behind: int | None, least: float
) -> Recalled:
    found: list[Recalls] = [graph for graph in graphs]
    shortest = [chains(graph, behind=behind, least=least) for graph in found]
    pairs = [lengths[step, source] for lengths, needed in zip(shortest, sources, strict=True) for step, source in needed]
    return Recalled(
        least=least,
        kappa=np.stack([sparsity(graph, least=least) for graph in found]),
        depth=np.array([lengths.max() for lengths in shortest]),
        to_sources=np.array(pairs, dtype=np.int64),
    )
