"""Endless, seeded streams of steps, and the score of an output.

`streams` endless streams run side by side. All have the same period, so the host knows from a step counter
alone when sequences begin and end: nothing is read back from the device. The period is the length of a
sequence; a task without end, such as a text, counts in passages of a fixed length, at whose ends nothing
happens to the learner.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sabsim.errors import ConfigError

StateDict = dict[str, Tensor | int]
"""The exact state of a stream: flat, one name per tensor or number."""

Part = Literal["train", "validation", "test"]
"""Of what a stream is made. A task that draws its sequences has as many as wanted of each, and validation and test
are the same; one with data of its own has parts that share nothing."""

_FIELDS = ("x", "target", "weight", "scored", "first", "last")  # of a `TaskStep`
_SALT = 0x5AB  # keeps these draws apart from other uses of the same seed
# Spawn keys: what a derived seed is for.
_SEQUENCES = 0
_TEST_SEQUENCES = 2


@dataclass(frozen=True, slots=True)
class TaskStep:
    """One step of all streams. Its tensors are buffers: valid until the next call of `TaskStream.next`.

    Several steps at once, from `TaskStream.take`, have a leading axis of steps, and are theirs who took them.
    """

    x: Tensor
    """input, `(streams, d_in)`"""
    target: Tensor
    """wanted output, `(streams,)`: int64 class, or float value"""
    weight: Tensor
    """weight of this step's loss, `(streams,)`; sums to 1 over a sequence or passage"""
    scored: Tensor
    """whether the step counts for the metric, `(streams,)` bool"""
    first: Tensor
    """whether the step begins a sequence or passage, `(streams,)` bool"""
    last: Tensor
    """whether the step ends a sequence or passage, `(streams,)` bool"""


@dataclass(frozen=True, slots=True)
class Score:
    """Loss, gradient and metric of one step. Its tensors are buffers: valid until the next `score`."""

    loss: Tensor
    """weighted loss of each stream, `(streams,)`"""
    dL_dy: Tensor
    """gradient of the sum of `loss` over streams, divided by their number, `(streams, d_out)`"""
    metric_sum: Tensor
    """metric summed over the scored outputs of this step, `(streams,)`"""
    count: Tensor
    """number of scored outputs in this step, `(streams,)` float; the metric is sum of sums / sum of counts"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOptions:
    """How a task is streamed.

    Raises:
        ConfigError: streams < 1, seed < 0, gap < 0, a dtype that is neither float32 nor float64, or an unknown part
    """

    streams: int
    """number of sequences side by side, at least 1"""
    seed: int
    """non-negative; the same seed gives the same sequences on the same kind of device"""
    device: torch.device
    """where all tensors live"""
    dtype: torch.dtype
    """float32 or float64"""
    stagger: bool
    """stream b first idles for a seeded offset_b of 0 .. period-1 steps, so that the streams are out of
    phase; idle steps have weight 0, are not scored, and are neither first nor last. A task without end ignores it"""
    gap: int
    """idle steps after each sequence, which are part of the period. A task without end ignores it"""
    part: Part
    """training sequences, or held-out ones. Where sequences are drawn, the generator's seed is even for training and
    odd for held-out streams, so the two never share one, whatever the seeds; those of the test are not those of the
    validation, by which a run may have been stopped"""

    def __post_init__(self) -> None:
        require_int("streams", self.streams, least=1)
        require_int("seed", self.seed, least=0)
        require_int("gap", self.gap, least=0)
        if self.dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"dtype must be torch.float32 or torch.float64, got {self.dtype}")
        if self.part not in get_args(Part):
            raise ConfigError(f"part must be one of {', '.join(get_args(Part))}, got {self.part!r}")

    @property
    def held_out(self) -> bool:
        """Whether nothing of it is trained on."""
        return self.part != "train"


class TaskStream(ABC):
    """Endless steps of one task, one at a time, `streams` side by side.

    Arguments:
        options: how the task is streamed
        length: steps of a sequence or passage and of the gap after it, the period
    """

    _step: TaskStep
    """the buffers `next` fills; built by the subclass"""
    lead: int = 0
    """passages that each stream reads before those that are scored, of a text's held-out part"""

    def __init__(self, options: StreamOptions, *, length: int) -> None:
        self.length = length
        self.streams = options.streams
        self.device = options.device
        self.dtype = options.dtype
        self.clock = 0
        """steps given so far"""
        self.completed = 0
        """completed sequences in all streams, known to the host without synchronising"""
        self.sequences = torch.zeros((), dtype=torch.int64, device=self.device)
        """the same as a tensor, `()` int64"""
        self._generator = torch.Generator(self.device)
        drawn_for = _TEST_SEQUENCES if options.part == "test" else _SEQUENCES
        self._generator.manual_seed(2 * (derive_seed(options.seed, drawn_for) >> 1) + options.held_out)
        self._flags = self._buffer(3, dtype=torch.bool)
        self._weight = self._buffer()
        self._loss = self._buffer()
        self._metric = self._buffer()
        self._count = self._buffer()

    @abstractmethod
    def next(self) -> TaskStep:
        """The next step of every stream."""

    def take(self, count: int) -> TaskStep:
        """The next `count` steps at once, equal to those of as many calls of `next`; every tensor `(count, ...)`.

        For devices on which queueing an operation costs more than the operation.
        """
        steps = []
        for _ in range(count):
            step = self.next()
            steps.append([getattr(step, name).clone() for name in _FIELDS])
        return TaskStep(*(torch.stack(parts) for parts in zip(*steps, strict=True)))

    @abstractmethod
    def begins_at(self, clock: int) -> bool:
        """Whether a learner must reset the streams in `TaskStep.first` at the step given at `clock`.

        Known without asking the device.
        """

    @property
    def begins(self) -> bool:
        """The same of the last step given."""
        return self.begins_at(self.clock - 1)

    @abstractmethod
    def score(self, y: Tensor, step: TaskStep) -> Score:
        """Loss, explicit gradient and metric of the output `y`, `(streams, d_out)`, at `step`."""

    def score_all(self, y: Tensor, steps: TaskStep) -> Score:
        """The scores of the outputs `y`, `(count, streams, d_out)`, at as many steps, in tensors with that leading axis."""
        found = []
        for t, output in enumerate(y):
            score = self.score(output, TaskStep(*(getattr(steps, name)[t] for name in _FIELDS)))
            found.append([part.clone() for part in (score.loss, score.dL_dy, score.metric_sum, score.count)])
        return Score(*(torch.stack(parts) for parts in zip(*found, strict=True)))

    @abstractmethod
    def sources(self) -> Tensor:
        """Where the last step's target was shown: `(streams, k)` int64 positions in the sequence, -1: none.

        For analysis: the steps a learner has to remember. Computed when asked for, not in `next`.
        """

    @abstractmethod
    def positions(self) -> Tensor:
        """Position of the last step in its sequence, `(streams,)` int64; -1 where a stream is still idle."""

    def state_dict(self) -> StateDict:
        """Everything that decides the steps to come, as copies."""
        return {
            **self._identity(),
            "clock": self.clock,
            "completed": self.completed,
            "generator": self._generator.get_state(),
            **{name: buffer.clone() for name, buffer in self._buffers().items()},
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue exactly where the stream that gave `state` stood.

        Raises:
            ConfigError: an entry is missing or does not fit this stream, which then stays as it was
        """
        buffers = self._buffers()
        mine = {**buffers, "generator": self._generator.get_state()}
        saved = {name: _tensor_like(state, name, tensor) for name, tensor in mine.items()}
        clock, completed = (_integer(state, name) for name in ("clock", "completed"))
        for name, here in self._identity().items():
            if (there := _integer(state, name)) != here:
                raise ConfigError(f"task state {name!r} must be {here} as here, got {there}")
        for name, buffer in buffers.items():
            buffer.copy_(saved[name])
        self._generator.set_state(saved["generator"].cpu())
        self.clock, self.completed = clock, completed
        self.sequences.fill_(completed)

    def _identity(self) -> dict[str, int]:
        """Numbers that must be the same in a stream that goes on from another's state."""
        return {"length": self.length}

    @abstractmethod
    def _buffers(self) -> dict[str, Tensor]:
        """The buffers that decide the steps to come."""

    def _buffer(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Zeros of shape `(*shape, streams)`, of the stream's dtype unless given."""
        return torch.zeros(*shape, self.streams, dtype=dtype or self.dtype, device=self.device)


def joined(parts: Sequence[TaskStep]) -> TaskStep:
    """Several steps of each of `parts`, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return TaskStep(*(torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS))


def require_int(name: str, value: int, *, least: int) -> None:
    """Raise a ConfigError unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be an integer >= {least}, got {value!r}")


def derive_seed(seed: int, purpose: int) -> int:
    """A 32-bit seed for one purpose (more bits a CPU generator would ignore)."""
    return int(np.random.SeedSequence([_SALT, seed], spawn_key=(purpose,)).generate_state(1)[0])


def _tensor_like(state: StateDict, name: str, like: Tensor) -> Tensor:
    value = state.get(name)
    if isinstance(value, Tensor) and (value.shape, value.dtype) == (like.shape, like.dtype):
        return value
    got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else value
    raise ConfigError(
        f"task state {name!r} must be a tensor {like.dtype} {tuple(like.shape)}, got {got}; "
        "continue with the task, T, streams, device and dtype it was saved with"
    )


def _integer(state: StateDict, name: str) -> int:
    value = state.get(name)
    if isinstance(value, int):
        return value
    raise ConfigError(f"task state {name!r} must be an integer, got {value!r}")
