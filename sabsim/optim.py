"""Optimisers over the flat parameter vector: one fused update, one global-norm clip, a learning-rate schedule.

A description (``Adam`` ...) is frozen configuration; ``state`` allocates its moment vectors and ``update`` applies one
step. ``proceed`` is a 0-d bool tensor: where it is False nothing changes, so that a captured graph can hold an update
that may not be due.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf, isfinite, pi
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from .errors import ConfigError

OptimState = dict[str, Tensor]
USUAL_DECAY = 0.999
"""Decay per update of the mean square of the gradient norms: what is usual."""
OUTLIER = 3.0
"""A norm enters that mean as at most this many times the usual one, so that one burst does not become the yardstick."""
LEAST_USUAL = 0.3
"""As a limit the usual norm does not fall below this share of the greatest it has been: when little is left to be learned
most gradients are next to nothing, and the few that are not must not be shortened to that."""

Schedule = Literal["constant", "inverse", "rsqrt", "linear", "cosine"]


def require_eps(eps: float) -> None:
    """Raises ConfigError: if ``eps`` is not a positive number."""
    if not 0 < eps < inf:
        raise ConfigError(f"eps = {eps}: must be more than 0")


@dataclass(frozen=True, kw_only=True)
class Optimizer(ABC):
    """Common settings.

    ``lr``: step size. ``clip``: greatest global norm of the gradient (0: no clip). ``spike``: a gradient whose norm is more
    than this many times the usual one (the running root mean square of the norms, but at least ``LEAST_USUAL`` times the
    greatest that this has been) is shortened to that (0: off).

    ``schedule``: ``inverse`` and ``rsqrt`` let the step size fall as lr / (1 + z) and lr / sqrt(1 + z), not below
    ``lr_floor`` times lr, with z = signals / ``decay_updates``. They need no end and suit an endless stream. An update
    counts as a signal by the share of its gradient norm in the usual one, at most 1: quiet stretches, long in one task and
    short in another, use up nothing; times the ``counts`` that ``update`` is told, if any. With ``linear`` and
    ``cosine`` it falls to 0 over ``decay_updates`` updates, and ``restarts`` times begins again at lr (warm restarts,
    Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5, with cycles of one length); ``constant`` leaves it. Over the first
    ``warmup_updates`` updates it rises in proportion to their number, whatever the schedule makes of it.

    ``weight_decay``: decoupled (Loshchilov & Hutter 2019), per unit of step size; the learner applies it to the salience's
    parameters alone. ``average``: decay per update of a running mean of the parameters, which is what an evaluation uses
    (Polyak & Juditsky 1992): learning swings about a valley whose middle is better than where it is at any moment. 0: off.

    Raises ConfigError: for a setting out of range.
    """

    name: ClassVar[str]
    moments: ClassVar[tuple[str, ...]] = ()
    lr: float = 1e-3
    clip: float = 1.0
    schedule: Schedule = "constant"
    decay_updates: int = 0
    restarts: int = 0
    lr_floor: float = 0.02
    warmup_updates: int = 0
    weight_decay: float = 0.0
    spike: float = 0.0
    average: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.lr < inf:
            raise ConfigError(f"lr = {self.lr}: must be 0 or more")
        if not 0 <= self.clip < inf:
            raise ConfigError(f"clip = {self.clip}: must be 0 (off) or more")
        if not 0 <= self.spike < inf:
            raise ConfigError(f"spike = {self.spike}: must be 0 (off) or more")
        for name in ("lr_floor", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be in [0, 1)")
        if self.warmup_updates < 0:
            raise ConfigError(f"warmup_updates = {self.warmup_updates}: must be 0 (off) or more")
        if not 0 <= self.weight_decay < inf:
            raise ConfigError(f"weight_decay = {self.weight_decay}: must be 0 (off) or more")
        if self.schedule not in get_args(Schedule):
            raise ConfigError(f"schedule = {self.schedule!r}: must be one of {', '.join(get_args(Schedule))}")
        if self.schedule != "constant" and self.decay_updates < 1:
            raise ConfigError(f"decay_updates = {self.decay_updates}: schedule {self.schedule} needs at least 1")
        if self.restarts < 0:
            raise ConfigError(f"restarts = {self.restarts}: must be 0 (none) or more")
        if self.restarts and self.schedule not in ("linear", "cosine"):
            raise ConfigError(f"restarts = {self.restarts}: schedule {self.schedule} has none; linear and cosine have")

    def state(self, flat: Tensor) -> OptimState:
        """Moment vectors and average like ``flat``; counts of updates and signals; the last norm, mean squares of norms."""
        vectors = (*self.moments, "average") if self.average else self.moments
        state = {name: torch.zeros_like(flat) for name in vectors}
        state |= {name: flat.new_zeros(()) for name in ("norm", "mean_square_norm", "greatest_mean_square")}
        # float32 stops counting at 2^24, and fractions long before.
        state["signals"] = torch.zeros((), dtype=torch.float64, device=flat.device)
        return {**state, "updates": torch.zeros((), dtype=torch.int64, device=flat.device)}

    def update(
        self,
        flat: Tensor,
        grad: Tensor,
        state: OptimState,
        proceed: Tensor | None = None,
        decaying: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """One step on ``flat`` in place where ``proceed`` (None: always); returns whether the gradient was finite.

        ``decaying``: the part of ``flat``, a view, that weight decay shrinks. ``counts``: 0-d float64, as how many
        signals this update counts (None: one). A gradient whose norm is NaN or infinite changes no
        parameter.
        """
        norm = torch.linalg.vector_norm(grad)
        finite = torch.isfinite(norm)
        due = finite if proceed is None else proceed & finite
        state["updates"].add_(due)
        state["norm"].copy_(torch.where(due, norm, state["norm"]))
        scale = self._shorten(norm, state, due, counts)
        before = {name: state[name].clone() for name in self.moments} if proceed is not None else {}
        rate = self._rate(state).to(flat.dtype)
        change = self._change(torch.where(finite, grad * scale, 0.0), state, rate)
        for name, moment in before.items():
            state[name].copy_(torch.where(due, state[name], moment))
        if self.weight_decay and decaying is not None:
            decaying.mul_(1 - rate * self.weight_decay * due)
        flat.sub_(torch.where(due, change, 0.0))
        if self.average:
            follow = (1 / state["updates"].clamp(min=1).to(flat.dtype)).clamp(min=1 - self.average)
            state["average"].lerp_(flat, follow * due)
        return finite

    def _shorten(self, norm: Tensor, state: OptimState, due: Tensor, counts: Tensor | None) -> Tensor:
        """What the gradient is multiplied by: the clip and the limit on spikes; keeps the usual norm and counts signals."""
        mean_square, greatest = state["mean_square_norm"], state["greatest_mean_square"]
        usual = torch.where(mean_square > 0, mean_square.sqrt(), norm)
        signal = torch.where(due, (norm / usual.clamp_min(1e-30)).clamp(max=1.0), 0.0)
        state["signals"].add_(signal if counts is None else signal * counts)
        limit = torch.full_like(norm, self.clip if self.clip else inf)
        if self.spike:
            limit = torch.minimum(limit, self.spike * torch.maximum(usual, LEAST_USUAL * greatest.sqrt()))
        square = torch.minimum(norm, OUTLIER * usual).square()
        follow = torch.where(mean_square > 0, torch.lerp(mean_square, square, 1 - USUAL_DECAY), square)
        mean_square.copy_(torch.where(due, follow, mean_square))
        torch.maximum(greatest, mean_square, out=greatest)
        return torch.clamp(limit / (norm + 1e-12), max=1.0)

    def _rate(self, state: OptimState) -> Tensor:
        rate = self._scheduled(state)
        if not self.warmup_updates:
            return rate
        return rate * (state["updates"].to(rate.dtype) / self.warmup_updates).clamp(max=1.0)

    def _scheduled(self, state: OptimState) -> Tensor:
        if self.schedule == "constant":
            return torch.full_like(state["norm"], self.lr)
        if self.schedule in ("inverse", "rsqrt"):
            share = 1 / (1 + state["signals"] / self.decay_updates)
            return self.lr * (share if self.schedule == "inverse" else share.sqrt()).clamp(min=self.lr_floor)
        cycles = state["updates"].to(state["norm"].dtype) / self.decay_updates
        left = torch.where(cycles < 1 + self.restarts, 1 - cycles % 1, 0.0)
        shape = left if self.schedule == "linear" else 0.5 - 0.5 * torch.cos(pi * left)
        return self.lr * shape

    @abstractmethod
    def _change(self, grad: Tensor, state: OptimState, rate: Tensor) -> Tensor:
        """Updates the moments in place and returns what is to be subtracted from the parameters."""


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015) with bias correction. ``beta_1``, ``beta_2``: decay of the two moments; ``eps``.

    ``amsgrad``: divide by the root of the greatest mean square so far instead of today's (Reddi et al. 2018, arXiv
    1904.09237). In a stream signals are rare and quiet stretches long: Adam proper makes full-size steps of whatever little
    gradient is there, and the parameters wander; under the ceiling a step is as large as its gradient, and steps shrink as
    the loss does. ``eps`` is larger than usual for the same reason (docs/decisions.md).

    ``warmup_updates``: without them the first updates, each as large as any, can leave a state that no longer tells inputs
    apart, and with it nothing that recall could be taught by (docs/decisions.md).
    """

    name: ClassVar[str] = "adam"
    moments: ClassVar[tuple[str, ...]] = ("mean", "square", "ceiling")
    lr: float = 1.6e-2
    schedule: Schedule = "inverse"
    decay_updates: int = 3000
    warmup_updates: int = 1000
    spike: float = 1.0
    average: float = 0.995
    beta_1: float = 0.9
    beta_2: float = 0.999
    eps: float = 5e-6
    amsgrad: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta_1", "beta_2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be in [0, 1)")
        require_eps(self.eps)

    def _change(self, grad: Tensor, state: OptimState, rate: Tensor) -> Tensor:
        count = state["updates"].to(grad.dtype).clamp(min=1)
        square = state["square"].mul_(self.beta_2).addcmul_(grad, grad, value=1 - self.beta_2)
        state["mean"].lerp_(grad, 1 - self.beta_1)
        if self.amsgrad:
            square = torch.maximum(state["ceiling"], square, out=state["ceiling"])
        denominator = square.sqrt().div_(torch.sqrt(1 - self.beta_2**count)).add_(self.eps)
        return (rate / (1 - self.beta_1**count)) * state["mean"] / denominator


@dataclass(frozen=True, kw_only=True)
class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012). ``decay``: of the mean square; ``eps``."""

    name: ClassVar[str] = "rmsprop"
    moments: ClassVar[tuple[str, ...]] = ("square",)
    decay: float = 0.99
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay < 1:
            raise ConfigError(f"decay = {self.decay}: must be in [0, 1)")
        require_eps(self.eps)

    def _change(self, grad: Tensor, state: OptimState, rate: Tensor) -> Tensor:
        state["square"].mul_(self.decay).addcmul_(grad, grad, value=1 - self.decay)
        return rate * grad / (state["square"].sqrt() + self.eps)


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with optional heavy-ball ``momentum``."""

    name: ClassVar[str] = "sgd"
    moments: ClassVar[tuple[str, ...]] = ("velocity",)
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum = {self.momentum}: must be in [0, 1)")

    def _change(self, grad: Tensor, state: OptimState, rate: Tensor) -> Tensor:
        state["velocity"].mul_(self.momentum).add_(grad)
        return rate * state["velocity"]


@dataclass(frozen=True, kw_only=True)
class ObGD:
    """Overshooting-bounded gradient descent (Elsayed, Vasan & Mahmood 2024, arXiv 2410.14606, algorithm 3).

    w <- w + alpha' delta z, with alpha' = min(alpha, 1 / (kappa max(|delta|, 1) |z|_1)), delta the TD error and z the
    eligibility trace. Were the value linear in w, an update would change the TD error by the share alpha' z·(phi - gamma
    phi') of itself, which is at most |phi - gamma phi'|_inf / kappa: with features in [-1, 1] and ``kappa`` = 2 it never
    takes the error past 0. It has no moments; it is no ``Optimizer``, for it needs delta.

    ``lr``: alpha, the greatest step size. ``kappa``: 2 for a value and 3 for a policy in the paper.

    Raises ConfigError: for a setting out of range.
    """

    lr: float = 1.0
    kappa: float = 2.0

    def __post_init__(self) -> None:
        for name in ("lr", "kappa"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be more than 0")

    def update(self, flat: Tensor, trace: Tensor, delta: float) -> bool:
        """One step on ``flat`` (size,) in place along ``trace`` (size,); returns whether both numbers were finite.

        A TD error or trace that is NaN or infinite changes nothing.
        """
        bound = self.kappa * max(abs(delta), 1.0) * float(torch.linalg.vector_norm(trace, ord=1))
        if not (isfinite(bound) and isfinite(delta)):
            return False
        flat.add_(trace, alpha=delta * min(self.lr, 1 / bound if bound else inf))
        return True


OPTIMIZERS: dict[str, type[Optimizer]] = {rule.name: rule for rule in (Adam, RMSprop, SGD)}
