"""The loss of a class to be named: cross entropy of logits, with its explicit gradient, in buffers made once."""

from __future__ import annotations

import torch
from torch import Tensor


class CrossEntropy:
    """Cross entropy of `streams` rows of logits over `classes` classes.

    Arguments:
        streams, classes: B and d_out
        like: a tensor of the device and dtype to compute in
    """

    def __init__(self, *, streams: int, classes: int, like: Tensor) -> None:
        self._minus_one = torch.full((streams, 1), -1, dtype=like.dtype, device=like.device)
        self.gradient = torch.zeros(streams, classes, dtype=like.dtype, device=like.device)
        """of the weighted loss summed over the streams and divided by their number, `(B, classes)`"""

    def score(self, y: Tensor, target: Tensor, weight: Tensor, *, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Fill `loss`, `(B,)`, with the weighted cross entropy, and the gradient (softmax - target) * weight / B.

        Arguments:
            y: logits, `(B, classes)`
            target: classes wanted, `(B,)` int64
            weight: of each stream's loss, `(B,)`

        Returns:
            logarithms (nats) of the probabilities of all classes, `(B, classes)`, and of the one wanted, `(B,)`
        """
        log_p = torch.log_softmax(y.detach(), 1)
        of_target = log_p.gather(1, target.unsqueeze(1)).squeeze(1)
        torch.mul(of_target, weight, out=loss).neg_()
        torch.exp(log_p, out=self.gradient).scatter_add_(1, target.unsqueeze(1), self._minus_one)
        self.gradient.mul_(weight.unsqueeze(1)).div_(len(target))
        return log_p, of_target

    def score_all(self, y: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `score` finds, of several steps at once, in new tensors.

        Arguments:
            y: logits, `(steps, B, classes)`
            target, weight: as for `score`, `(steps, B)`

        Returns:
            loss, `(steps, B)`; gradient, `(steps, B, classes)`; logarithms of the probabilities of all classes and of the
            one wanted, as `score` returns them
        """
        log_p = torch.log_softmax(y.detach(), 2)
        of_target = log_p.gather(2, target.unsqueeze(2)).squeeze(2)
        gradient = torch.exp(log_p).scatter_add_(2, target.unsqueeze(2), self._minus_one.expand(len(target), -1, -1))
        gradient.mul_(weight.unsqueeze(2)).div_(target.shape[1])
        return (of_target * weight).neg_(), gradient, log_p, of_target
