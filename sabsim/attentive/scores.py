"""Additive attention over remembered states and its explicit vector-Jacobian product (Kerg et al. 2020).

With states h_i and a query s, all of one step:

    e_i = v · tanh(V_a s + U_a h_i)        alpha = softmax(e)        ctx = sum_i alpha_i h_i

U_a h_i is computed once per state, as its key k_i; V_a s, the query q, once per step. What lies between them, tanh(q + k_i)
for every pair of steps, is never kept: the way back computes it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

PIECE = 1 << 17
"""Numbers that are computed at once: half a megabyte of float32, so that a piece stays in a core's cache."""


class Sizes(NamedTuple):
    """What a call works on: ``streams`` B, ``states`` m, ``hidden`` n."""

    streams: int
    states: int
    hidden: int


def attend(h: Tensor, k: Tensor, q: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """What is attended to and what is read.

    Args:
        h, k: states and their keys, (B, m, n), m at least 1.
        q: query, (B, n).
        v: (n,).

    Returns alpha (B, m) and ctx (B, n).
    """
    e = torch.cat([u.flatten(0, 1).mv(v).view(u.shape[:2]) for _, u in _tanh(k, q)], dim=1)
    alpha = torch.softmax(e, dim=1)
    return alpha, torch.bmm(alpha.unsqueeze(1), h).squeeze(1)


def attend_back(
    h: Tensor, k: Tensor, q: Tensor, v: Tensor, alpha: Tensor, d_ctx: Tensor, *, d_h: Tensor, d_k: Tensor, d_v: Tensor
) -> Tensor:
    """Credit on ctx, (B, n), to states, keys, v and query.

    Args: as of ``attend``, what it returned, and where credit is added: ``d_h``, (B, m, n); ``d_v``, (n,); ``d_k``
        (B, m, n), which is to be multiplied by v when it is complete.

    Returns the credit on the query, (B, n).
    """
    d_alpha = torch.bmm(h, d_ctx.unsqueeze(2)).squeeze(2)
    d_h.addcmul_(alpha.unsqueeze(2), d_ctx.unsqueeze(1))
    d_e = alpha * (d_alpha - (alpha * d_alpha).sum(1, keepdim=True))
    d_q = torch.zeros_like(q)
    for piece, u in _tanh(k, q):
        mine = d_e[:, piece]
        d_v.addmv_(u.flatten(0, 1).t(), mine.reshape(-1))
        slope = u.mul_(u).neg_().add_(1)
        d_q.add_(torch.bmm(mine.unsqueeze(1), slope).squeeze(1))
        d_k[:, piece].addcmul_(slope, mine.unsqueeze(2))
    return d_q.mul_(v)


def _tanh(k: Tensor, q: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """tanh(q + k_i) of some states after the others, with which they are."""
    size = Sizes(*k.shape)
    step = max(1, PIECE // (size.streams * size.hidden))
    for first in range(0, size.states, step):
        piece = slice(first, min(first + step, size.states))
        yield piece, (k[:, piece] + q.unsqueeze(1)).tanh_()
