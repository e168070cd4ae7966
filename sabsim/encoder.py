"""An encoder before the cell: a torch module from observations to inputs x, trained by the credit on its inputs.

The streaming learner differentiates itself by hand, one window at a time; an encoder is an ordinary module at its edge.
What is kept of the past is the *observation*, in its own type and size (a byte where x has a float), for the steps of the
chain and for those of each microstate's segment. Before a replay these are encoded again with today's parameters, chain
and segments in one batch, and when both have been walked back the batch's one backward pass carries the credit on x into
the module's parameters, which lie in the learner's flat vector: one clip and one optimiser step for all.

Nothing of autograd outlives an update. What is exact: a segment's inputs are those of today's encoder, as the rest of the
segment is that of today's network. The chain's inputs are those that were met; with ``update_every`` = ``k_trunc`` today's
encoder made them, with less they are at most ``k_trunc`` steps old, as the chain's gates are.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from .errors import ConfigError
from .network import Parameters


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A module that turns observations ``(rows, *shape)`` of type ``dtype`` into inputs ``(rows, d_in)``.

    The module must treat its rows one by one and return the learner's own float type; it is used as in evaluation (no
    dropout) and must not change its buffers. Learners train copies of it, which begin with its parameters.

    Raises ConfigError: for an empty shape, or a module without parameters.
    """

    module: nn.Module
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.uint8

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise ConfigError(f"encoder: shape = {self.shape}: must have sizes of at least 1")
        if next(self.module.parameters(), None) is None:
            raise ConfigError("encoder: module has no parameters: encode before step instead")

    def blank(self, device: torch.device) -> Tensor:
        """An observation of zeros, flat, ``(numbers,)``."""
        return torch.zeros(prod(self.shape), dtype=self.dtype, device=device)

    def copy(self, d_in: int, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """A copy of the module for one learner. Raises ConfigError: if what it returns is no input of size ``d_in``."""
        module = deepcopy(self.module).to(dtype=dtype, device=device).eval()
        with torch.no_grad():
            x = module(self.blank(device).expand(2, -1).unflatten(1, self.shape))
        if x.shape != (2, d_in) or x.dtype is not dtype:
            raise ConfigError(
                f"encoder: turns 2 observations into {tuple(x.shape)} {x.dtype}: must be (2, d_in) = {2, d_in} {dtype}"
            )
        return module


class Encoding:
    """The encoder of one learner at work.

    Args: ``module``: a copy made for this learner; its parameters become views of the learner's flat vector.
    ``chain`` (k_trunc, B, numbers): where the observations of the chain are, a view that stays. ``segments``: at most so
    many are replayed in an update.

    ``credit`` (k_trunc (B + segments), d_in): the credit on what is encoded again, the chain's steps before the segments',
    each step by step; the backward passes write it.
    """

    def __init__(
        self, encoder: Encoder, module: nn.Module, parameters: Parameters, *, chain: Tensor, segments: int
    ) -> None:
        self.module, self.shape, self.dtype = module, encoder.shape, encoder.dtype
        self._chain = chain
        self._x: Tensor | None = None
        self.steps, self.streams, self.d_in = *chain.shape[:2], parameters.network.d_in
        self.credit = parameters.flat.new_zeros(self.steps * (self.streams + segments), self.d_in)
        for name, parameter in module.named_parameters():
            view = parameters.value["encoder"][name]
            view.copy_(parameter.data)
            parameter.data, parameter.grad = view, parameters.gradient["encoder"][name]

    @property
    def arrays(self) -> dict[str, Tensor]:
        """The module's buffers by name, for saved states."""
        return dict(self.module.named_buffers())

    @property
    def chain_credit(self) -> Tensor:
        """Where the credit on the chain's inputs goes, ``(k_trunc, B, d_in)``."""
        return self.credit[: self.steps * self.streams].view(self.steps, self.streams, self.d_in)

    def segment_credit(self, count: int) -> Tensor:
        """Where the credit on the inputs of ``count`` segments goes, ``(k_trunc, count, d_in)``."""
        begin = self.steps * self.streams
        return self.credit[begin : begin + self.steps * count].view(self.steps, count, self.d_in)

    def encode(self, observation: Tensor) -> Tensor:
        """x ``(B, d_in)`` of the observations ``(B, *shape)`` of one step.

        Raises ConfigError: for observations of another shape or type.
        """
        if observation.shape != (self.streams, *self.shape) or observation.dtype is not self.dtype:
            found, wanted = tuple(observation.shape), (self.streams, *self.shape)
            raise ConfigError(
                f"observation is {found} {observation.dtype}: must be (streams, *shape) = {wanted} {self.dtype}"
            )
        with torch.no_grad():
            return self.module(observation)

    def again(self, segments: Tensor | None = None) -> Tensor:
        """Encodes the chain and ``segments`` (count, k_trunc, numbers) with today's parameters, in one batch.

        Returns the segments' inputs, ``(k_trunc, count, d_in)``, as constants.
        """
        observed = self._chain.flatten(0, 1)
        if segments is not None:
            observed = torch.cat([observed, segments.transpose(0, 1).flatten(0, 1)])
        with torch.enable_grad():
            self._x = self.module(observed.unflatten(1, self.shape))
        count = 0 if segments is None else segments.shape[0]
        return self._x.detach()[self.steps * self.streams :].reshape(self.steps, count, self.d_in)

    def learn(self) -> None:
        """Adds the gradient of the encoder's parameters, from the credit that the backward passes have left."""
        if self._x is None:
            self.again()
        assert self._x is not None
        torch.autograd.backward(self._x, self.credit[: self._x.shape[0]])
        self._x = None
