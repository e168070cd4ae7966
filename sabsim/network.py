"""The network: which pieces make it, and its parameters as views into one flat vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor

from .cells import CELLS, Cell, Views
from .errors import ConfigError
from .salience import SALIENCES, Salience

CellName = Literal["lstm", "gru", "rnn"]
SalienceName = Literal["cosine", "dot", "mlp", "affine", "tanh"]
SparsifyName = Literal["softmax", "relu", "normalised", "dense"]
StoresName = Literal["h_hat", "h"]
ReadoutName = Literal["summary", "weights"]
FeedsName = Literal["h", "h_hat"]


@dataclass(frozen=True, kw_only=True)
class Network:
    """The pieces of one step: h_hat = cell(x, h); a = salience(m, h_hat); a_tilde = sparsify(a); s; h = h_hat + s; y.

    ``d_in``, ``d_out``: sizes of input and output. ``hidden``: units n. ``stores``: what a microstate keeps, the
    provisional h_hat or h. ``readout``: y = W [h ; s] + b (``summary``) or W [h ; a_tilde] + b (``weights``, eq. 5).
    ``feeds``: what the next step's cell gets, h (eq. 1-5) or h_hat: what is recalled is then read out and goes no further.
    ``forget_bias``: the initial biases of the LSTM's forget gate (the GRU's update gate) are uniform in 0 .. this, and
    those of the LSTM's input gate are their negatives.
    ``input_scale``: W_x is initially uniform in +- this. With 1 and one-hot inputs even untrained states tell inputs apart,
    and recall learns without replay (docs/decisions.md).

    Raises ConfigError: for a size below 1 or an unknown name.
    """

    d_in: int
    d_out: int
    hidden: int = 128
    cell: CellName = "lstm"
    salience: SalienceName = "cosine"
    sparsify: SparsifyName = "softmax"
    stores: StoresName = "h_hat"
    readout: ReadoutName = "summary"
    feeds: FeedsName = "h"
    forget_bias: float = 2.0
    input_scale: float = 0.1

    def __post_init__(self) -> None:
        for name in ("d_in", "d_out", "hidden"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be at least 1")
        for name in ("forget_bias", "input_scale"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be 0 or more")
        choices = {
            "cell": CellName,
            "salience": SalienceName,
            "sparsify": SparsifyName,
            "stores": StoresName,
            "readout": ReadoutName,
            "feeds": FeedsName,
        }
        for name, kind in choices.items():
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{name} = {getattr(self, name)!r}: must be one of {', '.join(get_args(kind))}")


def views_of(flat: Tensor, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]) -> dict[str, Views]:
    """Views of a flat vector ``(size,)``, by room and name: one after the other, each of its shape."""
    views: dict[str, Views] = {}
    start = 0
    for room, named in shapes.items():
        views[room] = {}
        for name, shape in named.items():
            views[room][name] = flat[start : start + prod(shape)].view(shape)
            start += prod(shape)
    return views


class Parameters:
    """All parameters of a network in one flat vector, and their gradient in another, with views by room and name.

    ``recall``: whether there is a memory to read (salience parameters and the readout's second half exist).
    ``slots``: S, for per-slot biases and eq. 5's readout. ``encoder``: shapes by name of the parameters of a module before
    the cell, which come last; whoever has the module gives them values. ``flat`` and ``grad`` have shape ``(size,)``.
    """

    def __init__(
        self,
        network: Network,
        *,
        recall: bool,
        slots: int,
        dtype: torch.dtype,
        device: torch.device,
        encoder: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.network = network
        self.cell: Cell = CELLS[network.cell](network.d_in, network.hidden)
        self.salience: Salience | None = SALIENCES[network.salience](network.hidden, slots) if recall else None
        second = 0 if not recall else network.hidden if network.readout == "summary" else slots
        self.shapes: dict[str, dict[str, tuple[int, ...]]] = {
            "cell": self.cell.shapes(),
            "salience": self.salience.shapes() if self.salience else {},
            "readout": {"W": (network.d_out, network.hidden + second), "b": (network.d_out,)},
            "encoder": dict(encoder or {}),
        }
        size = sum(prod(shape) for room in self.shapes.values() for shape in room.values())
        self.flat = torch.zeros(size, dtype=dtype, device=device)
        self.grad = torch.zeros_like(self.flat)
        self.value = views_of(self.flat, self.shapes)
        self.gradient = views_of(self.grad, self.shapes)
        self.value["cell"] = self.cell.with_views(self.value["cell"])

    def salience_part(self) -> Tensor | None:
        """The salience's parameters as one view of ``flat``; None without recall."""
        sizes = {room: sum(prod(shape) for shape in shapes.values()) for room, shapes in self.shapes.items()}
        return self.flat[sizes["cell"] : sizes["cell"] + sizes["salience"]] if self.salience else None

    def initialise(self, seed: int) -> None:
        """Draws every parameter, on the CPU in float64 so that one seed means one network on any device and dtype."""
        generator = torch.Generator().manual_seed(seed)
        draft = torch.zeros(self.flat.shape, dtype=torch.float64)
        views = views_of(draft, self.shapes)
        self.cell.initialise(views["cell"], generator, self.network.forget_bias, self.network.input_scale)
        if self.salience:
            self.salience.initialise(views["salience"], generator)
        bound = self.network.hidden**-0.5
        views["readout"]["W"].uniform_(-bound, bound, generator=generator)
        self.flat.copy_(draft)

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of ``flat`` under the paper's names: cell.W_x, cell.W_h, salience.*, readout.W_h, readout.W_s or W_a.

        Those of an encoder are called encoder.* after the module's own names.
        """
        n, d = self.network.hidden, self.network.d_in
        rooms = views_of(flat, self.shapes)
        names = {"cell.W_x": rooms["cell"]["W"][:, :d], "cell.W_h": rooms["cell"]["W"][:, d:]}
        names |= {f"cell.{name}": view for name, view in rooms["cell"].items() if name != "W"}
        names |= {f"salience.{name}": view for name, view in rooms["salience"].items()}
        names["readout.W_h"] = rooms["readout"]["W"][:, :n]
        if self.salience:
            second = "readout.W_s" if self.network.readout == "summary" else "readout.W_a"
            names[second] = rooms["readout"]["W"][:, n:]
        names["readout.b"] = rooms["readout"]["b"]
        return names | {f"encoder.{name}": view for name, view in rooms["encoder"].items()}
