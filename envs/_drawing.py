"""Drawing on numpy arrays: what the environments' pictures need, and no more.

Shapes are drawn at three times the size and averaged, which smooths their edges. Coordinates are pixels of the
finished picture, x to the right and y downwards; a colour is (red, green, blue), 0 to 255.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Point = tuple[float, float]

PAPER: Colour = (247, 244, 237)
FLOOR: Colour = (255, 255, 255)
WALL: Colour = (84, 92, 108)
INK: Colour = (45, 52, 66)
FAINT: Colour = (214, 210, 200)
ANIMAL: Colour = (142, 104, 82)
WATER: Colour = (64, 140, 210)
GOLD: Colour = (236, 178, 46)
GREEN: Colour = (88, 160, 98)
RED: Colour = (206, 88, 78)
VIOLET: Colour = (126, 104, 178)

# Each glyph is seven rows of five pixels, one digit of base 32 a row.
GLYPHS = {
    "A": "ehhvhhh", "B": "uhhuhhu", "C": "ehggghe", "D": "uhhhhhu", "E": "vgguggv", "F": "vgguggg", "G": "ehgnhhf",
    "H": "hhhvhhh", "I": "e44444e", "J": "72222ic", "K": "hikokih", "L": "ggggggv", "M": "hrllhhh", "N": "hpljhhh",
    "O": "ehhhhhe", "P": "uhhuggg", "Q": "ehhhlid", "R": "uhhukih", "S": "fgge11u", "T": "v444444", "U": "hhhhhhe",
    "V": "hhhhha4", "W": "hhhllrh", "X": "hha4ahh", "Y": "hha4444", "Z": "v1248gv", "0": "ehjlphe", "1": "4c4444e",
    "2": "eh168gv", "3": "eh161he", "4": "26aiv22", "5": "vgu11he", "6": "egguhhe", "7": "v124444", "8": "ehhehhe",
    "9": "ehhf11e", ".": "00000cc", ",": "0000448", ":": "0cc0cc0", "+": "044v440", "-": "000v000", "/": "11248gg",
    "?": "eh12404", "!": "4444404", "=": "00v0v00", "%": "op248j3", "(": "2488842", ")": "8422248", " ": "0000000",
}  # fmt: skip


class Canvas:
    """A picture in the making, ``height`` by ``width`` pixels."""

    FINE = 3

    def __init__(self, height: int, width: int, background: Colour = PAPER) -> None:
        self.height, self.width = height, width
        self.pixels = np.empty((height * self.FINE, width * self.FINE, 3), dtype=np.uint8)
        self.pixels[:] = background

    def image(self) -> NDArray[np.uint8]:
        """The finished picture, uint8 of shape ``(height, width, 3)``."""
        fine = self.pixels.reshape(self.height, self.FINE, self.width, self.FINE, 3)
        return fine.mean(axis=(1, 3)).round().astype(np.uint8)

    def _window(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """The fine rows and columns that a box covers, clipped to the canvas."""
        f = self.FINE
        rows = slice(max(0, round(top * f)), min(self.pixels.shape[0], max(0, round(bottom * f))))
        columns = slice(max(0, round(left * f)), min(self.pixels.shape[1], max(0, round(right * f))))
        return rows, columns

    def _centres(self, rows: slice, columns: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """y ``(rows, 1)`` and x ``(1, columns)`` of the fine pixels' centres."""
        y = (np.arange(rows.start, rows.stop) + 0.5) / self.FINE
        x = (np.arange(columns.start, columns.stop) + 0.5) / self.FINE
        return y[:, None], x[None, :]

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour, round_by: float = 0.0) -> None:
        """A filled rectangle; ``round_by`` is the radius of its corners."""
        rows, columns = self._window(left, top, right, bottom)
        if round_by <= 0:
            self.pixels[rows, columns] = colour
            return
        y, x = self._centres(rows, columns)
        beyond_x = np.maximum(np.maximum(left + round_by - x, x - right + round_by), 0)
        beyond_y = np.maximum(np.maximum(top + round_by - y, y - bottom + round_by), 0)
        self.pixels[rows, columns][beyond_x**2 + beyond_y**2 <= round_by**2] = colour

    def disc(self, x: float, y: float, radius: float, colour: Colour, height: float | None = None) -> None:
        """A filled disc, or an ellipse where ``height`` (its vertical radius) is given."""
        tall = radius if height is None else height
        rows, columns = self._window(x - radius, y - tall, x + radius, y + tall)
        at_y, at_x = self._centres(rows, columns)
        self.pixels[rows, columns][((at_x - x) / radius) ** 2 + ((at_y - y) / tall) ** 2 <= 1] = colour

    def polygon(self, corners: list[Point], colour: Colour) -> None:
        """A filled convex polygon."""
        xs, ys = [c[0] for c in corners], [c[1] for c in corners]
        rows, columns = self._window(min(xs), min(ys), max(xs), max(ys))
        y, x = self._centres(rows, columns)
        sides = [
            (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True)
        ]
        inside = np.all([side >= 0 for side in sides], axis=0) | np.all([side <= 0 for side in sides], axis=0)
        self.pixels[rows, columns][inside] = colour

    def text(self, x: float, y: float, words: str, colour: Colour = INK, size: float = 1.0, centre: bool = False) -> None:
        """Capital letters, 7 x ``size`` pixels high, from (x, y) at the top left, or with x in the middle."""
        left = x - text_width(words, size) / 2 if centre else x
        for glyph in words.upper():
            for row, code in enumerate(GLYPHS.get(glyph, GLYPHS["?"])):
                for column in range(5):
                    if int(code, 32) >> (4 - column) & 1:
                        at_x, at_y = left + column * size, y + row * size
                        self.box(at_x, at_y, at_x + size, at_y + size, colour)
            left += 6 * size

    def drop(self, x: float, y: float, radius: float, colour: Colour = WATER) -> None:
        """A drop of water around (x, y), its point upwards."""
        self.disc(x, y + radius * 0.2, radius * 0.8, colour)
        wide, low = radius * 0.72, y - radius * 0.1
        self.polygon([(x, y - radius * 1.3), (x + wide, low), (x - wide, low)], colour)

    def animal(self, x: float, y: float, size: float, facing: int = 1, colour: Colour = ANIMAL) -> None:
        """A mouse seen from the side, ``size`` pixels long in the body, its head to the right (1) or the left (-1)."""
        pink: Colour = (226, 160, 156)
        for part in range(8):  # the tail, a curve of small discs
            self.disc(x - facing * size * (0.45 + 0.07 * part), y + size * (0.14 - 0.012 * part**1.6), size * 0.035, pink)
        self.disc(x, y, size * 0.5, colour, height=size * 0.3)
        head = x + facing * size * 0.48
        self.disc(head, y + size * 0.02, size * 0.24, colour, height=size * 0.19)
        self.polygon(
            [(head, y - size * 0.15), (head + facing * size * 0.36, y + size * 0.1), (head, y + size * 0.2)], colour
        )
        self.disc(head - facing * size * 0.1, y - size * 0.2, size * 0.13, colour)
        self.disc(head - facing * size * 0.1, y - size * 0.2, size * 0.08, pink)
        self.disc(head + facing * size * 0.34, y + size * 0.09, size * 0.045, pink)
        self.disc(head + facing * size * 0.1, y - size * 0.03, size * 0.04, (20, 20, 24))


def text_width(words: str, size: float = 1.0) -> float:
    """The width of ``Canvas.text`` in pixels."""
    return max(0.0, (6 * len(words) - 1) * size)


def blend(one: Colour, other: Colour, share: float) -> Colour:
    """The colour ``share`` (0 to 1) of the way from ``one`` to ``other``."""
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))  # type: ignore[return-value]
