"""What a fact about the paper is, as paper_facts.py keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

HIDDEN = 16
"""units where nothing is trained"""
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Fact:
    """A claim, what to see it by, and the rows: all of the same keys, which head the columns."""

    title: str
    how: str
    rows: Rows


def draw(seed: int, *shape: int) -> Tensor:
    """Normal numbers, double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
