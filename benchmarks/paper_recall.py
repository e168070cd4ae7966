"""Facts of a single recall: its query cancels, and k_top - 1 microstates survive."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from paper_fact import HIDDEN, Fact, Rows, draw
from paper_literal import Eq1To5, Literal, Released
from torch import Tensor

from sabsim.presets import PRESETS
from sabsim.reference_equations import recall_weights, score

MICROSTATES, K_TOP = 12, 5
Recall = Callable[[Tensor, Tensor], Tensor]


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
