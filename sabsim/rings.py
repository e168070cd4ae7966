"""The rings of the main chain: what its last steps read, computed and met, one row a step, all allocated once.

A ring position is a row. ``xh``, ``c`` and ``carried`` say what a step begins with, and have one row more than the others.

Shapes: L rows, B streams, d inputs, n hidden units, w the width of the readout's input, o outputs, K reads a step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .network import Parameters
from .sparsify import Sparsifier

BEGINNINGS = ("xh", "c", "carried")
"""Rings of what a step begins with, which the step before has written."""


def make_rings(
    parameters: Parameters,
    sparsifier: Sparsifier | None,
    *,
    length: int,
    streams: int,
    raw: Tensor | None,
    carries: bool,
) -> dict[str, Tensor]:
    """The rings by name, as they are before anything has happened.

    ``xh`` (L+1, B, d+n): the cell's input [x ; h_prev]; ``c`` (L+1, B, n or 0): its cell state; ``carried`` (L+1, B, n), if
    it ``carries``: what h was multiplied by to become h_prev; ``h_hat`` (L, B, n); ``readout`` (L, B, w): the readout's
    input; ``keep`` (L, B, 1): 0 where a sequence begins; ``signal`` (L, B, o) and ``loss`` (L, B) of the step; ``local``
    (L, B): its place in its sequence; ``observation`` (L, B, numbers), where an encoder reads such as ``raw``. With recall
    ``s`` (L, B, n), the summary, and of what was read ``m`` (L, B, K, n), ``weight``, ``index`` and ``stamp`` (L, B, K), -1
    where nothing was, and ``scale`` (L, B, 1), what its scores were multiplied by.
    """
    network, like = parameters.network, parameters.flat
    n, zeros = network.hidden, like.new_zeros
    long: dict[str, Any] = {"dtype": torch.int64, "device": like.device}
    rings = {
        "xh": zeros(length + 1, streams, network.d_in + n),
        "c": zeros(length + 1, streams, n if parameters.cell.has_c else 0),
        "h_hat": zeros(length, streams, n),
        "readout": zeros(length, streams, parameters.shapes["readout"]["W"][1]),
        "keep": like.new_ones(length, streams, 1),
        "signal": zeros(length, streams, network.d_out),
        "loss": zeros(length, streams),
        "local": torch.zeros(length, streams, **long),
    }
    if sparsifier is not None:
        reads = sparsifier.reads
        rings |= {
            "s": zeros(length, streams, n),
            "m": zeros(length, streams, reads, n),
            "weight": zeros(length, streams, reads),
            "scale": like.new_ones(length, streams, 1),
            "index": torch.zeros(length, streams, reads, **long),
            "stamp": torch.full((length, streams, reads), -1, **long),
        }
    if carries:
        rings["carried"] = like.new_ones(length + 1, streams, n)
    if raw is not None:
        rings["observation"] = raw.new_zeros(length, streams, raw.numel())
    return rings


def views_of(rings: dict[str, Tensor], position: int, *, d_in: int) -> dict[str, Tensor]:
    """The rings' rows at one position, and parts of them: made once, since a view costs as much as an operation."""
    at = {name: ring[position] for name, ring in rings.items() if position < ring.shape[0]}
    n = at["xh"].shape[1] - d_in
    at |= {"x": at["xh"][:, :d_in], "h_prev": at["xh"][:, d_in:]}
    if "readout" in at:
        at |= {"h": at["readout"][:, :n], "second": at["readout"][:, n:]}
    if "m" in at:
        at |= {"m_flat": at["m"].view(-1, n), "s_row": at["s"].unsqueeze(1), "stamp_flat": at["stamp"].view(-1)}
    return at
