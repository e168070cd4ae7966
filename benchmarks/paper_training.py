"""Facts of training: eq. 1-5 overflow, and the released code's gradient varies widely."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from paper_fact import Fact, Rows
from paper_literal import Eq1To5, Released, copying
from torch import nn

from sabsim.errors import NonFiniteError
from sabsim.reproduce import TABLES
from sabsim.reproduce.tables import config
from sabsim.runs.build import build


def literal_training(kind: str, *, T: int, hidden: int, batch: int, updates: int, seed: int, clip: float) -> dict[str, Any]:
    """Adam 1e-3 on copying until something is not finite or ``updates`` are over; ``kind``: "eq. 1-5" or "released"."""
    torch.manual_seed(seed)
    data = torch.Generator().manual_seed(seed)
    sizes = {"hidden": hidden, "k_top": 5, "k_trunc": 5, "k_att": 1 if kind == "eq. 1-5" else 2}
    model = Eq1To5(steps=T + 20, **sizes) if kind == "eq. 1-5" else Released(**sizes)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    norms: list[float] = []
    before, accuracy = [0.0], 0.0
    for update in range(1, updates + 1):
        shown, wanted = copying(batch, T, data)
        logits = model(model.encode(shown))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        adam.zero_grad()
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), clip))
        if not (math.isfinite(norm) and math.isfinite(float(loss.detach()))):
            return _trained(norms, f"update {update}: not finite", max(before), model.course)
        norms.append(norm)
        before = model.course
        accuracy = float((logits[:, -10:].argmax(2) == wanted[:, -10:]).double().mean())
        adam.step()
    return _trained(norms, f"finite; accuracy of the last batch {accuracy:.3f}", max(before), [])


def _trained(norms: Sequence[float], ended: str, largest: float | None, course: Sequence[float]) -> dict[str, Any]:
    """A row; ``course``: of h through the sequence that overflowed, of which the last six finite steps are told."""
    ordered = sorted(norms)
    finite = [f"{most:.1e}" for most in course if math.isfinite(most)]
    return {
        "updates": len(norms),
        "ended": ended,
        "gradient norm, median": statistics.median(ordered) if ordered else None,
        "90 %": ordered[int(0.9 * len(ordered))] if ordered else None,
        "greatest": ordered[-1] if ordered else None,
        "largest h, an update before": largest,
        "largest h at the last finite steps": " ".join(finite[-6:]),
    }


def preset_training(preset: str, *, sequences: int, seed: int) -> dict[str, Any]:
    """The same preset in streaming mode: row `SAB (5, 5), PRESET` of table 1, as it is."""
    table = TABLES["table1"]
    parts = build(config(table, table.row(f"SAB (5, 5), {preset}"), seed, quick=False, budget=sequences))
    learner, stream, norms = parts.learner, parts.stream, []
    try:
        while stream.completed < sequences:
            step = stream.next()
            learner.reset(step.first)
            result = stream.score(learner.step(step.x), step)
            seen = int(learner.updates)
            learner.learn(result.dL_dy, result.loss)
            if int(learner.updates) > seen:
                norms.append(float(learner.gradient_norm))
            learner.check()
    except NonFiniteError:
        return _trained(norms, f"step {learner.clock} of the stream: not finite", None, [])
    return _trained(norms, f"finite after {stream.completed} sequences", None, [])


def overflow(options: argparse.Namespace) -> Fact:
    """Eq. 1-5, trained."""
    rows: Rows = []
    sizes = {"T": options.T, "hidden": options.hidden, "batch": 20, "updates": options.updates}
    for clip, seed in ((clip, seed) for clip in (math.inf, 1.0) for seed in range(options.seeds)):
        found = literal_training("eq. 1-5", **sizes, seed=seed, clip=clip)
        rows.append({"what": f"eq. 1-5, {'no clip' if clip == math.inf else 'clip 1'}", "seed": seed, **found})
    for seed in range(options.seeds):
        found = preset_training("paper", sequences=options.preset_sequences, seed=seed)
        rows.append({"what": "preset paper, streaming", "seed": seed, **found})
    return Fact(
        "Eq. 1-5 overflow",
        f"Copying, T = {options.T}, n = {options.hidden}, k_trunc = k_top = 5, k_att = 1, Adam 1e-3, batches of 20; "
        "the preset with 8 streams, an update every 5 steps and a step size that begins small, as the tables have it. "
        "Gradient norms are those before the clip. A score is linear in h, and h is a sum of score times h: once a weight "
        "exceeds 1, h is squared from step to step, and one sequence overflows.",
        rows,
    )


def overflow_often(options: argparse.Namespace) -> Fact:
    """Eq. 1-5, trained on short sequences, many seeds."""
    sizes = {"T": 30, "hidden": 128, "batch": 20, "updates": 2 * options.updates, "clip": math.inf}
    return Fact(
        "Eq. 1-5 overflow: how often",
        f"The same with T = 30 and ten seeds, {sizes['updates']} updates at most, no clip.",
        [{"seed": seed, **literal_training("eq. 1-5", **sizes, seed=seed)} for seed in range(10)],
    )


def released(options: argparse.Namespace) -> Fact:
    """The released code, trained."""
    rows: Rows = []
    sizes = {"T": options.T, "hidden": options.hidden, "batch": 64, "updates": options.released_updates}
    for seed in range(options.seeds):
        found = literal_training("released", **sizes, seed=seed, clip=1.0)
        rows.append({"what": "released code, clip 1", "seed": seed, **found})
    for seed in range(options.seeds):
        found = preset_training("released", sequences=options.preset_sequences, seed=seed)
        rows.append({"what": "preset released, streaming", "seed": seed, **found})
    return Fact(
        "Normalised, as in the released code, h grows but does not overflow, and the gradient varies widely",
        f"Copying, T = {options.T}, n = {options.hidden}, k_trunc = k_top = 5, Adam 1e-3; "
        "the released code with its k_att of 2 and batches of 64, the preset with 8 streams and an update every 5 steps. "
        "Gradient norms are those before the clip.",
        rows,
    )
