"""What can be attended to: all states of the sequence, or a short-term buffer and a relevant set (Kerg et al. 2020).

All streams are at the same step, so as many slots are filled in each of them: the first ``filled`` ones. ``store`` goes
forward; on the way back ``unstore`` gives the credit that a state received while it was held, and puts the memory back to
what it was before the step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .scores import attend, attend_back


class AllStates:
    """Every state of the sequence, in the order in which they came.

    Args:
        streams, hidden: B and n.
        slots: states that can be kept, S.
        steps: steps whose way back is to be possible, 0 for a memory that only plays.
        like: a tensor of the type and device to use.
    """

    def __init__(self, *, streams: int, slots: int, hidden: int, steps: int, like: Tensor) -> None:
        self.streams, self.slots, self.hidden, self.steps = streams, slots, hidden, steps
        self.h, self.k = (like.new_zeros(streams, slots, hidden) for _ in range(2))
        self.born = torch.full((streams, slots), -1, dtype=torch.int64, device=like.device)
        """step of the sequence at which the state in each slot was formed, (B, S); -1: none"""
        self.alpha = like.new_zeros(max(steps, 1), streams, slots)
        """what the last step, or every step, attended to, (steps, B, S)"""
        self._credit: tuple[Tensor, Tensor] | None = None

    @property
    def held(self) -> Tensor:
        """Steps of the states that each step in ``alpha`` could read, (steps, B, S); meaningless where attention is 0."""
        return self.born.expand_as(self.alpha)

    def filled(self, t: int) -> int:
        """Slots that hold something when step ``t`` begins."""
        return t

    def attend(self, t: int, q: Tensor, v: Tensor) -> Tensor:
        """What step ``t``, at least 1, reads with the query (B, n): ctx (B, n)."""
        m = self.filled(t)
        alpha, ctx = attend(self.h[:, :m], self.k[:, :m], q, v)
        row = self.alpha[t if self.steps else 0]
        row[:, :m] = alpha
        row[:, m:] = 0
        return ctx

    def store(self, t: int, h: Tensor, k: Tensor) -> None:
        """Takes the state of step ``t`` and its key, each (B, n)."""
        self._put(t, t, h, k)

    def clear(self) -> None:
        """Forgets everything."""
        self.born.fill_(-1)
        self.alpha.zero_()

    @contextmanager
    def going_back(self) -> Iterator[None]:
        """Room for the credit of ``attend_back`` and ``unstore``, from the last step to the first."""
        self._credit = torch.zeros_like(self.h), torch.zeros_like(self.k)
        yield
        self._credit = None

    def attend_back(self, t: int, q: Tensor, v: Tensor, d_ctx: Tensor, d_v: Tensor) -> Tensor:
        """Credit on what step ``t`` has read, (B, n), to the states held and to v; returns that on the query, (B, n)."""
        m = self.filled(t)
        d_h, d_k = (credit[:, :m] for credit in self._credits())
        alpha = self.alpha[t][:, :m]
        return attend_back(self.h[:, :m], self.k[:, :m], q, v, alpha, d_ctx, d_h=d_h, d_k=d_k, d_v=d_v)

    def unstore(self, t: int, h: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """The credit on the state of step ``t`` and, to be multiplied by v, on its key, each (B, n).

        ``h``, ``k``: states and keys of all steps so far, (steps, B, n).
        """
        d_h, d_k = self._credits()
        return d_h[:, t], d_k[:, t]

    def arrays(self) -> dict[str, Tensor]:
        """What decides the steps to come within a sequence, and the way back."""
        return {"h": self.h, "k": self.k, "born": self.born, "alpha": self.alpha}

    @property
    def nbytes(self) -> int:
        """Bytes of states and keys, all streams."""
        return self.h.nbytes + self.k.nbytes

    def _credits(self) -> tuple[Tensor, Tensor]:
        assert self._credit is not None, "only while going back"
        return self._credit

    def _put(self, slot: int, t: int, h: Tensor, k: Tensor) -> None:
        self.h[:, slot] = h
        self.k[:, slot] = k
        self.born[:, slot] = t


class ScreenedStates(AllStates):
    """The newest nu states, and of those before them the rho that were attended to most while they were new.

    The relevance of a state is its attention weight, summed over the nu steps that it is in the buffer (section 4). When it
    leaves the buffer it is added to the relevant set while there is room; later it takes the place of the least relevant
    state there, if it is more relevant. Which states stay is a choice through which no credit flows.

    Slots 0 .. nu-1 are the buffer, a ring; nu .. nu+rho-1 are the relevant set.

    Args: as of ``AllStates``, with ``slots`` = nu + rho, and ``buffer`` = nu.
    """

    def __init__(self, *, streams: int, slots: int, buffer: int, hidden: int, steps: int, like: Tensor) -> None:
        super().__init__(streams=streams, slots=slots, hidden=hidden, steps=steps, like=like)
        self.buffer = buffer
        self.relevance = like.new_zeros(streams, slots)
        """summed attention weight of the state in each slot while it was in the buffer, (B, S)"""
        self._place, self._ousted = (torch.zeros(steps, streams, dtype=torch.int64, device=like.device) for _ in range(2))
        self._accepted = torch.zeros(steps, streams, dtype=torch.bool, device=like.device)
        self._rows = torch.arange(streams, device=like.device)
        self._held = self.born.expand_as(self.alpha).clone()

    @property
    def held(self) -> Tensor:
        return self._held

    def filled(self, t: int) -> int:
        relevant = min(max(t - self.buffer, 0), self.slots - self.buffer)
        return min(t, self.buffer) + relevant

    def attend(self, t: int, q: Tensor, v: Tensor) -> Tensor:
        ctx = super().attend(t, q, v)
        new, row = min(t, self.buffer), t if self.steps else 0
        self.relevance[:, :new] += self.alpha[row][:, :new]
        self._held[row] = self.born
        return ctx

    def store(self, t: int, h: Tensor, k: Tensor) -> None:
        slot = t % self.buffer
        if t >= self.buffer:
            self._screen(t, slot)
        self._put(slot, t, h, k)
        self.relevance[:, slot] = 0

    def _screen(self, t: int, slot: int) -> None:
        """The state in ``slot`` leaves the buffer, for the relevant set or for good."""
        left, leaving = t - self.buffer, self.relevance[:, slot]
        if self.buffer + left < self.slots:
            place = torch.full_like(self._rows, self.buffer + left)
            accepted = torch.ones_like(self._rows, dtype=torch.bool)
        else:
            place = self.relevance[:, self.buffer :].argmin(1) + self.buffer
            accepted = leaving > self.relevance[self._rows, place]
        if self.steps:
            self._place[t], self._accepted[t] = place, accepted
            self._ousted[t] = self.born[self._rows, place]
        for array in (self.h, self.k, self.born, self.relevance):
            kept = accepted.view(-1, *[1] * (array.dim() - 2))
            array[self._rows, place] = torch.where(kept, array[:, slot], array[self._rows, place])

    def unstore(self, t: int, h: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        d_h, d_k = self._credits()
        slot = t % self.buffer
        mine = d_h[:, slot].clone(), d_k[:, slot].clone()
        if t < self.buffer:
            return mine
        place, accepted = self._place[t], self._accepted[t].unsqueeze(1)
        ousted = self._ousted[t].clamp(min=0)
        for credit in (d_h, d_k):
            there = credit[self._rows, place]
            credit[:, slot] = torch.where(accepted, there, 0.0)
            credit[self._rows, place] = torch.where(accepted, 0.0, there)
        for states, all_of_them in ((self.h, h), (self.k, k)):
            states[:, slot] = all_of_them[t - self.buffer]
            before = all_of_them[ousted, self._rows]
            states[self._rows, place] = torch.where(accepted, before, states[self._rows, place])
        return mine

    def clear(self) -> None:
        super().clear()
        self.relevance.zero_()

    def arrays(self) -> dict[str, Tensor]:
        choices = {"place": self._place, "ousted": self._ousted, "accepted": self._accepted}
        return super().arrays() | choices | {"relevance": self.relevance, "held": self._held}
