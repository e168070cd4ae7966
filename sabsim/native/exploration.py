"""Noise on the choice of what is recalled: the numbers torch would draw, several times faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..exploration import MANY_SLOTS, Exploration
from .bindings import Calls, ready

GENERATOR_BYTES = 5_056
"""Of the saved state of torch's generator on the CPU, as ``noise.c`` knows it."""


class NativeExploration(Exploration):
    """Noise on the choice of what is recalled."""

    def __init__(self, calls: Calls, **settings: Any) -> None:
        super().__init__(**settings)
        self._calls = calls
        names = {"sharpness": "exploring_sharpness"}
        calls.learner.bind(**{names.get(name, name): array for name, array in self.arrays.items()})
        calls.learner.set(temperature=self.temperature)
        self._native = self.arrays["noise"].shape[2] < MANY_SLOTS and _numbers_are_torchs(calls)

    def draw(self, generator: torch.Generator, share: Tensor | float) -> None:
        if not self._native:
            super().draw(generator, share)
            return
        _draw_noise(self._calls, generator, self.arrays["noise"])
        self.toss(generator, share)

    def begin(self, done: Tensor) -> None:
        done = ready(done, (self.arrays["coin"].shape[0],), torch.bool)
        self._calls.toss(self._calls.at, done.data_ptr())


def _numbers_are_torchs(calls: Calls) -> bool:
    """Whether this torch saves its generator and makes exponential numbers of it as ``noise.c`` does, which is faster."""
    mine, its = (torch.Generator().manual_seed(1) for _ in range(2))
    for draws in (1_001, 7):
        noise = torch.empty(draws, dtype=calls.like.dtype)
        if mine.get_state().numel() != GENERATOR_BYTES:
            return False
        _draw_noise(calls, mine, noise)
        expected = torch.empty_like(noise).exponential_(generator=its).clamp_min_(1e-30).log_().neg_()
        if not torch.allclose(noise, expected, rtol=1e-5, atol=1e-6):
            return False
        for generator in (mine, its):
            torch.empty(3).bernoulli_(0.5, generator=generator)  # an odd number of words
    return torch.equal(mine.get_state(), its.get_state())


def _draw_noise(calls: Calls, generator: torch.Generator, noise: Tensor) -> None:
    state = generator.get_state()
    calls.noise(noise.numel(), state.data_ptr(), noise.data_ptr())
    generator.set_state(state)
