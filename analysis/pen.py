"""Words and pictures put straight onto a frame: far faster than through a figure, and in the figures' font."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .filmed import Picture


class Pen:
    """Writes on one frame after the other. Places are in pixels of a design that ``scale`` brings to the frame's."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._fonts: dict[tuple[float, bool], ImageFont.FreeTypeFont] = {}
        self._image = Image.new("RGB", (1, 1))
        self._draw = ImageDraw.Draw(self._image)

    def begin(self, rgba: NDArray[np.uint8]) -> None:
        """Takes a copy of a frame ``(height, width, 4)``."""
        self._image = Image.fromarray(rgba[..., :3])
        self._draw = ImageDraw.Draw(self._image)

    def done(self) -> Picture:
        """The frame with all that was put on it."""
        return np.array(self._image)

    def write(
        self, x: float, y: float, words: str, size: float, colour: str, *, bold: bool = False, anchor: str = "ls"
    ) -> None:
        """Words with their first baseline at ``y``; ``anchor`` as Pillow names them, "rs" ends at ``x``."""
        scale, font = self._scale, self._font(size, bold)
        for i, line in enumerate(words.split("\n")):
            self._draw.text((x * scale, (y + 1.2 * size * i) * scale), line, fill=colour, font=font, anchor=anchor)

    def show(self, picture: Picture, x: float, y: float, width: float, height: float, colour: str, line: float) -> float:
        """The picture as large as it fits at ``(x, y)``, with a frame around it; returns where it ends below."""
        scale = self._scale
        ratio = min(width / picture.shape[1], height / picture.shape[0])
        size = (round(picture.shape[1] * ratio * scale), round(picture.shape[0] * ratio * scale))
        left, top, thick = round(x * scale), round(y * scale), max(1, round(line * scale))
        shown = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
        self._image.paste(shown, (left, top))
        box = (left - thick, top - thick, left + size[0] + thick - 1, top + size[1] + thick - 1)
        self._draw.rectangle(box, outline=colour, width=thick)
        return y + size[1] / scale

    def _font(self, size: float, bold: bool) -> ImageFont.FreeTypeFont:
        if (size, bold) not in self._fonts:
            path = self._bold if bold else self._plain
            self._fonts[size, bold] = ImageFont.truetype(path, size * self._scale)
        return self._fonts[size, bold]

    @cached_property
    def _plain(self) -> str:
        return findfont(FontProperties(family="DejaVu Sans"))  # matplotlib brings it

    @cached_property
    def _bold(self) -> str:
        return findfont(FontProperties(family="DejaVu Sans", weight="bold"))
