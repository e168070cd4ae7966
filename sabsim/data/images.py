"""Images with a class each: MNIST from its idx files, or the 8x8 digits that scikit-learn brings along."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sabsim.data.places import locate
from sabsim.errors import ConfigError, DataError

SOURCES = ("digits", "mnist")
"""The images there are, by name."""

CLASSES = 10

_VALIDATION = 12
"""One in so many training images is for validation, the last ones: 5,000 of MNIST's 60,000."""

_DIGITS_HELD_OUT = 300
"""Of the 1,797 small digits, images for validation and for the test each: the last 600."""

_UNSIGNED_BYTES = 0x08


@dataclass(frozen=True)
class Images:
    """Images in three parts, named train, validation and test.

    `name`: what results call them. `pixels`: by part, `(images, height * width)` uint8, row by row. `labels`: by part,
    `(images,)` uint8. `shape`: height and width. `brightest`: the greatest value that a pixel can have.
    """

    name: str
    pixels: dict[str, NDArray[np.uint8]]
    labels: dict[str, NDArray[np.uint8]]
    shape: tuple[int, int]
    brightest: int


@lru_cache(maxsize=2)
def read_images(source: str, data: str | None = None) -> Images:
    """The images `source`, one of `SOURCES`.

    Arguments:
        data: folder of data sets, as for `roots`

    Raises:
        ConfigError: an unknown name, or digits without scikit-learn
        DataError: a file is missing, truncated or altered
    """
    if source == "mnist":
        return _mnist(data)
    if source == "digits":
        return _digits()
    raise ConfigError(f"images = {source!r}: must be one of {', '.join(SOURCES)}")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of unsigned bytes from a gzipped idx file, of the shape that its header says.

    Format: two zero bytes, the type, the number of dimensions, each size as four bytes, big-endian; then the data.

    Raises:
        DataError: not such a file, or not all of one
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"'{path}': cannot be unpacked ({error}); it is truncated or altered") from error
    if len(raw) < 4 or raw[:3] != bytes([0, 0, _UNSIGNED_BYTES]) or len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"'{path}': is not an idx file of unsigned bytes")
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    array = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3])
    if len(array) != prod(shape):
        raise DataError(f"'{path}': holds {len(array):,} bytes of data, but its header says {prod(shape):,}")
    return array.reshape(shape)


def _mnist(data: str | None) -> Images:
    found = locate("mnist", data)
    pixels, labels, test_pixels, test_labels = (read_idx(path) for path in found.paths)
    train = len(pixels) - len(pixels) // _VALIDATION
    flat = pixels.reshape(len(pixels), -1)
    return Images(
        name=found.label,
        pixels={"train": flat[:train], "validation": flat[train:], "test": test_pixels.reshape(len(test_pixels), -1)},
        labels={"train": labels[:train], "validation": labels[train:], "test": test_labels},
        shape=(pixels.shape[1], pixels.shape[2]),
        brightest=255,
    )


def _digits() -> Images:
    """The test part of UCI's optdigits, as scikit-learn bundles it."""
    try:
        # Here and not above: scikit-learn is large, and an extra.
        from sklearn.datasets import load_digits
    except ImportError:
        raise ConfigError("images = 'digits': scikit-learn has them; pip install 'sabsim[digits]'") from None
    bunch = load_digits()
    pixels, labels = bunch.data.astype(np.uint8), bunch.target.astype(np.uint8)
    ends = [len(pixels) - 2 * _DIGITS_HELD_OUT, len(pixels) - _DIGITS_HELD_OUT]
    names = ("train", "validation", "test")
    return Images(
        name="digits-8x8",
        pixels=dict(zip(names, np.split(pixels, ends), strict=True)),
        labels=dict(zip(names, np.split(labels, ends), strict=True)),
        shape=(8, 8),
        brightest=16,
    )
