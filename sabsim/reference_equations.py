"""The forward equations for one stream and one step, written the way they are printed.

Nothing here is batched, cached or rearranged: a microstate is one vector, a recall weight one number. The
oracle in `sabsim.reference` differentiates these functions with autograd and shares no code with the fast
learner, so an error in either shows as a disagreement between them.

Symbols (docs/algorithm.md): `x` input, `h_hat` provisional hidden state, `c` cell state, `m` microstate, `a`
salience, `a_tilde` recall weight, `s` summary, `h` hidden state, `y` output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from sabsim.errors import ConfigError

Parameters = Mapping[str, Tensor]
NORMALISER_EPS = 1e-7
_TAUGHT_UNTIL = 15.0


def _unknown(name: str, value: str, allowed: str) -> ConfigError:
    return ConfigError(f"{name} is {value!r}; allowed: {allowed}")


def cell_step(kind: str, p: Parameters, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of a recurrent cell.

    Args:
        kind: "lstm" (gate rows in the order o, i, f, g), "gru" (r, z, n) or "rnn" (tanh).
        p: parameters `cell.W_x` (G n, d_in), `cell.W_h` (G n, n), `cell.b` (G n,), and `cell.b_n` (n,) for a
            GRU.
        x: tensor of shape `(d_in,)`.
        h: previous hidden state after recall, shape `(n,)`.
        c: previous cell state, shape `(n,)`: the LSTM's c, the GRU's last `h_hat` (recall feeds its gates and
            candidate, not what it carries); passed through unchanged by the RNN, which has none.

    Returns:
        `(h_hat, c)`, both of shape `(n,)`.
    """
    from_x = p["cell.W_x"] @ x + p["cell.b"]
    from_h = p["cell.W_h"] @ h
    if kind == "lstm":
        o, i, f, g = (from_x + from_h).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
    if kind == "gru":
        r_x, z_x, n_x = from_x.chunk(3)
        r_h, z_h, n_h = from_h.chunk(3)
        r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        candidate = torch.tanh(n_x + r * (n_h + p["cell.b_n"]))
        h_hat = (1 - z) * candidate + z * c
        return h_hat, h_hat
    if kind == "rnn":
        return torch.tanh(from_x + from_h), c
    raise _unknown("cell", kind, "lstm, gru, rnn")


def score(kind: str, p: Parameters, m: Tensor, h_hat: Tensor, slot: int) -> Tensor:
    """The salience of one microstate against the current provisional state.

    Args:
        kind: "cosine" (of learned projections, times g), "dot" (their scaled product), "mlp" (additive, tanh after
            the sum), "affine" (eq. 1, one bias per slot) or "tanh" (the released code's score).
        p: the `salience.*` parameters.
        m: microstate, shape `(n,)`.
        h_hat: provisional hidden state, shape `(n,)`.
        slot: index of the microstate's slot, which selects the bias of "affine".

    Returns:
        A 0-d tensor.
    """
    if kind == "cosine":
        query, key = p["salience.W_q"] @ h_hat, p["salience.W_k"] @ m
        return p["salience.g"][0] * torch.cosine_similarity(query, key, dim=0, eps=0.0)
    if kind == "dot":
        query, key = p["salience.W_q"] @ h_hat, p["salience.W_k"] @ m
        return (key @ query) / sqrt(query.numel())
    if kind == "mlp":
        return p["salience.v"] @ torch.tanh(p["salience.W_1"] @ m + p["salience.W_2"] @ h_hat)
    if kind == "affine":
        return p["salience.w_m"] @ m + p["salience.w_h"] @ h_hat + p["salience.b"][slot]
    if kind == "tanh":
        return p["salience.w_m"] @ torch.tanh(m) + p["salience.w_h"] @ torch.tanh(h_hat)
    raise _unknown("salience", kind, "cosine, dot, mlp, affine, tanh")


def top(scores: Sequence[Tensor], k_top: int) -> list[int]:
    """Positions of the `k_top` largest scores (all of them where there are fewer), largest first."""
    return sorted(range(len(scores)), key=lambda i: -scores[i].item())[:k_top]


def recall_weights(rule: str, scores: Sequence[Tensor], k_top: int) -> list[Tensor]:
    """Sparsified saliences.

    Args:
        rule: "softmax" (over exactly the k_top largest), "relu" (eq. 2: each score less the k_top-th largest,
            or less the smallest where fewer are held), "normalised" (those divided by their sum) or "dense"
            (softmax over all).
        scores: one 0-d tensor per occupied slot; not empty.
        k_top: how many are considered.

    Returns:
        One 0-d tensor per score, zero for those that are not read.
    """
    chosen = top(scores, len(scores) if rule == "dense" else k_top)
    if rule in ("softmax", "dense"):
        share = dict(zip(chosen, torch.softmax(torch.stack([scores[i] for i in chosen]), dim=0), strict=True))
        return [share.get(i, torch.zeros_like(a)) for i, a in enumerate(scores)]
    threshold = scores[chosen[-1]]
    above = [torch.relu(a - threshold) for a in scores]
    if rule == "relu":
        return above
    if rule == "normalised":
        return [a / (sum(above) + NORMALISER_EPS) for a in above]
    raise _unknown("sparsify", rule, "softmax, relu, normalised, dense")


@dataclass(frozen=True)
class StepResult:
    """What one stream's step produced; every tensor of shape `(n,)` but `y`, `(d_out,)`, and `a_tilde`, `(slots,)`."""

    h_hat: Tensor
    c: Tensor
    s: Tensor
    h: Tensor
    y: Tensor
    a_tilde: Tensor


@dataclass(frozen=True, kw_only=True)
class Equations:
    """Which variant of each equation is used.

    Attributes:
        cell: "lstm", "gru" or "rnn".
        salience: "cosine", "dot", "mlp", "affine" or "tanh".
        sparsify: "softmax", "relu", "normalised" or "dense".
        stores: what a microstate holds: "h_hat" or "h".
        readout: what is read beside h: "summary" (s) or "weights" (a_tilde over the slots, eq. 5).
        feeds: what the next step gets: "h" or "h_hat".
        k_top: microstates considered at each step; 0 switches recall off.
        slots: size of the macrostate, the length of a_tilde in the "weights" readout.
    """

    cell: str
    salience: str
    sparsify: str
    stores: str
    readout: str
    k_top: int
    slots: int
    feeds: str = "h"

    def fed(self, h_hat: Tensor, s: Tensor) -> Tensor:
        """What the next step gets of `h_hat` and the summary, shape `(n,)` each."""
        return h_hat + s if self.feeds == "h" else h_hat

    def step(
        self,
        p: Parameters,
        x: Tensor,
        h: Tensor,
        c: Tensor,
        held: Sequence[tuple[int, Tensor]],
        temperature: float = 1.0,
        mask: Tensor | None = None,
    ) -> StepResult:
        """One forward step of one stream (eq. 1-5).

        Args:
            p: all parameters by name.
            x: input, shape `(d_in,)`.
            h: previous hidden state, shape `(n,)`.
            c: previous cell state, shape `(n,)`.
            held: `(slot, microstate of shape (n,))` for every occupied slot.
            temperature: what the scores are divided by; where it is not 1, "cosine" learns its sharpness g below 15 only.
            mask: what the readout's input, h and what is read beside it, is multiplied by, shape `(w,)`; None means 1.
        """
        h_hat, c = cell_step(self.cell, p, x, h, c)
        s, weights = torch.zeros_like(h_hat), h_hat.new_zeros(self.slots)
        if temperature != 1 and "salience.g" in p and float(p["salience.g"].detach()) >= _TAUGHT_UNTIL:
            p = {**p, "salience.g": p["salience.g"].detach()}
        if self.k_top > 0 and held:
            read = self._credited(p, h_hat, held)
            scores = [score(self.salience, p, m, h_hat, slot) / temperature for slot, m in read]
            a_tilde = recall_weights(self.sparsify, scores, self.k_top)
            for (slot, m), weight in zip(read, a_tilde, strict=True):
                s = s + weight * m
                one_hot = torch.zeros_like(weights)
                one_hot[slot] = 1.0
                weights = weights + weight * one_hot
        h = h_hat + s
        n = h.shape[0]
        y = p["readout.W_h"] @ (h if mask is None else h * mask[:n]) + p["readout.b"]
        if self.k_top > 0:
            W, second = (p["readout.W_s"], s) if self.readout == "summary" else (p["readout.W_a"], weights)
            y = y + W @ (second if mask is None else second * mask[n:])
        return StepResult(h_hat=h_hat, c=c, s=s, h=h, y=y, a_tilde=weights)

    def _credited(self, p: Parameters, h_hat: Tensor, held: Sequence[tuple[int, Tensor]]) -> list[tuple[int, Tensor]]:
        """`held`, with the microstates that a dense read shows but gives no credit made constants."""
        if self.sparsify != "dense":
            return list(held)
        with torch.no_grad():
            keep = top([score(self.salience, p, m, h_hat, slot) for slot, m in held], self.k_top)
        return [(slot, m if i in keep else m.detach()) for i, (slot, m) in enumerate(held)]
