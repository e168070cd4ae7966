"""The fused peers: ``nn.LSTM`` forward and backward, with whole or truncated backpropagation, and as SAB's own replay.

Inside a replayed segment the summaries are constants, so gates = W_x x + W_h (h_hat_prev + s_prev) + b is what a plain LSTM
computes on the input [x ; s_prev] when its weights are tied: [W_x W_h] for the input and W_h for the state. So fused
kernels can run replays; ``TiedLSTM`` does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..cells import Views


class FusedLSTM:
    """``nn.LSTM`` on ``rows`` rows over ``steps`` steps: forward, and the parameter gradient of a credit on the last h."""

    def __init__(self, rows: int, steps: int, n: int, d: int, device: torch.device) -> None:
        self._lstm = nn.LSTM(d, n, device=device)
        self._x = torch.randn(steps, rows, d, device=device)
        self._state = (torch.zeros(1, rows, n, device=device), torch.zeros(1, rows, n, device=device))
        self._credit = torch.randn(1, rows, n, device=device)
        self._parameters = list(self._lstm.parameters())

    def __call__(self) -> tuple[Tensor, ...]:
        """Forward and backward; returns the gradients."""
        _, (h, _) = self._lstm(self._x, self._state)
        return torch.autograd.grad(h, self._parameters, self._credit)


class EagerLSTM:
    """The same with ``nn.LSTMCell`` in a Python loop: what one writes where something happens between two steps."""

    def __init__(self, rows: int, steps: int, n: int, d: int, device: torch.device) -> None:
        self._cell = nn.LSTMCell(d, n, device=device)
        self._x = torch.randn(steps, rows, d, device=device)
        self._zero = torch.zeros(rows, n, device=device)
        self._credit = torch.randn(rows, n, device=device)
        self._parameters = list(self._cell.parameters())

    def __call__(self) -> tuple[Tensor, ...]:
        """Forward and backward; returns the gradients."""
        h = c = self._zero
        for x in self._x:
            h, c = self._cell(x, (h, c))
        return torch.autograd.grad(h, self._parameters, self._credit)


class TiedLSTM:
    """Replays of full-length segments by ``nn.LSTM``: equal to those of ``sabsim.replay``.

    Args: ``value`` and ``gradient`` are the cell's views, W (4n, d+n) and b (4n), gate order o, i, f, g.
    """

    def __init__(self, value: Views, gradient: Views) -> None:
        self._value, self._gradient = value, gradient
        w = value["W"]
        self._n = w.shape[0] // 4
        self._d = w.shape[1] - self._n
        self._lstm = nn.LSTM(w.shape[1], self._n, device=w.device, dtype=w.dtype)
        *self._tied, second_bias = self._lstm.parameters()  # weights of input and state, bias, bias
        with torch.no_grad():
            second_bias.zero_()

    def tie(self) -> None:
        """Copies the weights, in torch's gate order i, f, g, o: needed once per update, since they have changed."""
        w, b = self._value["W"], self._value["b"]
        with torch.no_grad():
            for mine, its in zip(self._tied, (w, w[:, self._d :], b), strict=True):
                mine.copy_(its.roll(-self._n, 0))

    def replay(self, segment: Tensor, c: Tensor, credit: Tensor) -> None:
        """Adds the gradient of segments (steps, rows, d+n) from cell states c (rows, n) and credit (rows, n) on h_hat.

        The first entry of a segment is [x ; h] before it, the others are [x ; s_prev]: the state h goes in as an input, so
        the LSTM's own begins at zero.
        """
        self.tie()
        _, (h, _) = self._lstm(segment, (torch.zeros_like(c).unsqueeze(0), c.unsqueeze(0)))
        d_input, d_state, d_bias = torch.autograd.grad(h, self._tied, credit.unsqueeze(0))
        self._gradient["W"].add_(d_input.roll(self._n, 0))
        self._gradient["W"][:, self._d :].add_(d_state.roll(self._n, 0))
        self._gradient["b"].add_(d_bias.roll(self._n, 0))


class LSTMLearner:
    """``nn.LSTM``, a linear readout and fused Adam with a clip, trained by backpropagation on sequences of symbols.

    Args: ``window`` steps per update, the state being carried over as a constant; None: whole sequences, from zero.
    """

    def __init__(self, d: int, n: int, d_out: int, *, window: int | None, device: torch.device) -> None:
        self._lstm, self._readout = nn.LSTM(d, n, device=device), nn.Linear(n, d_out, device=device)
        self._window, self._n = window, n
        self._parameters = [*self._lstm.parameters(), *self._readout.parameters()]
        on_gpu = device.type == "cuda"
        self._adam = torch.optim.Adam(self._parameters, lr=1e-3, amsgrad=True, fused=True, capturable=on_gpu)

    def learn(self, x: Tensor, target: Tensor) -> None:
        """One sequence of all streams: x (steps, streams, d), target (steps, streams) classes."""
        zero = x.new_zeros(1, x.shape[1], self._n)
        state = (zero, zero)
        window = x.shape[0] if self._window is None else self._window
        for inputs, wanted in zip(x.split(window), target.split(window), strict=True):
            h, state = self._lstm(inputs, state)
            loss = nn.functional.cross_entropy(self._readout(h).flatten(0, 1), wanted.flatten())
            self._adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._parameters, 1.0)
            self._adam.step()
            state = (state[0].detach(), state[1].detach())
