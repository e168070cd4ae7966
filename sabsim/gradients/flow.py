"""The oracle, asked not only for the gradient of the parameters but for that of every step's state on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sabsim.reference import Gradients, ReferenceLearner, Source


class CreditFlow(ReferenceLearner):
    """`ReferenceLearner` with dL/dh_hat of every step, summed over all updates, parameters frozen.

    A step's state may enter several graphs: the chains of the blocks that it lies in the window of, and the segments of
    microstates that are replayed. The gradients there add up, as those of the parameters do.

    Args:
        parameters: name -> tensor.
        steps: how many there will be.
        negligible: credits below this share of an update's greatest are not replayed, as in `SAB`.
        constant_memory: with ``whole_sequence``, microstates are constants: credit follows the recurrence alone.
        options: those of `ReferenceLearner`.

    Attributes:
        window: dL/dh_hat that came along the chain, shape `(streams, steps, n)`.
        replay: dL/dh_hat that came through replayed segments, same shape.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        *,
        steps: int,
        negligible: float = 0.0,
        constant_memory: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(parameters, **options)
        zeros = self.parameters["cell.W_h"].detach().new_zeros(len(self._streams), steps, parameters["cell.W_h"].shape[1])
        self.window, self.replay = zeros, zeros.clone()
        self._negligible, self._constant_memory = negligible, constant_memory
        self._states: list[tuple[Tensor, Source, Tensor]] = []

    @property
    def flow(self) -> Tensor:
        """dL/dh_hat of every step by all ways, shape `(streams, steps, n)`."""
        return self.window + self.replay

    def recalls(self, b: int) -> list[dict[int, float]]:
        """What each step of stream `b` has read: source step -> recall weight, zeros left out."""
        return [
            {i: weight for slot, i in moment.held if (weight := float(moment.a_tilde[slot])) > 0}
            for moment in self._streams[b].moments
        ]

    def _formed(self, source: Source, h_hat: Tensor, *, twin: bool = False) -> None:
        if h_hat.requires_grad:
            self._states.append((self.replay if twin else self.window, source, h_hat))

    def _step_stream(self, b: int, *arguments: Any) -> Tensor:
        y = super()._step_stream(b, *arguments)
        if self._constant_memory:
            newest = self._streams[b].moments[-1]
            newest.m = newest.m.detach()
        return y

    def _greatest_credit(self) -> set[Source]:
        floor = self._negligible * max((float(credit.norm()) for credit in self.credit.values()), default=0.0)
        return {source for source in super()._greatest_credit() if float(self.credit[source].norm()) >= floor}

    def _differentiate(self, loss: Tensor) -> Gradients:
        states = [h_hat for _, _, h_hat in self._states]
        # States of a graph that was built only to see where credit falls have no part in this loss.
        found = torch.autograd.grad(loss, states, allow_unused=True, retain_graph=True)
        for (sums, (b, step), _), gradient in zip(self._states, found, strict=True):
            if gradient is not None and step < sums.shape[1]:
                sums[b, step] += gradient
        self._states.clear()
        return super()._differentiate(loss)
