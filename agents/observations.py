"""From what an environment shows to numbers for the learner: any Box, Discrete, Dict, Tuple or text, made one flat row."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sabsim.errors import ConfigError

from .pictures import SMALLEST, Picture

Row = NDArray[np.float32]
Writer = Callable[[Any, Row], None]

WORDS = 32
"""Numbers that a text becomes: each of its words is counted at one of them, found by a checksum of the word."""
LARGEST, LARGEST_ENCODED = 4096, 65536
"""Numbers of an observation at most; the latter where an encoder makes less of them."""


class Translator:
    """Writes observations of ``space`` into rows of ``size`` float32.

    Box: its numbers. Discrete, MultiDiscrete, MultiBinary: noughts and ones. Text (MiniGrid's missions among it): how often
    each word occurs, words sharing ``WORDS`` places by checksum. Dict and Tuple: their parts, a Dict's by sorted key.

    ``pictures``: where the boxes of three axes are, if they are large enough for an encoder.

    Raises ConfigError: for a space of another kind, or of more than ``largest`` numbers.
    """

    def __init__(self, space: spaces.Space[Any], *, largest: int = LARGEST) -> None:
        self.size, self._write = _translate(space, "observation space")
        self.pictures = _pictures(space, 0)
        if self.size > largest:
            mend = "--encoder cnn, or a wrapper" if self.pictures and self.size <= LARGEST_ENCODED else "a wrapper"
            raise ConfigError(
                f"observation space {_short(space)}: {self.size} numbers, at most {largest} are taken; use {mend} that "
                "shows less (MiniGrid: the symbolic view, not RGB)"
            )

    def write(self, observation: Any, row: Row) -> None:
        """Fills ``row`` (size,) with what ``observation`` says."""
        self._write(observation, row)


def _short(space: object) -> str:
    text = str(space)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _translate(space: spaces.Space[Any], where: str) -> tuple[int, Writer]:
    if isinstance(space, spaces.Box):
        return prod(space.shape), _numbers
    if isinstance(space, spaces.Discrete):
        return int(space.n), _one_hot([int(space.n)], [int(space.start)])
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum()), _one_hot(space.nvec.ravel().tolist(), space.start.ravel().tolist())
    if isinstance(space, spaces.MultiBinary):
        return prod(space.shape), _numbers
    if isinstance(space, spaces.Dict):
        return _parts([(key, *_translate(space[key], f"{where}[{key!r}]")) for key in sorted(space.spaces)])
    if isinstance(space, spaces.Tuple):
        return _parts([(i, *_translate(part, f"{where}[{i}]")) for i, part in enumerate(space.spaces)])
    # MiniGrid's missions are sentences in a space class of its own, which samples str.
    if isinstance(space, spaces.Text) or isinstance(space.sample(), str):
        return WORDS, _words
    raise ConfigError(f"{where} {_short(space)}: must be a Box, Discrete, MultiDiscrete, MultiBinary, text, Dict or Tuple")


def _pictures(space: spaces.Space[Any], start: int) -> list[Picture]:
    """Those of ``space``, whose first number is at ``start``; in the order in which it is translated."""
    if isinstance(space, spaces.Box) and len(space.shape) == 3:
        picture = Picture(start, space.shape)
        return [picture] if min(picture.sides) >= SMALLEST else []
    found: list[Picture] = []
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = [space[key] for key in sorted(space.spaces)] if isinstance(space, spaces.Dict) else space.spaces
        for part in parts:
            found += _pictures(part, start)
            start += _translate(part, "")[0]
    return found


def _numbers(observation: Any, row: Row) -> None:
    row[:] = np.asarray(observation).ravel()


def _one_hot(sizes: list[int], starts: list[int]) -> Writer:
    shifts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) - np.asarray(starts)

    def write(observation: Any, row: Row) -> None:
        row[:] = 0
        row[np.asarray(observation, dtype=np.int64).ravel() + shifts] = 1

    return write


def _words(observation: Any, row: Row) -> None:
    row[:] = 0
    for word in re.findall(r"\w+", observation.lower()):
        row[zlib.crc32(word.encode()) % WORDS] += 1


def _parts(parts: list[tuple[Any, int, Writer]]) -> tuple[int, Writer]:
    ends = np.cumsum([size for _, size, _ in parts]).tolist()
    places = [(key, slice(end - size, end), write) for (key, size, write), end in zip(parts, ends, strict=True)]

    def write_all(observation: Any, row: Row) -> None:
        for key, place, write in places:
            write(observation[key], row[place])

    return ends[-1] if ends else 0, write_all
