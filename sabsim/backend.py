"""What computes: torch, the readable reference, or the native kernel, which serves the default combination of pieces.

A backend makes the parts of a learner; those of the native one have the same methods, the same buffers and the same
state, and equal the torch ones to rounding.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from .credit import CreditRule
from .errors import ConfigError
from .exploration import Exploration
from .familiar import FamiliarRange
from .macrostate import Macrostate
from .network import Network, Parameters
from .offering import Place, Score, place_block, score_block
from .optim import Optimizer, OptimState
from .replay import Replay
from .usual import UsualInput
from .watch import Watch
from .window import Window

BackendName = Literal["auto", "torch", "native"]
Update = Callable[[Tensor, Tensor, OptimState, Tensor | None, Tensor | None, Tensor | None], Tensor]
"""``Optimizer.update``: flat, grad, state, proceed, decaying, counts -> whether the gradient was finite."""


class Backend:
    """Makes the parts of one learner, here those of torch, which serve every combination on every device.

    Each attribute is called as the class whose instance it makes; ``score_block`` and ``place_block`` as the
    functions of these names.
    """

    name: BackendName = "torch"

    def __init__(self) -> None:
        self.window: Callable[..., Window] = Window
        self.macrostate: Callable[..., Macrostate] = Macrostate
        self.replay: Callable[..., Replay] = Replay
        self.usual: Callable[..., UsualInput] = UsualInput
        self.familiar: Callable[..., FamiliarRange] = FamiliarRange
        self.watch: Callable[..., Watch] = Watch
        self.exploration: Callable[..., Exploration] = Exploration
        self.score_block: Score = score_block
        self.place_block: Place = place_block

    def update(self, optimizer: Optimizer) -> Update:
        """What does an update as ``optimizer`` describes."""
        return optimizer.update


def native_lacks(network: Network, credit: CreditRule, device: torch.device) -> str | None:
    """The first of the settings that the native backend does not serve; None if it serves them all."""
    if device.type != "cpu":
        return f"device = {str(device)!r}: it runs on the CPU"
    served = {"cell": ("lstm",)}
    if credit.recalls:
        served |= {"salience": ("cosine",), "sparsify": ("softmax",), "readout": ("summary",)}
    for name, allowed in served.items():
        if getattr(network, name) not in allowed:
            return f"{name} = {getattr(network, name)!r}: it serves {name} {' or '.join(allowed)}"
    return None


def library_for(name: str, lacks: str | None, dtype: torch.dtype) -> ctypes.CDLL | None:
    """The native library for a learner that asks for backend ``name``; None: torch computes.

    Args:
        lacks: what ``native_lacks`` says of it.

    Raises ConfigError: for an unknown name, or "native" where it cannot serve.
    """
    if name not in get_args(BackendName):
        raise ConfigError(f"backend = {name!r}: must be one of {', '.join(get_args(BackendName))}")
    if name == "torch" or (name == "auto" and lacks):
        return None
    if lacks:
        raise ConfigError(f"backend = 'native' cannot compute {lacks}; use backend torch or auto")
    from .native import CannotCompile, library_or_none, load_library

    if name == "auto":
        return library_or_none(dtype)
    try:
        return load_library(dtype)
    except CannotCompile as error:
        raise ConfigError(f"backend = 'native' cannot be compiled: {error}; use backend torch or auto") from error


def choose_backend(name: str, parameters: Parameters, credit: CreditRule) -> Backend:
    """The backend for one streaming learner. Raises ConfigError: as ``library_for``."""
    flat = parameters.flat
    library = library_for(name, native_lacks(parameters.network, credit, flat.device), flat.dtype)
    if library is None:
        return Backend()
    from .native import NativeBackend

    return NativeBackend(library, parameters)
