"""Sparse attentive backtracking as published, batched, with autograd over the whole sequence.

This is how one writes it in eager torch, and how the authors' released code is built: every k_att-th state is appended to
a memory that grows, each step scores all of it, and one graph spans the sequence. The oracle in ``sabsim.reference`` is
the same without the batch: it loops over streams and microstates, for clarity.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPSILON = 1e-7


class LiteralSAB(nn.Module):
    """w . tanh([h_hat ; m]), threshold and normalise, h = h_hat + s, readout [h ; s]; Adam, one update per sequence.

    Args: ``k_trunc``: h and c are cut off at steps where (t + 1) % k_trunc is 0.
    """

    def __init__(self, d: int, n: int, d_out: int, *, k_top: int, k_trunc: int, k_att: int, device: torch.device) -> None:
        super().__init__()
        self._cell = nn.LSTMCell(d, n, device=device)
        self._score = nn.Linear(2 * n, 1, bias=False, device=device)
        self._readout = nn.Linear(2 * n, d_out, device=device)
        self._n, self._k_top, self._k_trunc, self._k_att = n, k_top, k_trunc, k_att
        self._adam = torch.optim.Adam(self.parameters(), lr=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (steps, streams, d) -> outputs (steps, streams, d_out)."""
        h = c = x.new_zeros(x.shape[1], self._n)
        memory, outputs = h.unsqueeze(1), []
        for t, x_t in enumerate(x):
            if (t + 1) % self._k_trunc == 0:
                h, c = h.detach(), c.detach()
            h_hat, c = self._cell(x_t, (h, c))
            s = self._recall(h_hat, memory)
            h = h_hat + s
            outputs.append(torch.cat([h, s], 1))
            if (t + 1) % self._k_att == 0:
                memory = torch.cat([memory, h.unsqueeze(1)], 1)
        return self._readout(torch.stack(outputs))

    def _recall(self, h_hat: Tensor, memory: Tensor) -> Tensor:
        """The summary (streams, n) of a memory (streams, microstates, n)."""
        query = h_hat.unsqueeze(1).expand(-1, memory.shape[1], -1)
        a = self._score(torch.tanh(torch.cat([query, memory], 2))).squeeze(2)
        if memory.shape[1] > self._k_top:
            a = torch.relu(a - a.topk(self._k_top, 1).values[:, -1:])
            a = a / (a.sum(1, keepdim=True) + EPSILON)
        return (a.unsqueeze(2) * memory).sum(1)

    def learn(self, x: Tensor, target: Tensor) -> None:
        """One sequence of all streams: x (steps, streams, d), target (steps, streams) classes."""
        loss = nn.functional.cross_entropy(self(x).flatten(0, 1), target.flatten())
        self._adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self._adam.step()


def microstates_scored(steps: int, k_att: int) -> int:
    """Scores of one sequence of one stream: the memory begins with a state of zeros and grows every ``k_att`` steps."""
    return sum(1 + t // k_att for t in range(steps))


def graph_bytes(steps: int, streams: int, n: int, k_att: int) -> int:
    """About what the graph of one sequence keeps: per score six vectors of n single-precision numbers.

    They are the joined pair and its tanh (2 n each), the weighted microstate, and the copy of the memory that was added to.
    """
    return 6 * 4 * n * streams * microstates_scored(steps, k_att)
