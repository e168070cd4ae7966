"""Sizes and parameters of recurrent trace units; what they compute is in ``rtu.py``."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi, prod

import torch
from torch import Tensor

from sabsim.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RTU:
    """Sizes and initial spread of recurrent trace units.

    ``d_in``, ``d_out``: sizes of input and output. ``units``: complex states n, two real numbers each. ``hidden``: units of
    a layer between them and the output, 0 for none. r^2 is initially uniform in ``r_min``^2 .. ``r_max``^2 (a unit forgets
    over 1 / (1 - r) steps) and phi in 0 .. ``max_phase``.

    Parameters: 2 n + 2 n (d_in + 1) and, of the readout, d_out (2 n + 1), or hidden (2 n + 1) + d_out (hidden + 1).

    Raises ConfigError: for a value out of range.
    """

    d_in: int
    d_out: int
    units: int = 128
    hidden: int = 64
    r_min: float = 0.9
    r_max: float = 0.9999
    max_phase: float = 2 * pi

    def __post_init__(self) -> None:
        for name, least in (("d_in", 1), ("d_out", 1), ("units", 1), ("hidden", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be at least {least}")
        if not 0 < self.r_min < self.r_max < 1:
            raise ConfigError(f"r_min, r_max = {self.r_min}, {self.r_max}: must be 0 < r_min < r_max < 1")
        if not 0 < self.max_phase <= 2 * pi:
            raise ConfigError(f"max_phase = {self.max_phase}: must be more than 0 and at most 2 pi")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters by name; rows 2 k and 2 k + 1 of ``unit.W`` are real and imaginary part, its last column b."""
        wide = 2 * self.units
        shapes: dict[str, tuple[int, ...]] = {
            "unit.nu": (self.units,), "unit.theta": (self.units,), "unit.W": (wide, self.d_in + 1),
        }  # fmt: skip
        if self.hidden:
            shapes["hidden.W"] = (self.hidden, wide + 1)
        return {**shapes, "readout.W": (self.d_out, (self.hidden or wide) + 1)}


class RTUParameters:
    """All parameters in one flat vector, and their gradient in another, with views by name: see ``RTU.shapes``.

    ``flat`` and ``grad`` have shape ``(size,)``; ``value`` and ``gradient`` are their views.
    """

    def __init__(self, network: RTU, *, dtype: torch.dtype, device: torch.device) -> None:
        self.network = network
        size = sum(prod(shape) for shape in network.shapes().values())
        self.flat = torch.zeros(size, dtype=dtype, device=device)
        self.grad = torch.zeros_like(self.flat)
        self.value, self.gradient = self.named(self.flat), self.named(self.grad)

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of ``flat`` by name."""
        shapes = self.network.shapes()
        parts = flat.split([prod(shape) for shape in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def initialise(self, seed: int) -> None:
        """Draws every parameter, on the CPU in float64 so that one seed means one network on any device and dtype."""
        network, generator = self.network, torch.Generator().manual_seed(seed)
        draft = torch.zeros(self.flat.shape, dtype=torch.float64)
        p = self.named(draft)
        square = p["unit.nu"].uniform_(network.r_min**2, network.r_max**2, generator=generator)
        square.log_().mul_(-0.5).log_()
        p["unit.theta"].uniform_(1e-6, 1.0, generator=generator).log_().add_(log(network.max_phase))
        for name in ("unit.W", "hidden.W", "readout.W"):
            if name in p:
                bound = (p[name].shape[1] - 1) ** -0.5
                p[name][:, :-1].uniform_(-bound, bound, generator=generator)
        self.flat.copy_(draft)
