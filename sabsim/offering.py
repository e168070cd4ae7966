"""From a finished block of steps to the microstates it offers to the macrostate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .macrostate import Macrostate, Offer
from .retention import Retention, States
from .summing import sum_by_slot
from .usual import UsualInput
from .window import Window

Score = Callable[..., Tensor]
"""What scores the states of a block: see ``score_block``; a backend may bring its own."""
Place = Callable[[Window, Macrostate, Retention, Tensor, int], None]
"""What writes the best of a scored block into memory: see ``place_block``; a backend may bring its own."""


def offer_block(
    window: Window,
    memory: Macrostate,
    retention: Retention,
    score: Score,
    place: Place,
    *,
    k_att: int,
    draws: torch.Generator,
    usual: UsualInput | None = None,
) -> None:
    """Offers the states of the finished block; retention decides which stay.

    ``draws``: where retention's random keys come from. ``usual``: the usual input, for a policy that compares with it.
    """
    if retention.accrues:
        before = window.origin + (window.history - 1)
        memory.accrue(_recalled(window), before - retention.protected * k_att)
    place(window, memory, retention, score(window, retention, k_att=k_att, draws=draws, usual=usual), k_att)


def place_block(window: Window, memory: Macrostate, retention: Retention, score: Tensor, k_att: int) -> None:
    """Offers the block's states with their ``score`` (block, B) to the macrostate."""
    births = window.births
    memory.offer(_offer(window, score, births, k_att), retention, births[-1], k_att)


def score_block(
    window: Window, retention: Retention, *, k_att: int, draws: torch.Generator, usual: UsualInput | None
) -> Tensor:
    """Retention's scores of the states of the block, ``(block, B)`` float64; where ``k_att`` offers nothing, anything."""
    r, first, end = window.rings, window.history, window.history + window.block
    h_hat, local = r["h_hat"][first:end], r["local"][first:end]
    compared = None if usual is None else usual.states(window)
    previous = r["h_hat"][first - 1 : end - 1] * (local > 0).unsqueeze(2)
    return retention.score(States(h_hat, previous, r["loss"][first:end], window.births, draws, compared))


def _recalled(window: Window) -> Tensor:
    """Recall weight that each slot received in the block, ``(B, S)``."""
    block = slice(window.history, window.history + window.block)
    index, weight, stamp = (window.rings[name][block].transpose(0, 1).flatten(1) for name in ("index", "weight", "stamp"))
    weight = torch.where(stamp >= 0, weight, 0.0)
    return sum_by_slot(index.t().unsqueeze(2), weight.t()[..., None, None], window.slots).squeeze(2)


def _offer(window: Window, score: Tensor, births: Tensor, k_att: int) -> Offer:
    r, first, end, k = window.rings, window.history, window.history + window.block, window.k_trunc
    h_hat, local, age = r["h_hat"][first:end], r["local"][first:end], window.age
    # Offered are the states of the sequence each stream is in now, at every k_att-th of its steps.
    before_end = torch.arange(window.block - 1, -1, -1, device=age.device).unsqueeze(1)
    current = (local + before_end == age - 1) & (age > 0)
    score = torch.where(current & (local % k_att == k_att - 1), score, -torch.inf)
    back = torch.arange(k - 1, -1, -1, device=age.device)
    steps = torch.arange(first, end, device=age.device).unsqueeze(1) - back
    segment = r["xh"][steps].clone()
    segment[:, 1:, :, window.d_in :] = r["s"][steps[:, 1:] - 1] if window.feeds_h else 0
    return Offer(
        m=(r["readout"][first:end, :, : window.n] if window.stores_h else h_hat).transpose(0, 1),
        segment=segment.permute(2, 0, 1, 3),
        c=r["c"][steps[:, 0]].transpose(0, 1),
        length=(local + 1).clamp(max=k).t(),
        birth=births.expand(len(age), -1),
        score=score.t(),
        observation=r["observation"][steps].permute(2, 0, 1, 3) if "observation" in r else None,
        carried=r["carried"][first + 1 : end + 1].transpose(0, 1) if "carried" in r else None,
    )
