"""What is measured, where and how often: the settings of one bench, and the timer they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .backends import Backends
from .timing import Timer, clock_of

HIDDEN = 128
"""n of the rows that do not vary it."""
K_TRUNC = 5
"""k_trunc of the rows that do not vary it; also k_top."""
SLOTS = 32
"""Slots of the rows that do not vary them."""
T = 100
"""T of the copying task in the rows that do not vary it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One bench. ``quick``: sizes and repeats of a smoke test. ``repeats``: rounds for every case; None: the usual."""

    device: torch.device
    backends: Backends
    quick: bool = False
    repeats: int | None = None
    seed: int = 0

    @property
    def rounds(self) -> int:
        """Samples of each variant."""
        return self.repeats or (3 if self.quick else 15)

    def timer(self) -> Timer:
        """The timer for these settings."""
        sample, budget, warm_up = (0.001, 0.5, 1) if self.quick else (0.03, 60.0, 3)
        return Timer(
            clock_of(self.device),
            rounds=self.rounds,
            sample=sample,
            budget=budget,
            warm_up=warm_up,
            device=self.device,
        )

    def pick(self, full: Sequence[int], quick: Sequence[int], *, on_gpu: Sequence[int] = ()) -> Sequence[int]:
        """Sizes: those of the full bench, on a GPU with those it can do besides, or the few of the quick one."""
        if self.quick:
            return quick
        return (*full, *on_gpu) if self.device.type == "cuda" else full

    def to_json(self) -> dict[str, Any]:
        """As in ``bench.json``."""
        return {
            "quick": self.quick,
            "device": str(self.device),
            "backends": list(self.backends.names),
            "backends_that_cannot_run": self.backends.refused,
            "rounds": self.rounds,
            "seed": self.seed,
            "threads": torch.get_num_threads(),
            "dtype": "float32",
            "defaults": {"hidden": HIDDEN, "k_trunc": K_TRUNC, "k_top": K_TRUNC, "slots": SLOTS, "T": T},
        }
