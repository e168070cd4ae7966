"""The encoder of pictures: convolutions over what an observation shows, beside the numbers that are no picture."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sabsim.choices import choose
from sabsim.encoder import Encoder
from sabsim.errors import ConfigError

ENCODERS = ("none", "cnn")
"""What can stand between an observation and the learner's cell."""
SMALLEST = 4
"""Places a side of a picture, at least."""
_CONVOLUTIONS = (
    (36, ((32, 8, 4), (64, 4, 2), (64, 3, 1))),  # of Mnih et al. 2015 (doi 10.1038/nature14236)
    (16, ((32, 4, 2), (64, 3, 2), (64, 3, 1))),
    (SMALLEST, ((16, 2, 1), (32, 2, 1), (64, 2, 1))),
)
"""For pictures of at least so many places a side: channels, width and stride of the three convolutions."""


class Picture(NamedTuple):
    """Where a picture lies in a row of numbers.

    ``start``: the first of them; ``shape``: ``(high, wide, channels)`` or ``(channels, high, wide)``.
    """

    start: int
    shape: tuple[int, ...]

    @property
    def channels_first(self) -> bool:
        """Whether the first axis is that of the channels: it is shorter than both others."""
        return self.shape[0] < min(self.shape[1:])

    @property
    def channels(self) -> int:
        """Numbers of a place."""
        return self.shape[0 if self.channels_first else 2]

    @property
    def sides(self) -> tuple[int, ...]:
        """Places from top to bottom and from left to right."""
        return self.shape[1:] if self.channels_first else self.shape[:2]

    @property
    def end(self) -> int:
        """Where the numbers after it begin."""
        return self.start + prod(self.shape)


class PictureEncoder(nn.Module):
    """x = [layer norm(W conv(picture) + b) for each picture ; the other numbers], of rows of numbers.

    Three convolutions with ReLU a picture, without padding. The normalisation (Ba, Kiros & Hinton 2016, arXiv 1607.06450)
    gives features the size that the cell's inputs have otherwise.

    Args: ``size``: numbers of a row. ``pictures``: where they are in it. ``features``: numbers that a picture becomes.
    ``width`` is the size of x.
    """

    rest: Tensor

    def __init__(self, size: int, pictures: Sequence[Picture], features: int) -> None:
        super().__init__()
        self.pictures = tuple(pictures)
        seen = torch.zeros(size, dtype=torch.bool)
        for picture in pictures:
            seen[picture.start : picture.end] = True
        self.register_buffer("rest", (~seen).nonzero().flatten())
        self.layers = nn.ModuleList(_layers(picture, features) for picture in pictures)
        self.width = features * len(self.pictures) + len(self.rest)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows ``(rows, size)`` -> x ``(rows, width)``, of the parameters' type."""
        rows = rows.to(next(self.parameters()).dtype)
        parts = []
        for picture, layers in zip(self.pictures, self.layers, strict=True):
            shown = rows[:, picture.start : picture.end].unflatten(1, picture.shape)
            parts.append(layers(shown if picture.channels_first else shown.movedim(3, 1)))
        return torch.cat([*parts, rows.index_select(1, self.rest)], 1)


def build_encoder(name: str, *, size: int, pictures: Sequence[Picture], features: int, seed: int) -> Encoder | None:
    """The encoder of this name for rows of ``size`` numbers, its parameters drawn with ``seed``; None for ``none``.

    Raises ConfigError: for a name that there is not, or no picture in what is seen.
    """
    if choose("encoder", name, ENCODERS) == "none":
        return None
    if not pictures:
        raise ConfigError("encoder = 'cnn': the observation shows no picture (a Box of three axes); leave it out")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = PictureEncoder(size, pictures, features)
    return Encoder(module=module, shape=(size,), dtype=torch.float32)


def width_of(encoder: Encoder | None, size: int) -> int:
    """The numbers that the cell gets of rows of ``size``."""
    return size if encoder is None else int(encoder.module.width)  # type: ignore[arg-type]


def _layers(picture: Picture, features: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels, sides = picture.channels, picture.sides
    for out, width, stride in next(found for least, found in _CONVOLUTIONS if min(sides) >= least):
        layers += [nn.Conv2d(channels, out, width, stride), nn.ReLU()]
        channels, sides = out, tuple((side - width) // stride + 1 for side in sides)
    layers += [nn.Flatten(), nn.Linear(channels * prod(sides), features)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            # With torch's own weights half as much of what is shown is left beside the biases.
            nn.init.orthogonal_(layer.weight, 2**0.5)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers, nn.LayerNorm(features))
