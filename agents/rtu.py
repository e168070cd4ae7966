"""Recurrent trace units: a diagonal complex recurrence whose exact real-time gradient is cheap. A rival of the learner.

Elelimy et al. 2024 (arXiv 2409.01449), after the linear recurrent units of Orvieto et al. 2023. With r = exp(-exp(nu)),
phi = exp(theta), lambda = r exp(i phi), gamma = sqrt(1 - r^2) and complex W, b, all by unit,

    h_t = lambda h_{t-1} + gamma (W x_t + b),    f_t = tanh([Re h_t ; Im h_t]),    y_t = W_y z_t + b_y,

with z = f, or z = tanh(W_z f + b_z). As the recurrence is diagonal, dh/dparameter follows h in a recurrence of its own,
the trace: (streams, units) numbers for nu and theta each, (streams, units, d_in + 1) for W and b. So credit reaches back to
the episode's beginning in constant memory.

Updates come every ``block`` steps. Within a block credit is carried back through the steps, at its beginning it meets
the traces, which are then moved on to its end at once: with constant parameters that is the same sum as multiplying
every step's credit by its trace, for a fraction of the work. Between blocks the parameters change and the traces do
not: like the paper's they are slightly stale.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sabsim.devices import choose_device
from sabsim.errors import ConfigError, NonFiniteError
from sabsim.optim import Optimizer
from sabsim.replay import ReplayEvents
from sabsim.views import LearnerViews, ReadEvents

from .rtu_parameters import RTU, RTUParameters


class _Derived(NamedTuple):
    """What follows from nu and theta, constant within a block: all ``(units,)``, the first three complex."""

    decay: Tensor
    by_nu: Tensor
    by_theta: Tensor
    gain: Tensor
    gain_by_nu: Tensor


class RTULearner(LearnerViews[RTUParameters]):
    """Recurrent trace units on ``streams`` streams, behind the calls of ``sabsim.StreamingLearner`` that an agent makes.

    Args: ``network``: the sizes; ``optimizer``: e.g. ``Adam(lr=1e-3)``; ``block``: steps between two updates; ``streams``,
    ``seed``, ``device`` and ``dtype`` as there. Raises ConfigError: for a value out of range.
    """

    backend = "torch"
    macrostate_bytes = 0
    read: ReadEvents | None = None

    def __init__(
        self,
        network: RTU,
        *,
        optimizer: Optimizer,
        block: int = 5,
        streams: int = 1,
        seed: int = 0,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        for name, value in (("block", block), ("streams", streams)):
            if value < 1:
                raise ConfigError(f"{name} = {value}: must be at least 1")
        if dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"dtype = {dtype}: must be torch.float32 or torch.float64")
        self.network, self.optimizer, self.block, self.streams, self.seed = network, optimizer, block, streams, seed
        self.device, self.dtype, self.learning, self.clock = choose_device(device), dtype, True, 0
        self._parameters = RTUParameters(network, dtype=dtype, device=self.device)
        self._parameters.initialise(seed)
        self._optim = optimizer.state(self.flat)
        n, wide, zeros, ones = network.units, network.hidden, self.flat.new_zeros, self.flat.new_ones
        self._arrays = {
            # Complex numbers as pairs, last: the state now, and the traces, of the block's beginning.
            "h": zeros(streams, n, 2),
            "trace_W": zeros(streams, n, network.d_in + 1, 2),
            "trace_nu": zeros(streams, n, 2),
            "trace_theta": zeros(streams, n, 2),
            # Of every step of the block: the state before it, and 0 where a stream began with it.
            "before": zeros(block, streams, n, 2),
            "keep": ones(block, streams, 1),
            # The same, with a row more for peek at the block's end: [x ; 1], W x + b, [f ; 1], [z ; 1].
            "x": ones(block + 1, streams, network.d_in + 1),
            "driven": zeros(block + 1, streams, n, 2),
            "f": ones(block + 1, streams, 2 * n + 1),
            "z": ones(block + 1, streams, wide + 1),
            "fault": torch.full((), -1, dtype=torch.int64, device=self.device),
        }
        pairs = ("h", "trace_W", "trace_nu", "trace_theta", "before", "driven")
        self._complex = {name: torch.view_as_complex(self._arrays[name]) for name in pairs}
        self._position, self._version = 0, -1
        self._derived = self._derive()

    def _derive(self) -> _Derived:
        p = self._parameters.value
        rate, phase = p["unit.nu"].exp(), p["unit.theta"].exp()
        r = torch.exp(-rate)
        decay = torch.polar(r, phase)
        gain = torch.sqrt(-torch.expm1(-2 * rate))
        self._version = self.flat._version
        return _Derived(decay, -rate * decay, 1j * phase * decay, gain, rate * r * r / gain)

    # The calls of an agent

    @property
    def hidden(self) -> Tensor:
        """The units' states after the last step, real and imaginary parts by turns, ``(streams, 2 units)``; valid until
        the next ``step`` or ``reset``.
        """
        return self._arrays["h"].flatten(1)

    @property
    def block_is_empty(self) -> bool:
        """Whether no step of the block under way was taken yet; true again after ``learn_block``."""
        return self._position == 0

    @torch.no_grad()
    def reset(self, done: Tensor) -> None:
        """The streams in ``done`` ``(streams,)`` bool begin a new sequence: their states are zero, their traces are cut."""
        self._advance_if_full()
        done = done.to(self.device).unsqueeze(1)
        self._complex["h"].masked_fill_(done, 0)
        self._arrays["keep"][self._position].masked_fill_(done, 0)

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """One step forward: x ``(streams, d_in)`` -> y ``(streams, d_out)``. Raises ConfigError: for another shape."""
        self._advance_if_full()
        self._complex["before"][self._position] = self._complex["h"]
        h, y = self._forward(x)
        self._complex["h"].copy_(h)
        self._position += 1
        self.clock += 1
        return y

    @torch.no_grad()
    def peek(self, x: Tensor) -> Tensor:
        """What ``step(x)`` would return now, before a due update; nothing is changed. Raises ConfigError: as ``step``."""
        return self._forward(x)[1]

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The state after x and y; fills the next row of the block, which a step still to come writes again."""
        if x.shape != (self.streams, self.network.d_in):
            wanted = (self.streams, self.network.d_in)
            raise ConfigError(f"x has shape {tuple(x.shape)}: must be (streams, d_in) = {wanted}")
        if self._position == 0 and self.flat._version != self._version:
            self._derived = self._derive()
        p, arrays, t = self._parameters.value, self._arrays, self._position
        arrays["x"][t, :, :-1] = x
        driven = arrays["driven"][t]
        torch.mm(arrays["x"][t], p["unit.W"].t(), out=driven.view(self.streams, -1))
        h = self._complex["h"] * self._derived.decay + self._complex["driven"][t] * self._derived.gain
        f = arrays["f"][t]
        f[:, :-1] = torch.view_as_real(h).flatten(1).tanh()
        z = f
        if self.network.hidden:
            z = arrays["z"][t]
            z[:, :-1] = (f @ p["hidden.W"].t()).tanh_()
        return h, z @ p["readout.W"].t()

    @torch.no_grad()
    def learn_block(self, dL_dy: Tensor, loss: Tensor | None = None) -> ReplayEvents | None:
        """Takes the learning signals (block, streams, d_out) of a whole block at its end, and updates; replays nothing.

        ``loss`` is not used. Raises ConfigError: for a signal of another shape, or within a block.
        """
        if not self._is_full:
            raise ConfigError(f"learn_block came after {self._position} of a block's {self.block} steps")
        wanted = (self.block, self.streams, self.network.d_out)
        if dL_dy.shape != wanted:
            raise ConfigError(f"dL_dy has shape {tuple(dL_dy.shape)}: must be (block, streams, d_out) = {wanted}")
        if not self.learning:
            return None
        self.grad.zero_()
        self._accumulate(dL_dy.to(self.flat))
        self._advance_if_full()
        if not self.optimizer.update(self.flat, self.grad, self._optim) and int(self._arrays["fault"]) < 0:
            self._arrays["fault"].fill_(self.clock - 1)
        return None

    @property
    def _is_full(self) -> bool:
        return self._position == self.block

    def _accumulate(self, signal: Tensor) -> None:
        """Adds the gradient of the block's signals: back through its steps, and at its beginning into the traces."""
        p, g = self._parameters.value, self._parameters.gradient
        arrays, numbers, d = self._arrays, self._complex, self._derived
        x, f, z, driven = (array[:-1] for array in (arrays["x"], arrays["f"], arrays["z"], numbers["driven"]))
        read = z if self.network.hidden else f
        g["readout.W"].addmm_(signal.flatten(0, 1).t(), read.flatten(0, 1))
        credit = signal @ p["readout.W"][:, :-1]
        if self.network.hidden:
            credit = credit * (1 - z[..., :-1] ** 2)
            g["hidden.W"].addmm_(credit.flatten(0, 1).t(), f.flatten(0, 1))
            credit = credit @ p["hidden.W"][:, :-1]
        credit = credit * (1 - f[..., :-1] ** 2)
        # A complex credit is dL/d Re h + i dL/d Im h; back through a product it meets the other factor's conjugate.
        on_h = torch.view_as_complex(credit.unflatten(2, (-1, 2)).contiguous())
        back = d.decay.conj()
        for t in range(self.block - 1, 0, -1):
            on_h[t - 1] += on_h[t] * (back * arrays["keep"][t])
        enters = on_h[0] * (back * arrays["keep"][0])
        on_driven = torch.view_as_real(on_h * d.gain).flatten(2)
        g["unit.W"].addmm_(on_driven.flatten(0, 1).t(), x.flatten(0, 1))
        traced = (numbers["trace_W"].conj() * enters.unsqueeze(2)).sum(0)
        g["unit.W"].view(self.network.units, 2, -1).add_(torch.view_as_real(traced).transpose(1, 2))
        on_decay = (numbers["before"].conj() * on_h).sum((0, 1))
        on_gain = (driven.conj() * on_h).real.sum((0, 1))
        for name, slope in (("nu", d.by_nu), ("theta", d.by_theta)):
            traced = (numbers[f"trace_{name}"].conj() * enters).real.sum(0)
            g[f"unit.{name}"].add_((slope.conj() * on_decay).real).add_(traced)
        g["unit.nu"].addcmul_(d.gain_by_nu, on_gain)

    def _advance_if_full(self) -> None:
        """Moves the traces to the block's end, with the parameters that its steps were taken with, and begins another."""
        if not self._is_full:
            return
        arrays, numbers, d = self._arrays, self._complex, self._derived
        # What a number born at step t is multiplied by until the block's end, (block, streams, units).
        lasts = torch.ones_like(numbers["before"])
        for t in range(self.block - 1, 0, -1):
            lasts[t - 1] = lasts[t] * (d.decay * arrays["keep"][t])
        carried = lasts[0] * (d.decay * arrays["keep"][0])
        born_W = torch.einsum("tbn,tbd->bnd", lasts * d.gain, arrays["x"][:-1].to(lasts.dtype))
        born_nu = (lasts * (d.by_nu * numbers["before"] + d.gain_by_nu * numbers["driven"][:-1])).sum(0)
        born_theta = (lasts * (d.by_theta * numbers["before"])).sum(0)
        numbers["trace_W"].mul_(carried.unsqueeze(2)).add_(born_W)
        numbers["trace_nu"].mul_(carried).add_(born_nu)
        numbers["trace_theta"].mul_(carried).add_(born_theta)
        arrays["keep"].fill_(1)
        self._position = 0

    def check(self) -> None:
        """Raises NonFiniteError if a gradient met so far was NaN or infinite."""
        step = int(self._arrays["fault"])
        if step >= 0:
            raise NonFiniteError(f"gradient is not finite in the update after step {step}, summed over streams")

    def evaluator(self, *, streams: int | None = None, seed: int = 0) -> RTULearner:
        """A copy of the learned parameters with zero states that never learns; this learner is not touched."""
        other = RTULearner(
            self.network,
            optimizer=self.optimizer,
            block=self.block,
            streams=self.streams if streams is None else streams,
            seed=seed,
            device=self.device,
            dtype=self.dtype,
        )
        learned = self.learned
        for name, value in other.parameters.items():
            value.copy_(learned[name])
        other.learning = False
        return other

    def state_dict(self) -> dict[str, Tensor | int]:
        """Everything: parameters, gradient, optimiser, states and traces, clocks; flat, by name."""
        state: dict[str, Tensor | int] = {name: array.clone() for name, array in self._saved().items()}
        return state | {"clock": self.clock, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned, exactly, at a block's beginning or within.

        Raises ConfigError: if it is of a learner of other sizes. KeyError: if something is missing.
        """
        for name, mine in self._saved().items():
            if mine.shape != state[name].shape:
                there, here = tuple(state[name].shape), tuple(mine.shape)
                raise ConfigError(f"state of another learner: {name} has shape {there}, here {here}")
        for name, mine in self._saved().items():
            mine.copy_(state[name])
        self.clock, self._position = int(state["clock"]), int(state["position"])
        self._derived = self._derive()

    def _saved(self) -> dict[str, Tensor]:
        saved = {"flat": self.flat, "grad": self.grad}
        saved |= {f"optimizer.{name}": array for name, array in self._optim.items()}
        return saved | {f"learner.{name}": array for name, array in self._arrays.items()}
