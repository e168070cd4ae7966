"""Images pixel by pixel: see one pixel a step, and name the class at the last one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from tyro.conf import arg

from sabsim.data.images import CLASSES, Images, read_images
from sabsim.errors import ConfigError
from sabsim.tasks.base import Task
from sabsim.tasks.classes import ClassStream
from sabsim.tasks.stream import Part, StreamOptions, TaskStep, require_int


@dataclass(frozen=True)
class Pixels(Task):
    """Images pixel by pixel, of Le, Jaitly & Hinton 2015 (arXiv 1504.00941) as in section 4 of the SAB paper.

    A sequence is an image, one pixel a step, row by row from the top left, or in a fixed random order. Input is the
    pixel's brightness, 0 to 1; output are logits of 10 classes. The cross entropy at the last step is the loss; the other
    steps bear none. The metric is the accuracy at the last step.

    Training images come in a new random order in every epoch; those that do not fill a round of all streams wait for the
    next. Held-out images are played once each, in an order that the seed decides, so that a part of them is a fair sample.

    Arguments:
        images: digits (8x8 pixels, 64 steps; of scikit-learn, extra sabsim[digits]) or mnist (28x28 pixels, 784 steps)
        permuted: show the pixels in a random order, the same for all images
        permutation: seed of that order
        data: folder of data sets; by default that of SABSIM_DATA, else where sabsim data fetch puts them

    Raises:
        ConfigError: permutation < 0
    """

    images: str = "digits"
    permuted: bool = False
    permutation: int = 0
    data: Annotated[str | None, arg(metavar="DIR")] = None

    name: ClassVar[str] = "pixels"
    metric: ClassVar[str] = "accuracy"
    places: ClassVar[tuple[str, ...]] = ("data",)
    d_in: ClassVar[int] = 1
    d_out: ClassVar[int] = CLASSES

    def __post_init__(self) -> None:
        require_int("permutation", self.permutation, least=0)

    @property
    def source(self) -> Images:
        """The images, read when first asked for.

        Raises:
            ConfigError: an unknown name, or digits without scikit-learn
            DataError: a file is missing, truncated or altered
        """
        return read_images(self.images, self.data)

    @property
    def length(self) -> int:
        """Pixels of an image."""
        return int(np.prod(self.source.shape))

    @property
    def label(self) -> str:
        """Images and order: mnist-permuted0."""
        return f"{self.images}-permuted{self.permutation}" if self.permuted else self.images

    @property
    def order(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The pixel shown at each step, `(length,)` int64: row by row, or a permutation of that."""
        if self.permuted:
            return np.random.default_rng(self.permutation).permutation(self.length)
        return np.arange(self.length)

    @property
    def title(self) -> str:
        """With the images that were seen, and their order."""
        return f"{self.name} of {self.source.name}{', permuted' * self.permuted}"

    def facts(self) -> dict[str, Any]:
        """The options, with the images by the name that says which they are, and how many."""
        own = {name: value for name, value in asdict(self).items() if name not in self.places}
        counts = {part: len(labels) for part, labels in self.source.labels.items()}
        return own | {"images": self.source.name, "counts": counts, "pixels": self.length}

    def available(self, part: Part) -> int | None:
        """Images of a part."""
        return len(self.source.labels[part])

    def baselines(self) -> dict[str, float]:
        """ "chance accuracy" guesses; "one class accuracy" always names the commonest class of the training images."""
        train, test = self.source.labels["train"], self.source.labels["test"]
        commonest = np.bincount(train, minlength=CLASSES).argmax()
        return {"chance accuracy": 1 / CLASSES, "one class accuracy": float((test == commonest).mean())}

    def _open(self, options: StreamOptions) -> PixelStream:
        return PixelStream(self, options)


class PixelStream(ClassStream):
    """Endless images, one to each stream and round.

    Raises:
        ConfigError: more streams than training images
    """

    def __init__(self, task: Pixels, options: StreamOptions) -> None:
        length, source = task.length, task.source
        at_end = torch.arange(length) == length - 1
        super().__init__(options, weight=at_end.to(torch.float64), scored=at_end, classes=CLASSES)
        pixels, labels = source.pixels[options.part], source.labels[options.part]
        self._images = len(labels)
        if self.streams > self._images:
            raise ConfigError(f"streams = {self.streams}: must be at most the {self._images} images of {source.name}")
        self._held_out = options.held_out
        # One more image, a black one, for streams that idle.
        self._pixels = _with_blank(pixels).to(self.device).flatten()
        self._labels = _with_blank(labels).to(self.device, torch.int64)
        self._brightness = torch.linspace(0, 1, source.brightest + 1, dtype=self.dtype, device=self.device)
        self._dealt = torch.randperm(self._images, generator=self._generator, device=self.device)
        # Images of the even round, of the odd round, and the black one.
        self._chosen = self._buffer(3, dtype=torch.int64).fill_(self._images)
        even, shown = torch.zeros(length, dtype=torch.int64), torch.from_numpy(task.order)
        self._round_table = self._by_phase(2, even, even + 1)
        self._pixel_table = self._by_phase(0, shown, shown)

        self._row = self._buffer(1, dtype=torch.int64)
        self._image = self._buffer(1, dtype=torch.int64)
        self._value = self._buffer(dtype=torch.uint8)
        self._level = self._buffer(dtype=torch.int64)
        self._target = self._buffer(dtype=torch.int64)
        self._x = torch.zeros(self.streams, 1, dtype=self.dtype, device=self.device)
        scored, first, last = self._flags
        self._step = TaskStep(self._x, self._target, self._weight, scored, first, last)

    def sources(self) -> Tensor:
        """-1, `(streams, 1)`: what a class depends on is not known."""
        return torch.full((self.streams, 1), -1, device=self.device)

    def _draw(self, half: int) -> None:
        rounds = self.clock // self.length
        if self._held_out:
            first = rounds * self.streams
            places = torch.arange(first, first + self.streams, device=self.device) % self._images
        else:
            turn = rounds % (self._images // self.streams)
            if turn == 0:
                torch.randperm(self._images, generator=self._generator, out=self._dealt)
            places = torch.arange(turn * self.streams, (turn + 1) * self.streams, device=self.device)
        torch.index_select(self._dealt, 0, places, out=self._chosen[half])

    def _look_up(self, phase: Tensor) -> None:
        torch.index_select(self._round_table, 0, phase, out=self._row[0])
        torch.gather(self._chosen, 0, self._row, out=self._image)
        torch.index_select(self._pixel_table, 0, phase, out=self._row[0])
        torch.index_select(self._labels, 0, self._image[0], out=self._target)
        self._row.add_(self._image, alpha=self._steps)
        torch.index_select(self._pixels, 0, self._row[0], out=self._value)
        self._level.copy_(self._value)
        torch.index_select(self._brightness, 0, self._level, out=self._x[:, 0])

    def _look_up_all(self, phases: Tensor) -> tuple[Tensor, Tensor]:
        image = self._chosen.gather(0, self._round_table[phases])
        place = image * self._steps + self._pixel_table[phases]
        return self._brightness[self._pixels[place].long()].unsqueeze(2), self._labels[image]

    def _content(self) -> dict[str, Tensor]:
        return {"dealt": self._dealt, "chosen": self._chosen}


def _with_blank(rows: np.ndarray) -> Tensor:
    """The rows and one of zeros after them."""
    return torch.from_numpy(np.concatenate([rows, np.zeros_like(rows[:1])]))
