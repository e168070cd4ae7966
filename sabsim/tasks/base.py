"""What every supervised task says of itself: its sizes, its streams, and what one scores on it without learning it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, ClassVar

import torch

from sabsim.tasks.stream import Part, StreamOptions, TaskStream


@dataclass(frozen=True)
class Task(ABC):
    """A supervised task: its sizes, its streams, and what one scores on it without learning it."""

    name: ClassVar[str]
    metric: ClassVar[str]
    """what `Score.metric_sum` sums: "accuracy" (higher is better), "mse" or "bpc", bits per character (lower is better)"""
    unit: ClassVar[str] = "sequences"
    """what `period` steps are called"""
    places: ClassVar[tuple[str, ...]] = ()
    """options that say where something lies, not what it is: a resumed run may have others"""

    @property
    @abstractmethod
    def d_in(self) -> int:
        """Size of an input."""

    @property
    @abstractmethod
    def d_out(self) -> int:
        """Size of an output."""

    @property
    @abstractmethod
    def length(self) -> int | None:
        """Steps of one sequence; None for a task without end, whose streams carry their state from passage to passage."""

    @property
    def period(self) -> int:
        """Steps that a run counts as one sequence: the length, or what a task without end puts in its place."""
        if self.length is None:
            raise NotImplementedError(f"{type(self).__name__} has no end and must say what its period is")
        return self.length

    @property
    def higher_is_better(self) -> bool:
        """Whether a greater metric is a better one."""
        return self.metric == "accuracy"

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest that the metric can be."""
        return (0.0, 1.0) if self.metric == "accuracy" else (0.0, inf)

    @property
    def label(self) -> str:
        """The options in a few letters, for the names of files: T100."""
        return "-".join(f"{name}{value}" for name, value in asdict(self).items())

    @property
    def title(self) -> str:
        """The task in a few words, with what it is made of: charlm on ptb."""
        return self.name

    @property
    def identity(self) -> dict[str, int]:
        """Numbers that must be the same where a run goes on or is played: digests of data that may change."""
        return {}

    def facts(self) -> dict[str, Any]:
        """What results are to say of the task: its options, and of data what they are."""
        return asdict(self)

    def available(self, part: Part) -> int | None:
        """Sequences there are of a held-out part, the last of which may be short; None: as many as wanted."""
        return None

    def stream(
        self,
        *,
        streams: int,
        seed: int,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        stagger: bool = False,
        gap: int = 0,
        part: Part = "train",
    ) -> TaskStream:
        """An endless stream of this task; arguments and errors are those of `StreamOptions`."""
        return self._open(
            StreamOptions(
                streams=streams,
                seed=seed,
                device=torch.device(device),
                dtype=dtype,
                stagger=stagger,
                gap=gap,
                part=part,
            )
        )

    @abstractmethod
    def _open(self, options: StreamOptions) -> TaskStream:
        """The stream of this task."""

    @abstractmethod
    def baselines(self) -> dict[str, float]:
        """What chance and the trivial solution score; the names say which, and of what."""
