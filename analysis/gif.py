"""Frames to a GIF: one palette, no dithering, whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sabsim.errors import ConfigError, StorageError

SLOWEST, FASTEST = 1, 50
"""Frames per second; viewers play anything faster at a tenth of it."""
HOLD = 2000
"""How long a frame stays that is held, in ms."""
_COLOURS = 255
"""One of 256 is left for "as before"."""
_EXACT = 96
"""Colours that are kept as they are."""

Picture = NDArray[np.uint8]


def duration_ms(fps: float) -> int:
    """How long a frame of a GIF stays, in ms: hundredths of a second are all that the format knows.

    Raises ConfigError: for a rate out of range.
    """
    if not SLOWEST <= fps <= FASTEST:
        raise ConfigError(f"fps = {fps:g}: must be between {SLOWEST} and {FASTEST} frames per second")
    return 10 * round(100 / fps)


def write_gif(
    path: Path, frames: Iterable[Picture], *, samples: Sequence[Picture], fps: float, held: Collection[int] = ()
) -> None:
    """Writes RGB ``frames``, all ``(height, width, 3)``, as a GIF that repeats for ever; a file that was there is replaced.

    Args: ``samples``: frames whose colours make the palette. ``fps``: frames per second. ``held``: numbers of frames that
    stay longer.

    Raises ConfigError: for a rate out of range. StorageError: if the disk refuses.
    """
    usual = duration_ms(fps)
    indexed = list(map(_Palette(samples), frames))
    durations = [HOLD if number in held else usual for number in range(len(indexed))]
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        indexed[0].save(
            temporary, "GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=True
        )
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"'{path}': {error.strerror or error}; free space or give another --out") from error
    finally:
        with contextlib.suppress(OSError):  # what was wrong is told already
            temporary.unlink(missing_ok=True)


def write_png(path: Path, frame: Picture) -> None:
    """Writes one frame, all its colours, as a PNG.

    Raises StorageError: if the disk refuses.
    """
    try:
        Image.fromarray(frame).save(path, "PNG", optimize=True)
    except OSError as error:
        raise StorageError(f"'{path}': {error.strerror or error}; free space or give another --out") from error


class _Palette:
    """The commonest colours of the samples as they are, for areas, and others that cover all the rest."""

    def __init__(self, samples: Sequence[Picture]) -> None:
        whole = np.concatenate(samples)
        codes, counts = np.unique(_codes(whole), return_counts=True)
        common = codes[np.argsort(-counts, kind="stable")[:_EXACT]]
        exact = np.stack([common >> 16, common >> 8 & 255, common & 255], 1)
        covering = Image.fromarray(whole).quantize(_COLOURS - _EXACT, Image.Quantize.MAXCOVERAGE).getpalette()
        self._colours = np.concatenate([exact, np.array(covering).reshape(-1, 3)])[:_COLOURS].astype(np.int32)
        # Of each of the 2^24 colours, once it was met, the nearest one here. Pillow's own search confuses neighbours.
        self._nearest = np.full(1 << 24, _COLOURS, dtype=np.uint8)

    def __call__(self, frame: Picture) -> Image.Image:
        """The frame in these colours."""
        codes = _codes(frame)
        found = self._nearest[codes]
        unmet = np.unique(codes[found == _COLOURS])
        if len(unmet):
            colours = np.stack([unmet >> 16, unmet >> 8 & 255, unmet & 255], 1)
            for part in np.array_split(np.arange(len(unmet)), len(unmet) // 4096 + 1):
                distance = ((colours[part, None] - self._colours) ** 2).sum(2)
                self._nearest[unmet[part]] = distance.argmin(1)
            found = self._nearest[codes]
        image = Image.fromarray(found)
        image.putpalette(self._colours.astype(np.uint8).tobytes())
        return image


def _codes(picture: Picture) -> NDArray[np.int32]:
    """Each colour as one number, ``(height, width)``."""
    red, green, blue = np.moveaxis(picture.astype(np.int32), 2, 0)
    return red << 16 | green << 8 | blue
