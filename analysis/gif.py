"""Frames to a GIF: one palette, no dithering, whole or not at all."""

from __future__ import annotations

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
    palette = _palette(samples)
    indexed = [_indexed(frame, palette) for frame in frames]
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
        temporary.unlink(missing_ok=True)


def write_png(path: Path, frame: Picture) -> None:
    """Writes one frame, all its colours, as a PNG.

    Raises StorageError: if the disk refuses.
    """
    try:
        Image.fromarray(frame).save(path, "PNG", optimize=True)
    except OSError as error:
        raise StorageError(f"'{path}': {error.strerror or error}; free space or give another --out") from error


def _palette(samples: Sequence[Picture]) -> Image.Image:
    """An image with the palette that suits the samples: rare colours, such as thin lines have, count as well."""
    whole = Image.fromarray(np.concatenate(samples))
    return whole.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE)


def _indexed(frame: Picture, palette: Image.Image) -> Image.Image:
    return Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
