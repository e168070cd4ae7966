"""The parameters of a recurrent network with self-attention, as views into one flat vector."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from ..cells import CELLS, Cell
from ..network import Network, views_of


class AttentiveParameters:
    """Cell, attention and readout in one flat vector, and their gradient in another, with views by room and name.

    ``attention``: V_a (query) and U_a (key), (n, n), and v, (n,). ``readout``: W, (d_out, n), and b. ``flat`` and ``grad``
    have shape ``(size,)``. Of the network the salience, what is stored and read out are not used.
    """

    def __init__(self, network: Network, *, dtype: torch.dtype, device: torch.device) -> None:
        self.network, n = network, network.hidden
        self.cell: Cell = CELLS[network.cell](network.d_in, n)
        self.shapes: Mapping[str, Mapping[str, tuple[int, ...]]] = {
            "cell": self.cell.shapes(),
            "attention": {"V_a": (n, n), "U_a": (n, n), "v": (n,)},
            "readout": {"W": (network.d_out, n), "b": (network.d_out,)},
        }
        size = sum(prod(shape) for room in self.shapes.values() for shape in room.values())
        self.flat = torch.zeros(size, dtype=dtype, device=device)
        self.grad = torch.zeros_like(self.flat)
        self.value, self.gradient = views_of(self.flat, self.shapes), views_of(self.grad, self.shapes)
        self.value["cell"] = self.cell.with_views(self.value["cell"])

    def attention_part(self) -> Tensor:
        """The attention's parameters as one view of ``flat``."""
        first, size = (sum(prod(shape) for shape in self.shapes[room].values()) for room in ("cell", "attention"))
        return self.flat[first : first + size]

    def initialise(self, seed: int) -> None:
        """Draws every parameter, on the CPU in float64 so that one seed means one network on any device and dtype.

        Cell and readout as in ``Parameters``; V_a and U_a uniform in +-1/sqrt(n) and v normal with variance 2/(n + 1), as
        in the released code of Kerg et al.
        """
        network, generator = self.network, torch.Generator().manual_seed(seed)
        draft = torch.zeros(self.flat.shape, dtype=torch.float64)
        views, bound = views_of(draft, self.shapes), network.hidden**-0.5
        self.cell.initialise(views["cell"], generator, network.forget_bias, network.input_scale)
        for name in ("V_a", "U_a"):
            views["attention"][name].uniform_(-bound, bound, generator=generator)
        views["attention"]["v"].normal_(0, (2 / (network.hidden + 1)) ** 0.5, generator=generator)
        views["readout"]["W"].uniform_(-bound, bound, generator=generator)
        self.flat.copy_(draft)

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of ``flat`` by name: cell.W_x, cell.W_h, cell.b, attention.V_a, .U_a, .v, readout.W_h, readout.b."""
        rooms, d = views_of(flat, self.shapes), self.network.d_in
        names = {"cell.W_x": rooms["cell"]["W"][:, :d], "cell.W_h": rooms["cell"]["W"][:, d:]}
        names |= {f"cell.{name}": view for name, view in rooms["cell"].items() if name != "W"}
        names |= {f"attention.{name}": view for name, view in rooms["attention"].items()}
        return names | {"readout.W_h": rooms["readout"]["W"], "readout.b": rooms["readout"]["b"]}
