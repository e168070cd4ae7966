"""Sparsifiers: from salience a to recall weights a_tilde, at most ``k_top`` of them non-zero, and their VJPs (paper eq. 2).

A sparsifier returns the K slots it reads, sorted by falling salience (with noise: by falling noisy salience), and their
weights: K = k_top, or every slot for ``dense``. Empty slots arrive with the score ``EMPTY`` and always get weight 0 and
no credit.

Shapes: a ``(B, S)``, slot and weight ``(B, K)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

EMPTY = -1e30
"""Score of an empty slot: finite, so that a step on an empty memory has no NaN to mask."""

EPSILON = 1e-7
"""Added to the sum that ``normalised`` divides by, which is 0 when all selected scores are equal."""


class Recall(NamedTuple):
    """What one step reads: slots and weights (B, K), and ``scale`` (B, 1), which the VJP needs.

    ``scale`` is what the VJP of ``normalised`` divides by, and what drawing multiplied the scores by.
    """

    slot: Tensor
    weight: Tensor
    scale: Tensor


class Sparsifier(ABC):
    """A rule that turns scores into recall weights; ``reads`` is K, ``credited`` how many of them receive credit."""

    name: ClassVar[str]
    explores: ClassVar[bool] = False
    """Whether what is read may be drawn by chance."""

    def __init__(self, k_top: int, slots: int) -> None:
        self.k_top = min(k_top, slots)
        self.reads = self.k_top
        self.credited = self.k_top

    @abstractmethod
    def forward(self, a: Tensor) -> Recall:
        """Recall weights from scores ``a`` (B, S)."""

    def draw(self, a: Tensor, noise: Tensor, sharpness: Tensor) -> Recall:
        """Recall weights from scores ``a`` (B, S) that were multiplied by ``sharpness`` (B, 1), the k_top drawn by chance.

        ``noise`` (B, S) is added for the choice only; the weights are those of ``a``.
        """
        raise NotImplementedError

    def own_sharpness(self, scale: Tensor) -> Tensor:
        """1 where recalls of this ``scale`` were drawn from scores that nothing had been imposed on, else 0."""
        return (scale == 1).to(scale.dtype) if self.explores else torch.ones_like(scale)

    @abstractmethod
    def vjp(self, dw: Tensor, recall: Recall, occupied: Tensor) -> Tensor:
        """Gradient on the scores of the read slots, ``(B, K)``, from ``dw`` on their weights; ``occupied`` (B, K)."""


def _softmax(top: Tensor) -> Tensor:
    return torch.softmax(top, dim=1) * (top > EMPTY / 2)


def _softmax_vjp(dw: Tensor, weight: Tensor) -> Tensor:
    weighted = dw * weight
    return weighted - weight * weighted.sum(-1, keepdim=True)


class Softmax(Sparsifier):
    """Softmax over exactly the k_top most salient microstates: the default, bounded whatever the scores.

    Drawn with standard Gumbel noise the k_top are a sample without replacement from the softmax over all slots (Kool et al.
    2019, arXiv 1903.06059): a microstate that scores low is still read now and then, and can earn credit.
    """

    name = "softmax"
    explores = True

    def forward(self, a: Tensor) -> Recall:
        top, slot = a.topk(self.reads, dim=1)
        return Recall(slot, _softmax(top), torch.ones_like(top[:, :1]))

    def draw(self, a: Tensor, noise: Tensor, sharpness: Tensor) -> Recall:
        slot = (a + noise).topk(self.reads, dim=1).indices
        return Recall(slot, _softmax(a.gather(1, slot)), sharpness)

    def vjp(self, dw: Tensor, recall: Recall, occupied: Tensor) -> Tensor:
        return _softmax_vjp(dw, recall.weight) * recall.scale


class Dense(Softmax):
    """Dense forward, sparse backward: softmax over all microstates, credit only to the k_top most salient.

    The query and the salience parameters receive the full gradient; only dL/dm_i is withheld from the rest.
    """

    name = "dense"
    explores = False

    def __init__(self, k_top: int, slots: int) -> None:
        super().__init__(k_top, slots)
        self.reads = slots


class Threshold(Sparsifier):
    """a_tilde_i = ReLU(a_i - a_ktop), unnormalised (paper eq. 2).

    The k_top-th score is its own threshold and gets weight 0: k_top - 1 survive, and k_top = 1 recalls nothing.
    While fewer than k_top slots are occupied the least of them is the threshold.
    """

    name = "relu"

    def forward(self, a: Tensor) -> Recall:
        top, slot = a.topk(self.reads, dim=1)
        occupied = top > EMPTY / 2
        threshold = torch.where(occupied, top, torch.inf).amin(1, keepdim=True)
        weight = torch.where(occupied, top - threshold, 0.0)
        return Recall(slot, weight, torch.ones_like(weight[:, :1]))

    def vjp(self, dw: Tensor, recall: Recall, occupied: Tensor) -> Tensor:
        passed = dw * (recall.weight > 0)
        last = (occupied.sum(1, keepdim=True) - 1).clamp_min(0)
        return passed.scatter_add(1, last, -passed.sum(1, keepdim=True))


class Normalised(Threshold):
    """The threshold's weights divided by their sum, as in the authors' released code."""

    name = "normalised"

    def forward(self, a: Tensor) -> Recall:
        raw = super().forward(a)
        scale = raw.weight.sum(1, keepdim=True) + EPSILON
        return Recall(raw.slot, raw.weight / scale, scale)

    def vjp(self, dw: Tensor, recall: Recall, occupied: Tensor) -> Tensor:
        inner = (dw * recall.weight).sum(1, keepdim=True)
        return super().vjp((dw - inner) / recall.scale, recall, occupied)


SPARSIFIERS: dict[str, type[Sparsifier]] = {rule.name: rule for rule in (Softmax, Threshold, Normalised, Dense)}
