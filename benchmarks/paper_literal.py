"""The SAB paper's eq. 1-5 and its authors' released code, each as literally as a few lines allow, with the copying task.

``Eq1To5`` is what is printed: an affine score with one bias for each microstate, ReLU(a - a_ktop), h = h_hat + s,
readout [h ; a_tilde]. ``Released`` is what was released (github.com/nke001/sparse_attentive_backtracking_release):
w . tanh([h_hat ; m]) with w ~ N(0, 0.01), raw scores as weights while there are at most k_top microstates, then threshold
and normalisation, readout [h ; s], the symbol as one number from 0 to 9. Both append h to a memory that begins with a
state of zeros, cut h and c where (t + 1) % k_trunc is 0, and keep one graph of the sequence, through which recall recurses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SYMBOLS, RECALLED = 10, 10
"""0 blank, 1 to 8 digits, 9 marker; ten digits are to be recalled."""
EPSILON = 1e-7
"""``10e-8`` in the released code: added to its threshold and to the sum it divides by."""


class Literal(nn.Module):
    """What both have in common; ``inputs`` is the width of a step's input.

    Attributes:
        course: greatest absolute entry of h at each step of the last sequence.
        weights: recall weights of the last step, shape `(batch, microstates)`.
    """

    inputs: int

    def __init__(self, *, hidden: int, k_top: int, k_trunc: int, k_att: int) -> None:
        super().__init__()
        self.hidden, self.k_top, self.k_trunc, self.k_att = hidden, k_top, k_trunc, k_att
        self.cell = nn.LSTMCell(self.inputs, hidden)
        self.course: list[float] = []
        self.weights = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs `(batch, steps, inputs)` -> logits `(batch, steps, SYMBOLS)`."""
        h = c = x.new_zeros(x.shape[0], self.hidden)
        memory, outputs = [h], []
        self.course = []
        for t in range(x.shape[1]):
            if (t + 1) % self.k_trunc == 0:
                h, c = h.detach(), c.detach()
            h_hat, c = self.cell(x[:, t], (h, c))
            m = torch.stack(memory, 1)
            self.weights = self.sparsify(self.score(h_hat, m))
            s = (self.weights.unsqueeze(2) * m).sum(1)
            h = h_hat + s
            outputs.append(self.readout(h, s, self.weights))
            if (t + 1) % self.k_att == 0:
                memory.append(h)
            self.course.append(float(h.detach().abs().max()))
        return torch.stack(outputs, 1)

    def encode(self, symbols: Tensor) -> Tensor:
        """Symbols `(batch, steps)` -> inputs `(batch, steps, inputs)`."""
        raise NotImplementedError

    def score(self, h_hat: Tensor, m: Tensor) -> Tensor:
        """Salience `(batch, microstates)` of ``m`` `(batch, microstates, hidden)` against ``h_hat`` `(batch, hidden)`."""
        raise NotImplementedError

    def sparsify(self, a: Tensor) -> Tensor:
        """Recall weights from salience, both `(batch, microstates)`."""
        raise NotImplementedError

    def readout(self, h: Tensor, s: Tensor, a_tilde: Tensor) -> Tensor:
        """Logits `(batch, SYMBOLS)`."""
        raise NotImplementedError


class Eq1To5(Literal):
    """The equations as printed; ``steps`` of the longest sequence: as many biases and readout weights there are."""

    inputs = SYMBOLS

    def __init__(self, *, steps: int, **options: Any) -> None:
        super().__init__(**options)
        self.w = nn.Linear(2 * self.hidden, 1, bias=False)
        self.b = nn.Parameter(torch.zeros(steps + 1))
        self.out = nn.Linear(self.hidden + steps + 1, SYMBOLS)

    def encode(self, symbols: Tensor) -> Tensor:
        return nn.functional.one_hot(symbols, SYMBOLS).to(self.w.weight.dtype)

    def score(self, h_hat: Tensor, m: Tensor) -> Tensor:
        query = h_hat.unsqueeze(1).expand(-1, m.shape[1], -1)
        return self.w(torch.cat([query, m], 2)).squeeze(2) + self.b[: m.shape[1]]

    def sparsify(self, a: Tensor) -> Tensor:
        return torch.relu(a - a.topk(min(self.k_top, a.shape[1]), 1).values[:, -1:])

    def readout(self, h: Tensor, s: Tensor, a_tilde: Tensor) -> Tensor:
        unborn = a_tilde.new_zeros(a_tilde.shape[0], self.b.numel() - a_tilde.shape[1])
        return self.out(torch.cat([h, a_tilde, unborn], 1))


class Released(Literal):
    """The released code."""

    inputs = 1

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.w = nn.Parameter(0.01 * torch.randn(2 * self.hidden))
        self.out = nn.Linear(2 * self.hidden, SYMBOLS)

    def encode(self, symbols: Tensor) -> Tensor:
        return symbols.unsqueeze(2).to(self.w.dtype)

    def score(self, h_hat: Tensor, m: Tensor) -> Tensor:
        query = h_hat.unsqueeze(1).expand(-1, m.shape[1], -1)
        return torch.tanh(torch.cat([query, m], 2)) @ self.w

    def sparsify(self, a: Tensor) -> Tensor:
        if a.shape[1] <= self.k_top:
            return a
        weights = torch.relu(a - (a.topk(self.k_top, 1).values[:, -1:] + EPSILON))
        return weights / (weights.sum(1, keepdim=True) + EPSILON)

    def readout(self, h: Tensor, s: Tensor, a_tilde: Tensor) -> Tensor:
        return self.out(torch.cat([h, s], 1))


def copying(batch: int, T: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Symbols shown and wanted, both `(batch, T + 20)`."""
    digits = torch.randint(1, 9, (batch, RECALLED), generator=generator)
    blank = digits.new_zeros(batch, T + RECALLED)
    shown, wanted = torch.cat([digits, blank], 1), torch.cat([blank, digits], 1)
    shown[:, T + RECALLED - 1] = SYMBOLS - 1
    return shown, wanted
