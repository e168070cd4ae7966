"""The oracle of the rivals with self-attention: the equations of Kerg et al. 2020 as they stand, slowly, by autograd.

One stream after the other, one remembered state after the other, in plain Python lists; nothing is shared with the fast
path but the names of the parameters. Whoever doubts a gradient of `AttentiveLearner` compares it with this.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def outputs(
    p: Weights, x: Tensor, *, cell: str, nu: int | None = None, rho: int = 0
) -> tuple[Tensor, list[list[dict[int, Tensor]]]]:
    """All outputs of some sequences, and what each step attended to.

    Args:
        p: parameters by the names of ``AttentiveLearner.parameters``.
        x: (steps, streams, d_in).
        cell: lstm or rnn.
        nu, rho: states in the short-term buffer and in the relevant set; nu None: everything is remembered.

    Returns y, (steps, streams, d_out), and for each stream and step the attention weights by step attended to.
    """
    streams = [_stream(p, x[:, b], cell, nu, rho) for b in range(x.shape[1])]
    return torch.stack([y for y, _ in streams], dim=1), [attended for _, attended in streams]


def _stream(p: Weights, x: Tensor, cell: str, nu: int | None, rho: int) -> tuple[Tensor, list[dict[int, Tensor]]]:
    n = p["attention.v"].shape[0]
    s, c = x.new_zeros(n), x.new_zeros(n)
    states: list[Tensor] = []
    buffer: list[int] = []
    relevant: list[int] = []
    relevance: dict[int, float] = {}
    outs, attended = [], []
    for t, x_t in enumerate(x):
        weights: dict[int, Tensor] = {}
        if t > 0:
            remembered = buffer + relevant
            scores = [
                p["attention.v"] @ torch.tanh(p["attention.V_a"] @ s + p["attention.U_a"] @ states[i]) for i in remembered
            ]
            alpha = torch.softmax(torch.stack(scores), dim=0)
            weights = dict(zip(remembered, alpha, strict=True))
            context = sum((weight * states[i] for i, weight in weights.items()), torch.zeros(n, dtype=x.dtype))
            for i in buffer:
                relevance[i] += weights[i].item()
            s = (states[t - 1] + context) / 2
        h, c = _cell(p, cell, x_t, s, c)
        states.append(h)
        buffer.append(t)
        relevance[t] = 0.0
        if nu is not None and len(buffer) > nu:
            leaving = buffer.pop(0)
            least = min(relevant, key=lambda i: relevance[i], default=leaving)
            if len(relevant) < rho:
                relevant.append(leaving)
            elif relevance[leaving] > relevance[least]:
                relevant[relevant.index(least)] = leaving
        outs.append(p["readout.W_h"] @ h + p["readout.b"])
        attended.append(weights)
    return torch.stack(outs), attended


def _cell(p: Weights, cell: str, x: Tensor, s: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    pre = p["cell.W_x"] @ x + p["cell.W_h"] @ s + p["cell.b"]
    if cell == "rnn":
        return torch.tanh(pre), c
    o, i, f, g = pre.chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c
