"""Facts of the steps that credit reaches: truncation on a grid, and skips that recurse without limit."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from paper_fact import HIDDEN, Fact, draw
from paper_literal import Released
from torch import nn

from sabsim.gradients import CreditFlow
from sabsim.presets import PRESETS


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
