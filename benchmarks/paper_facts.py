"""What anyone who reproduces the SAB paper should know: facts about its equations and its released code, measured.

    python benchmarks/paper_facts.py --out results/paper_facts

It prints a table for each fact and writes them as ``facts.json`` and ``README.md``; with ``--only`` some of them, the
others staying as they are there. ``--updates`` and ``--released-updates`` say how long eq. 1-5 and the released code are
trained, which is what takes long. ``paper_literal.py`` beside this file has both as literally as possible; sabsim's presets
``paper`` and ``released``, and its oracle, are measured too.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from paper_literal import Eq1To5, Literal, Released, copying
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from sabsim.errors import NonFiniteError
from sabsim.gradients import CreditFlow
from sabsim.presets import PRESETS
from sabsim.reference_equations import recall_weights, score
from sabsim.reproduce import TABLES
from sabsim.reproduce.tables import config
from sabsim.runs.build import build
from sabsim.runs.machine import made_by

HIDDEN, MICROSTATES, K_TOP = 16, 12, 5
Rows = list[dict[str, Any]]
Recall = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Fact:
    """A claim, what to see it by, and the rows: all of the same keys, which head the columns."""

    title: str
    how: str
    rows: Rows


def draw(seed: int, *shape: int) -> Tensor:
    """Normal numbers, double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# 1 and 2: one recall


def recalls(k_top: int) -> dict[str, Recall]:
    """Rules of recall: h_hat `(n,)` and microstates `(M, n)` to recall weights `(M,)`; random parameters."""

    def preset(name: str) -> Recall:
        pieces = PRESETS[name]
        sizes = {"w_m": (HIDDEN,), "w_h": (HIDDEN,), "b": (MICROSTATES,), "W_q": (HIDDEN, HIDDEN), "W_k": (HIDDEN, HIDDEN)}
        p = {f"salience.{key}": draw(seed, *size) for seed, (key, size) in enumerate(sizes.items())}
        p["salience.g"] = torch.full((1,), 10.0, dtype=torch.float64)

        def weights(h_hat: Tensor, m: Tensor) -> Tensor:
            scores = [score(pieces.salience, p, one, h_hat, slot) for slot, one in enumerate(m)]
            return torch.stack(recall_weights(pieces.sparsify, scores, k_top))

        return weights

    def literal(model: Literal) -> Recall:
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.double().parameters():
                parameter.normal_()
        return lambda h_hat, m: model.sparsify(model.score(h_hat.unsqueeze(0), m.unsqueeze(0)))[0]

    sizes = {"hidden": HIDDEN, "k_top": k_top, "k_trunc": 5, "k_att": 1}
    return {
        "eq. 1 and 2, literally": literal(Eq1To5(steps=MICROSTATES, **sizes)),
        "preset paper": preset("paper"),
        "released code, literally": literal(Released(**sizes)),
        "preset released": preset("released"),
        "preset stable": preset("stable"),
    }


def query_dependence(weights: Recall, microstates: int, *, pairs: int = 50) -> dict[str, float]:
    """How far recall depends on the query, and its gradient on it; relative to the weights, and to memory's gradient."""
    moved = largest = to_query = to_memory = 0.0
    for seed in range(pairs):
        h_hat, other = (draw(100 + 2 * seed + side, HIDDEN).requires_grad_() for side in (0, 1))
        m = draw(500 + seed, microstates, HIDDEN).requires_grad_()
        a_tilde = weights(h_hat, m)
        moved = max(moved, float((a_tilde - weights(other, m)).detach().abs().max()))
        largest = max(largest, float(a_tilde.detach().abs().max()))
        dq, dm = torch.autograd.grad(((a_tilde @ m) * draw(900 + seed, HIDDEN)).sum(), (h_hat, m))
        to_query, to_memory = max(to_query, float(dq.norm())), max(to_memory, float(dm.norm()))
    return {"another query moves a weight by": moved / largest, "gradient on the query, of memory's": to_query / to_memory}


def cancellation(options: argparse.Namespace) -> Fact:
    """Recall and its query."""
    rows: Rows = []
    for name, weights in recalls(K_TOP).items():
        rows.append({"recall": name, "microstates": MICROSTATES, **query_dependence(weights, MICROSTATES)})
        if name.startswith("released"):
            rows.append({"recall": name, "microstates": K_TOP, **query_dependence(weights, K_TOP)})
    return Fact(
        "The query cancels: what is recalled does not depend on the current state",
        f"Random parameters and memories, 50 pairs of queries, k_top = {K_TOP}, double precision: anything below 1e-12 is "
        "rounding. The released code takes raw scores as weights while there are no more than k_top microstates, and there "
        "alone the query counts.",
        rows,
    )


def survivors(k_top: int, *, draws: int = 200) -> dict[str, tuple[int, ...]]:
    """How many microstates get a weight: all numbers that occur over random memories, by rule."""
    found = {}
    for name, weights in recalls(k_top).items():
        drawn = [(draw(2 * seed, HIDDEN), draw(2 * seed + 1, MICROSTATES, HIDDEN)) for seed in range(draws)]
        found[name] = tuple(sorted({int((weights(h_hat, m) != 0).sum()) for h_hat, m in drawn}))
    return found


def survival(options: argparse.Namespace) -> Fact:
    """How many microstates are recalled."""
    tops = (1, 2, 5, 10)
    by_top = {k_top: survivors(k_top) for k_top in tops}
    rows = [
        {"recall": name} | {f"k_top = {k_top}": ", ".join(map(str, by_top[k_top][name])) for k_top in tops}
        for name in by_top[1]
    ]
    return Fact(
        "Eq. 2 leaves k_top - 1 survivors, and k_top = 1 recalls nothing",
        f"How many of {MICROSTATES} random microstates get a weight other than 0, in 200 draws.",
        rows,
    )


# 3: training


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
        rows.append({"what": "preset paper, streaming", "seed": seed, **preset_training("paper", sequences=100, seed=seed)})
    return Fact(
        "Eq. 1-5 overflow",
        f"Copying, T = {options.T}, n = {options.hidden}, k_trunc = k_top = 5, k_att = 1, Adam 1e-3, batches of 20; "
        "the preset with 8 streams and an update every 5 steps. Gradient norms are those before the clip. "
        "A score is linear in h, and h is a sum of score times h: once a weight exceeds 1, h is squared from step to step, "
        "and one sequence overflows.",
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
        "Normalised, as in the released code, h stays small, and the gradient varies widely",
        f"Copying, T = {options.T}, n = {options.hidden}, k_trunc = k_top = 5, Adam 1e-3; "
        "the released code with its k_att of 2 and batches of 64, the preset with 8 streams and an update every 5 steps. "
        "Gradient norms are those before the clip.",
        rows,
    )


# 4: which steps credit reaches


def grid_reach(t: int, k_trunc: int) -> int:
    """States that credit of the output at step ``t`` reaches along the released code's recurrence, its own one included."""
    model = Released(hidden=4, k_top=2, k_trunc=k_trunc, k_att=10**9)  # remembers nothing
    x = torch.rand(1, t + 1, 1, generator=torch.Generator().manual_seed(t)).requires_grad_()
    (found,) = torch.autograd.grad(model(x)[0, t].sum(), x)
    return int((found != 0).sum())


def grid(options: argparse.Namespace) -> Fact:
    """How far the recurrence carries credit."""
    steps = range(20, 30)
    return Fact(
        "Truncation is a fixed grid: h and c are cut where (t + 1) % k_trunc is 0",
        "How many steps the credit of the output at step t goes back along the recurrence, its own step included: "
        "(t + 1) % k_trunc + 1, so from 1 to k_trunc by the place of t in the grid.",
        [{"k_trunc": k} | {f"t = {t}": grid_reach(t, k) for t in steps} for k in (1, 2, 5)],
    )


def hops(k: int, *, T: int, seed: int) -> dict[str, Any]:
    """One output's credit with one hop and without limit: k_trunc = k_top = k, the preset `released`, random parameters."""
    pieces = PRESETS["released"]
    sizes = {"cell.W_x": (4 * HIDDEN, 3), "cell.W_h": (4 * HIDDEN, HIDDEN), "cell.b": (4 * HIDDEN,), "readout.b": (2,)}
    sizes |= {"salience.w_m": (HIDDEN,), "salience.w_h": (HIDDEN,), "readout.W_h": (2, HIDDEN), "readout.W_s": (2, HIDDEN)}
    p = {name: draw(97 * seed + place, *size) / HIDDEN**0.5 for place, (name, size) in enumerate(sizes.items())}
    flows, gradients = {}, {}
    for unlimited in (False, True):
        flow = CreditFlow(
            p, steps=T, streams=1, k_top=k, k_trunc=k, cell="lstm", salience=pieces.salience, sparsify=pieces.sparsify,
            stores=pieces.stores, readout=pieces.readout, slots=T, whole_sequence=unlimited,
        )  # fmt: skip
        for t in range(T):
            steps = torch.arange(T)
            birth = torch.where(steps < t - t % k, steps, -1).unsqueeze(0)
            flow.step(draw(1000 * seed + t, 1, 3), birth)
            # The last step's own window would have nothing behind it on the released grid: it is the one before it.
            found = flow.learn(torch.full((1, 2), float(t == T - 2), dtype=torch.float64))
        gradients[unlimited] = flow.finish() if unlimited else found
        flows[unlimited] = flow.flow[0].norm(dim=1)
    depth: list[int] = []
    for read in flow.recalls(0):
        depth.append(1 + max((depth[i] for i in read), default=-1))
    one, all_ = (torch.cat([g.flatten() for g in gradients[kind].values()]) for kind in (False, True))
    return {
        "k_trunc = k_top": k,
        "seed": seed,
        "steps reached, one hop": int((flows[False] > 0).sum()),
        "steps reached, without limit": int((flows[True] > 0).sum()),
        "longest chain of recalls": depth[T - 2],
        "norm, one hop / without limit": float(one.norm() / all_.norm()),
        "cosine": float(nn.functional.cosine_similarity(one, all_, dim=0)),
    }


def recursion(options: argparse.Namespace) -> Fact:
    """How far recall carries credit."""
    T = 60
    return Fact(
        "Skips recurse without limit: credit goes on from what a recalled state had recalled",
        f"Credit of one output, step {T - 2} of {T}, by sabsim's oracle with one hop (the paper's section 7.2) and without "
        "limit (the released code); the released code's pieces, random parameters, every state remembered. The grid's "
        "window is one step longer there than the streaming learner's.",
        [hops(k, T=T, seed=seed) for k in (2, 5) for seed in range(3)],
    )


# What is written


def shown(value: Any) -> str:
    """A cell."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


FACTS: dict[str, Callable[[argparse.Namespace], Fact]] = {
    fact.__name__: fact for fact in (cancellation, survival, overflow, overflow_often, released, grid, recursion)
}
"""By name, in the order of the page."""


def as_markdown(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, of what ``facts.json`` holds by name."""
    lines = ["# Facts about the SAB paper"]
    for number, name in enumerate([name for name in FACTS if name in kept], 1):
        fact = kept[name]
        rows, made = fact["rows"], fact["made_by"]
        lines += ["", f"## {number}. {fact['title']}", "", fact["how"], ""]
        lines += [f"| {' | '.join(rows[0])} |", f"|{' --- |' * len(rows[0])}"]
        lines += [f"| {' | '.join(shown(value) for value in row.values())} |" for row in rows]
        lines += [
            "",
            f"`{fact['command']}`, {fact['seconds']:.0f} s of a thread of a machine that others used too; sabsim ",
        ]
        lines[-1] += f"{made['sabsim']} at {made['git'][:7]}, torch {made['torch']}, {made['cpu']}, {made['date'][:10]}."
    return "\n".join([*lines, ""])


def print_fact(fact: Fact, console: Console) -> None:
    """On the terminal."""
    table = Table(title=fact.title, title_justify="left", caption=fact.how, caption_justify="left")
    for key in fact.rows[0]:
        table.add_column(key)
    for row in fact.rows:
        table.add_row(*map(shown, row.values()))
    console.print(table)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for facts.json and README.md")
    parser.add_argument("--only", nargs="+", choices=FACTS, default=list(FACTS), metavar="FACT", help=", ".join(FACTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--T", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--updates", type=int, default=60, help="most updates of eq. 1-5")
    parser.add_argument("--released-updates", type=int, default=300, help="updates of the released code")
    parser.add_argument("--preset-sequences", type=int, default=1_000, help="sequences of the preset released")
    options = parser.parse_args()
    torch.set_num_threads(1)
    maker, command = made_by(), shlex.join(["python", "benchmarks/paper_facts.py", *sys.argv[1:]])
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "facts.json"
    for name in options.only:
        began = time.perf_counter()
        fact = FACTS[name](options)
        print_fact(fact, Console(highlight=False))
        about = {"command": command, "seconds": time.perf_counter() - began, "made_by": maker}
        kept = json.loads(path.read_text()) if path.exists() else {}
        kept[name] = asdict(fact) | about
        path.write_text(json.dumps({name: kept[name] for name in FACTS if name in kept}, indent=1) + "\n")
        (options.out / "README.md").write_text(as_markdown(kept))


if __name__ == "__main__":
    main()
