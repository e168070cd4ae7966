"""Salience: the score a_i of each microstate m_i against the current provisional state h_hat, and its VJP (paper eq. 1).

Shapes: B streams, S slots, n hidden units, K read slots, p projection size (= n). A salience's *trace* keeps, with a
leading time axis, what its backward pass needs. The backward pass goes step by step for the query's side (``query_vjp``,
inside the window's chain) and once per window for the rest (``finish``): the credit on the microstates that were read
and the parameter gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from .cells import Views
from .summing import sum_by_slot

Trace = dict[str, Tensor]


class Salience(ABC):
    """A score of microstates; ``hidden`` is n, ``slots`` is S (only a per-slot bias needs it)."""

    name: ClassVar[str]

    def __init__(self, hidden: int, slots: int) -> None:
        self.hidden = hidden
        self.slots = slots

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes by name."""

    def initialise(self, p: Views, generator: torch.Generator) -> None:
        """Uniform in +-1/sqrt(n)."""
        for view in p.values():
            view.uniform_(-(self.hidden**-0.5), self.hidden**-0.5, generator=generator)

    def trace(self, steps: int, rows: int, reads: int, like: Tensor) -> Trace:
        """Buffers of shape ``(steps, rows, ...)`` for the backward pass."""
        return {}

    def keys(self, p: Views, m: Tensor) -> Tensor:
        """What of the score depends on the memory alone: computed once per update, ``m`` (B, S, n) -> (B, S, .)."""
        return m

    @abstractmethod
    def score(self, p: Views, keys: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        """Scores a of shape ``(B, S)`` from ``keys`` and ``h_hat`` (B, n)."""

    def prepare(self, p: Views, m: Tensor, trace: Trace, first: int) -> None:
        """Before a backward pass: what it needs of the read microstates ``m`` ``(steps, B, K, n)``, all steps at once.

        The trace's rows ``first`` onward are theirs.
        """
        return  # most need nothing

    @abstractmethod
    def query_vjp(self, p: Views, da: Tensor, m: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        """Credit on h_hat (B, n) from ``da`` (B, K) on the scores of the read microstates ``m`` (B, K, n)."""

    @abstractmethod
    def finish(
        self, p: Views, g: Views, da: Tensor, m: Tensor, h_hat: Tensor, index: Tensor, own: Tensor, trace: Trace, first: int
    ) -> Tensor:
        """Adds the parameter gradient to ``g`` and returns the credit on the read microstates, ``(steps, B, K, n)``.

        ``da`` and ``index`` (slots) have shape ``(steps, B, K)``, ``m`` ``(steps, B, K, n)``, ``h_hat`` ``(steps, B, n)``;
        the trace's rows ``first`` onward belong to them. ``own`` (steps, B, 1) is 1 where the scores were as sharp as the
        salience makes them, 0 where a temperature was imposed on them (see Exploration).
        """


class Dot(Salience):
    """a_i = (W_k m_i) . (W_q h_hat) / sqrt(p): query-dependent and unbounded.

    Scored as m_i . u with u = W_k^T W_q h_hat / sqrt(p), so that no keys need be kept or refreshed.
    """

    name = "dot"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"W_q": (self.hidden, self.hidden), "W_k": (self.hidden, self.hidden)}

    def trace(self, steps: int, rows: int, reads: int, like: Tensor) -> Trace:
        return {name: like.new_zeros(steps, rows, self.hidden) for name in ("q", "u", "dq", "du")}

    def score(self, p: Views, keys: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        q, u = trace["q"][t], trace["u"][t]
        torch.mm(h_hat, p["W_q"].t(), out=q)
        q.mul_(self.hidden**-0.5)
        torch.mm(q, p["W_k"], out=u)
        return torch.bmm(keys, u.unsqueeze(2)).squeeze(2)

    def query_vjp(self, p: Views, da: Tensor, m: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        du, dq = trace["du"][t], trace["dq"][t]
        du.copy_(torch.bmm(da.unsqueeze(1), m).squeeze(1))
        torch.mm(du, p["W_k"].t(), out=dq)
        dq.mul_(self.hidden**-0.5)
        return dq @ p["W_q"]

    def finish(
        self, p: Views, g: Views, da: Tensor, m: Tensor, h_hat: Tensor, index: Tensor, own: Tensor, trace: Trace, first: int
    ) -> Tensor:
        last = first + da.shape[0]
        q, u, dq, du = (trace[name][first:last] for name in ("q", "u", "dq", "du"))
        g["W_q"].addmm_(dq.flatten(0, 1).t(), h_hat.flatten(0, 1))
        g["W_k"].addmm_(q.flatten(0, 1).t(), du.flatten(0, 1))
        return da.unsqueeze(3) * u.unsqueeze(2)


class Cosine(Salience):
    """a_i = g cos(W_k m_i, W_q h_hat), with a learned sharpness g: the default.

    Content addressing (Graves et al. 2014, arXiv 1410.5401, eq. 5-6) between learned projections, or a dot product with
    normalised queries and keys (Henry et al. 2020, arXiv 2010.04245). Scores stay within +-g: a query can turn away from
    what it attends to in a few updates, whatever the size of the weights. Vectors shorter than ``SHORTEST`` are not
    stretched to length 1.

    Who explores recalls at g / temperature and would raise g until that were sharp enough; the recall of all others would
    then be sharp before it is right, and learn no more. So from ``TAUGHT_UNTIL`` on g is learned from these others alone.
    Below it the pull helps: it ends the plateau at which learning begins (docs/decisions.md).
    """

    name = "cosine"
    SHARPNESS: ClassVar[float] = 10.0
    """Initial g."""
    TAUGHT_UNTIL: ClassVar[float] = 15.0
    """Those who explore teach g as long as it is below this."""
    SHORTEST: ClassVar[float] = 1e-6

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"W_q": (self.hidden, self.hidden), "W_k": (self.hidden, self.hidden), "g": (1,)}

    def initialise(self, p: Views, generator: torch.Generator) -> None:
        super().initialise(p, generator)
        p["g"].fill_(self.SHARPNESS)

    def trace(self, steps: int, rows: int, reads: int, like: Tensor) -> Trace:
        trace = {name: like.new_zeros(steps, rows, self.hidden) for name in ("q", "dq")}
        trace |= {name: like.new_zeros(steps, rows, reads, self.hidden) for name in ("k", "gk")}
        return trace | {"q_norm": like.new_ones(steps, rows, 1), "k_norm": like.new_ones(steps, rows, reads, 1)}

    def _norm(self, v: Tensor) -> Tensor:
        return torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp_min_(self.SHORTEST)

    def keys(self, p: Views, m: Tensor) -> Tensor:
        k = (m.flatten(0, 1) @ p["W_k"].t()).view(m.shape)
        return k.mul_(p["g"] / self._norm(k))

    def score(self, p: Views, keys: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        q = trace["q"][t]
        torch.mm(h_hat, p["W_q"].t(), out=q)
        norm = self._norm(q)
        trace["q_norm"][t] = norm
        q.div_(norm)
        return torch.bmm(keys, q.unsqueeze(2)).squeeze(2)

    def prepare(self, p: Views, m: Tensor, trace: Trace, first: int) -> None:
        last = first + m.shape[0]
        k, norm = trace["k"][first:last], trace["k_norm"][first:last]
        torch.mm(m.flatten(0, 2), p["W_k"].t(), out=k.flatten(0, 2))
        norm.copy_(self._norm(k))
        k.div_(norm)
        torch.mul(k, p["g"], out=trace["gk"][first:last])

    def query_vjp(self, p: Views, da: Tensor, m: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        d_unit, q, dq = torch.bmm(da.unsqueeze(1), trace["gk"][t]).squeeze(1), trace["q"][t], trace["dq"][t]
        torch.sub(d_unit, q * (q * d_unit).sum(1, keepdim=True), out=dq)
        dq.div_(trace["q_norm"][t])
        return dq @ p["W_q"]

    def finish(
        self, p: Views, g: Views, da: Tensor, m: Tensor, h_hat: Tensor, index: Tensor, own: Tensor, trace: Trace, first: int
    ) -> Tensor:
        last = first + da.shape[0]
        q, dq, k, norm = (trace[name][first:last] for name in ("q", "dq", "k", "k_norm"))
        g["W_q"].addmm_(dq.flatten(0, 1).t(), h_hat.flatten(0, 1))
        cosine = torch.matmul(k, q.unsqueeze(3))
        da = da.unsqueeze(3)
        teaches = torch.maximum(own, (p["g"] < self.TAUGHT_UNTIL).to(own.dtype))
        g["g"].add_((da * cosine).sum((2, 3)).mul_(teaches.squeeze(2)).sum())
        dk = torch.addcmul(q.unsqueeze(2), k, cosine, value=-1).mul_(da * p["g"] / norm)
        g["W_k"].addmm_(dk.flatten(0, 2).t(), m.flatten(0, 2))
        return dk @ p["W_k"]


class MLP(Salience):
    """a_i = v . tanh(W_1 m_i + W_2 h_hat): additive with the nonlinearity after the sum (Bahdanau et al. 2015)."""

    name = "mlp"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"v": (self.hidden,), "W_1": (self.hidden, self.hidden), "W_2": (self.hidden, self.hidden)}

    def trace(self, steps: int, rows: int, reads: int, like: Tensor) -> Trace:
        return {"dq": like.new_zeros(steps, rows, self.hidden)}

    def keys(self, p: Views, m: Tensor) -> Tensor:
        return m @ p["W_1"].t()

    def score(self, p: Views, keys: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        query = h_hat @ p["W_2"].t()
        return torch.tanh(keys + query.unsqueeze(1)) @ p["v"]

    def _inside(self, p: Views, m: Tensor, h_hat: Tensor) -> Tensor:
        return torch.tanh(m @ p["W_1"].t() + (h_hat @ p["W_2"].t()).unsqueeze(-2))

    def query_vjp(self, p: Views, da: Tensor, m: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        inside = self._inside(p, m, h_hat)
        trace["dq"][t].copy_((da.unsqueeze(2) * p["v"] * (1 - inside * inside)).sum(1))
        return trace["dq"][t] @ p["W_2"]

    def finish(
        self, p: Views, g: Views, da: Tensor, m: Tensor, h_hat: Tensor, index: Tensor, own: Tensor, trace: Trace, first: int
    ) -> Tensor:
        inside = self._inside(p, m, h_hat)
        dz = da.unsqueeze(3) * p["v"] * (1 - inside * inside)
        g["v"].add_((da.unsqueeze(3) * inside).sum((0, 1, 2)))
        g["W_1"].addmm_(dz.flatten(0, 2).t(), m.flatten(0, 2))
        dq = trace["dq"][first : first + da.shape[0]]
        g["W_2"].addmm_(dq.flatten(0, 1).t(), h_hat.flatten(0, 1))
        return dz @ p["W_1"]


class Affine(Salience):
    """a_i = w_m . m_i + w_h . h_hat + b_i (paper eq. 1, with a bias per slot).

    The query's term is the same for every microstate, so under a rule that looks at differences of scores (eq. 2,
    softmax) recall does not depend on the current state: kept for fidelity.
    """

    name = "affine"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"w_m": (self.hidden,), "w_h": (self.hidden,), "b": (self.slots,)}

    def score(self, p: Views, keys: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        return keys @ p["w_m"] + (h_hat @ p["w_h"]).unsqueeze(1) + p["b"]

    def query_vjp(self, p: Views, da: Tensor, m: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        return da.sum(1, keepdim=True) * p["w_h"]

    def finish(
        self, p: Views, g: Views, da: Tensor, m: Tensor, h_hat: Tensor, index: Tensor, own: Tensor, trace: Trace, first: int
    ) -> Tensor:
        g["w_m"].add_(da.flatten() @ m.flatten(0, 2))
        g["w_h"].add_(da.sum(2).flatten() @ h_hat.flatten(0, 1))
        g["b"].add_(sum_by_slot(index.flatten()[:, None, None], da.flatten()[:, None, None, None], self.slots)[0, :, 0])
        return da.unsqueeze(3) * p["w_m"]


class Tanh(Salience):
    """a_i = w . tanh([h_hat ; m_i]) = w_m . tanh(m_i) + w_h . tanh(h_hat), as in the authors' released code.

    The query's term cancels here as well.
    """

    name = "tanh"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"w_m": (self.hidden,), "w_h": (self.hidden,)}

    def keys(self, p: Views, m: Tensor) -> Tensor:
        return torch.tanh(m) @ p["w_m"]

    def score(self, p: Views, keys: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        return keys + (torch.tanh(h_hat) @ p["w_h"]).unsqueeze(1)

    def query_vjp(self, p: Views, da: Tensor, m: Tensor, h_hat: Tensor, trace: Trace, t: int) -> Tensor:
        return da.sum(1, keepdim=True) * p["w_h"] * (1 - torch.tanh(h_hat) ** 2)

    def finish(
        self, p: Views, g: Views, da: Tensor, m: Tensor, h_hat: Tensor, index: Tensor, own: Tensor, trace: Trace, first: int
    ) -> Tensor:
        tanh_m = torch.tanh(m)
        g["w_m"].add_(da.flatten() @ tanh_m.flatten(0, 2))
        g["w_h"].add_(da.sum(2).flatten() @ torch.tanh(h_hat).flatten(0, 1))
        return da.unsqueeze(3) * p["w_m"] * (1 - tanh_m * tanh_m)


SALIENCES: dict[str, type[Salience]] = {rule.name: rule for rule in (Cosine, Dot, MLP, Affine, Tanh)}
