"""Action credit: what was *done* around a recalled moment is reconsidered in the light of what came of recalling it.

Credit through recall alone teaches what to perceive and to keep; that an action long ago was good, no gradient tells. Here,
as in Temporal Value Transport (Hung et al. 2019, Nature Communications 10:5223), a moment that recalls a past one sends it
value: each microstate keeps its strongest recall from further away than discounting can see, and the return that followed
that recall. When the episode ends, the segment of each such microstate is run again with today's parameters, and the
actions taken in it get a policy gradient for ``share`` times recall weight times return, less a baseline of its own. All of
it is bounded: a weight, a return and the segment's actions for each slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sabsim.errors import ConfigError
from sabsim.learner import StreamingLearner

from .actor_critic import Array

Sources = Literal["recall", "random"]
_RMS_FOLLOW = 0.01
_RMS_LEAST = 1e-3


@dataclass(frozen=True, kw_only=True)
class Transport:
    """Settings of action credit.

    Args:
        share: of the recalled return, times the recall weight, that is sent back (Hung et al.: 0.9).
        threshold: recall weights at or below this send nothing.
        segments: of an episode, those of the strongest recalls are reconsidered, at most so many.
        weight: of this policy gradient beside the ordinary one.
        sources: ``recall``, or as a control ``random``: what is recalled is replaced by as many microstates drawn uniformly
            from those that are held and as far away as recalls must be, with the weights of the recalls.
        seed: of that draw.

    Raises ConfigError: for a value out of range.
    """

    share: float = 0.9
    threshold: float = 0.05
    segments: int = 8
    weight: float = 1.0
    sources: Sources = "recall"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"threshold = {self.threshold}: must be in [0, 1)")
        if self.segments < 1:
            raise ConfigError(f"segments = {self.segments}: must be at least 1")
        if self.sources not in get_args(Sources):
            raise ConfigError(f"sources = {self.sources!r}: must be recall or random")
        for name in ("share", "weight"):
            if not 0 < getattr(self, name) < np.inf:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be more than 0")


class Sent(NamedTuple):
    """A microstate to be reconsidered: its segment as in ``sabsim.macrostate.Offer``, the ``summary`` of its last step,
    the ``actions`` of its steps and the ``target``, what is sent to them. Every field has one entry a segment."""

    segment: Tensor
    c: Tensor
    length: Tensor
    summary: Tensor
    actions: Tensor
    target: Tensor


class ActionCredit:
    """Sends value to past actions of the learner's streams; a part of an ``Agent``.

    The learner's outputs are the logits, the value and, last, the baseline: the value sent that a step expects.

    Args: ``learner``: one that recalls. ``actions``: how many there are. ``gamma``: discount; only recalls of more than
    1 / (1 - gamma) steps ago count. ``steps``: of a window; a transported action has the weight of one of its actions.
    """

    def __init__(self, learner: StreamingLearner, how: Transport, *, actions: int, gamma: float, steps: int) -> None:
        memory, k = learner.macrostate, learner.credit.k_trunc
        self.learner, self.how, self.actions, self.gamma = learner, how, actions, gamma
        self._least_lag = 1 / (1 - gamma) if gamma < 1 else np.inf
        self._norm = learner.streams * steps
        shape = (learner.streams, memory.slots)
        self._best, self._gain, self._discount = np.zeros((3, *shape))
        self._stamp = np.full(shape, -1)
        # Of each slot: whose they are, the actions of its segment and the summary of its last step.
        self._owner = np.full(shape, -1)
        self._done = np.zeros((*shape, k), dtype=np.int64)
        self._summary = learner.flat.new_zeros(*shape, learner.network.hidden)
        self._recent = np.zeros((2 * k, learner.streams), dtype=np.int64)
        self._block_begins = True
        self._waiting: list[Sent] = []
        self._square, self._sent = 0.0, 0
        self._random = np.random.default_rng(how.seed)
        self._rows = learner.segments(learner.streams * how.segments)
        learner.more = self._reconsider

    # While an episode goes on

    def acted(self, action: NDArray[np.int64]) -> None:
        """After a step of the learner and the choice of ``action`` (streams,): keeps what that step recalled."""
        step = self.learner.clock - 1
        if self._block_begins:
            self._follow()
            self._block_begins = False
        self._recent[step % len(self._recent)] = action
        read = self.learner.read
        assert read is not None
        slot, weight, source = (part.cpu().numpy() for part in (read.slot, read.weight, read.source_step))
        if self.how.sources == "random":
            slot, source = self._draw(step, slot.shape[1])
        stream, place = np.nonzero((weight > self.how.threshold) & (source >= 0) & (step - source > self._least_lag))
        slot, weight, source = slot[stream, place], weight[stream, place], source[stream, place]
        better = (self._stamp[stream, slot] != source) | (weight > self._best[stream, slot])
        at = stream[better], slot[better]
        self._stamp[at], self._best[at] = source[better], weight[better]
        self._gain[at], self._discount[at] = 0.0, 1.0

    def _draw(self, step: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``count`` slots of each stream at random, those far enough away first, and when they were born (-1: too near)."""
        birth = self._birth()
        far = (birth >= 0) & (step - birth > self._least_lag)
        slot = np.argsort(self._random.random(birth.shape) - far, axis=1)[:, :count]
        return slot, np.where(np.take_along_axis(far, slot, 1), np.take_along_axis(birth, slot, 1), -1)

    def paid(self, reward: Array) -> None:
        """What that step's action brought, ``(streams,)``."""
        self._gain += self._discount * reward[:, None]
        self._discount *= self.gamma

    def _follow(self) -> None:
        """The block before has been offered: keeps what its microstates need beside their segments."""
        window, birth = self.learner.window, self._birth()
        stream, slot = np.nonzero((birth != self._owner) & (birth >= 0))
        born = birth[stream, slot]
        self._owner[stream, slot] = born
        back = np.arange(self._done.shape[2] - 1, -1, -1)
        self._done[stream, slot] = self._recent[(born[:, None] - back) % len(self._recent), stream[:, None]]
        place = born - int(window.origin)
        self._summary[stream, slot] = window.rings["s"][place, stream]

    # When it ends

    def ended(self, over: NDArray[np.bool_]) -> None:
        """Before the streams ``over`` (streams,) forget their episode: takes along what is to be reconsidered."""
        memory = self.learner.macrostate
        held = (self._birth() == self._stamp) & (self._owner == self._stamp) & over[:, None]
        strength = np.where(held, self._best, 0.0)
        slot = np.argsort(-strength, axis=1, kind="stable")[:, : self.how.segments]
        stream, place = np.nonzero(np.take_along_axis(strength, slot, 1) > 0)
        slot = slot[stream, place]
        self._stamp[over], self._best[over], self._discount[over] = -1, 0.0, 0.0
        if not len(stream):
            return
        rows = torch.from_numpy(stream * (memory.slots + 1) + slot).to(self.learner.device)
        target = self.how.share * strength[stream, slot] * self._gain[stream, slot]
        segment, c, length = (memory.arrays[name].index_select(0, rows) for name in ("segment", "c", "length"))
        done = torch.from_numpy(self._done[stream, slot]).to(self.learner.device)
        self._waiting.append(Sent(segment, c, length, self._summary[stream, slot], done, segment.new_tensor(target)))

    def _birth(self) -> NDArray[np.int64]:
        """When the microstate in each slot was born, ``(streams, slots)``."""
        return self.learner.macrostate.birth.cpu().numpy()

    def _reconsider(self) -> None:
        """Adds the gradient of all that waits; at most as many segments as the streams may send at once."""
        self._block_begins = True
        if not self._waiting:
            return
        room = self._rows.xh.shape[1]
        sent = Sent(*(torch.cat(parts)[:room] for parts in zip(*self._waiting, strict=True)))
        self._waiting.clear()
        p, k, n = self._rows.parameters, self._rows.k_trunc, self.learner.network.hidden
        d = p.network.d_in
        summary = torch.cat([sent.segment[:, 1:, d:], sent.summary.unsqueeze(1)], 1).transpose(0, 1)
        h_hat = self._rows.run(sent.segment, sent.c, sent.length)
        out = torch.cat([h_hat + summary, summary], 2)
        W = p.value["readout"]["W"]
        y = out @ W.t() + p.value["readout"]["b"]
        real = (torch.arange(k, device=y.device).unsqueeze(1) >= k - sent.length).to(y.dtype)
        dy = self._signal(y, sent.actions.t(), sent.target, real)
        p.gradient["readout"]["W"].addmm_(dy.flatten(0, 1).t(), out.flatten(0, 1))
        p.gradient["readout"]["b"].add_(dy.sum((0, 1)))
        credit = dy @ W[:, :n]
        self._rows.back(credit[-1], credit[:-1])

    def _signal(self, y: Tensor, actions: Tensor, target: Tensor, real: Tensor) -> Tensor:
        """dL/dy, ``(k, count, d_out)``, of - advantage log pi(action) + (baseline - target)^2 / 2 where ``real``."""
        surprise = target - y[..., -1]
        square = float((surprise.square() * real).sum() / real.sum())
        self._sent += 1
        self._square += (square - self._square) * max(1 / self._sent, _RMS_FOLLOW)
        advantage = self.how.weight * surprise / max(self._square**0.5, _RMS_LEAST)
        dy = torch.zeros_like(y)
        policy = torch.softmax(y[..., : self.actions], 2)
        chosen = torch.nn.functional.one_hot(actions, self.actions).to(y.dtype)
        dy[..., : self.actions] = (policy - chosen) * advantage.unsqueeze(2)
        dy[..., -1] = -surprise
        return dy * (real / self._norm).unsqueeze(2)

    def state(self) -> dict[str, Any]:
        """As JSON can hold it; only between two windows of which the last was learned from."""
        arrays = {name: getattr(self, f"_{name}").tolist() for name in _ARRAYS}
        rest = {"square": self._square, "sent": self._sent, "random": self._random.bit_generator.state}
        return arrays | rest | {"summary": self._summary.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """The opposite of ``state``."""
        for name in _ARRAYS:
            getattr(self, f"_{name}")[:] = state[name]
        self._square, self._sent = state["square"], state["sent"]
        self._random.bit_generator.state = state["random"]
        self._summary.copy_(torch.tensor(state["summary"], dtype=self._summary.dtype))


_ARRAYS = ("best", "gain", "discount", "stamp", "owner", "done", "recent")
