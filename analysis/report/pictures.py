"""Pictures as a page can hold them: frames as WebP, figures as SVG, both as data URLs, so that nothing else is loaded."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from ..filmed import Picture
from ..style import styled

MOST_BYTES = 1_500_000
"""Of all frames together; larger ones are made smaller until they fit."""
_SIDE = 288
"""Longest side of a frame at first, in pixels."""
_LEAST_SIDE = 48
_QUALITY = 82


def embedded_frames(frames: Sequence[Picture], *, most: int = MOST_BYTES) -> tuple[list[str], list[int]]:
    """Data URLs of the frames that differ, and for each step the number of its frame.

    They are halved in size until together they take at most ``most`` bytes, or are as small as can still be seen.
    """
    first_seen: dict[bytes, int] = {}
    which = [first_seen.setdefault(frame.tobytes(), len(first_seen)) for frame in frames]
    different = [frames[which.index(number)] for number in range(len(first_seen))]
    side = _SIDE
    urls = [_webp(frame, side) for frame in different]
    while sum(map(len, urls)) > most and side > _LEAST_SIDE:
        side //= 2
        urls = [_webp(frame, side) for frame in different]
    return urls, which


def embedded_figure(figure: Figure | Path) -> str:
    """A data URL of the figure's SVG. As an image it can neither run scripts nor load anything, whatever is written in it.

    Raises OSError: if the file cannot be read.
    """
    if isinstance(figure, Path):
        svg = figure.read_bytes()
    else:
        target = io.BytesIO()
        with styled():
            figure.savefig(target, format="svg", metadata={"Date": None})
        svg = target.getvalue()
    return _url("image/svg+xml", svg)


def _webp(frame: Picture, side: int) -> str:
    image = Image.fromarray(frame)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    image.save(target, "WEBP", quality=_QUALITY, method=2)
    return _url("image/webp", target.getvalue())


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
