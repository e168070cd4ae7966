"""What every supervised task offers: an endless, seeded stream of steps, and the score of an output.

`streams` endless sequences run side by side. All have the same period (the length of a sequence), so the
host knows from a step counter alone when sequences begin and end: nothing is read back from the device.
Sequences are drawn in rounds: round n holds the n-th sequence of every stream and is drawn when the first
stream may need it, once in `length` steps. Staggered streams overlap two rounds, so two are kept, the even
and the odd one. Which sequences a stream meets therefore does not depend on how the streams are staggered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sabsim.errors import ConfigError

StateDict = dict[str, Tensor | int]
"""The exact state of a stream: flat, one name per tensor or number."""

_SALT = 0x5AB  # keeps these draws apart from other uses of the same seed
_SEQUENCES, _OFFSETS = 0, 1  # spawn keys: what a derived seed is for


@dataclass(frozen=True, slots=True)
class TaskStep:
    """One step of all streams. Its tensors are buffers: valid until the next call of `TaskStream.next`."""

    x: Tensor
    """input, `(streams, d_in)`"""
    target: Tensor
    """wanted output, `(streams,)`: int64 class, or float value"""
    weight: Tensor
    """weight of this step's loss, `(streams,)`; sums to 1 over a sequence"""
    scored: Tensor
    """whether the step counts for the metric, `(streams,)` bool"""
    first: Tensor
    """whether the step begins a sequence, `(streams,)` bool"""
    last: Tensor
    """whether the step ends a sequence, `(streams,)` bool"""


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


@dataclass(frozen=True)
class Task(ABC):
    """A supervised task: its sizes, its streams, and what one scores on it without learning it."""

    name: ClassVar[str]
    metric: ClassVar[str]
    """what `Score.metric_sum` sums: "accuracy" (higher is better) or "mse" (lower is better)"""
    d_in: ClassVar[int]
    d_out: ClassVar[int]

    @property
    @abstractmethod
    def length(self) -> int | None:
        """Steps of one sequence; None for a task without end."""

    def stream(
        self,
        *,
        streams: int,
        seed: int,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        stagger: bool = False,
        held_out: bool = False,
    ) -> TaskStream:
        """An endless stream of this task; arguments and errors are those of `StreamOptions`."""
        return self._open(
            StreamOptions(
                streams=streams,
                seed=seed,
                device=torch.device(device),
                dtype=dtype,
                stagger=stagger,
                held_out=held_out,
            )
        )

    @abstractmethod
    def _open(self, options: StreamOptions) -> TaskStream:
        """The stream of this task."""

    @abstractmethod
    def baselines(self) -> dict[str, float]:
        """What chance and the trivial solution score; the names say which, and of what."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOptions:
    """How a task is streamed.

    Raises:
        ConfigError: streams < 1, seed < 0, or a dtype that is neither float32 nor float64
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
    """stream b first idles for a seeded offset_b of 0 .. length-1 steps, so that the streams are out of
    phase; idle steps have weight 0, are not scored, and are neither first nor last"""
    held_out: bool
    """draw held-out sequences: the generator's seed is even for training and odd for held-out streams, so
    the two never share one, whatever the seeds"""

    def __post_init__(self) -> None:
        require_int("streams", self.streams, least=1)
        require_int("seed", self.seed, least=0)
        if self.dtype not in (torch.float32, torch.float64):
            raise ConfigError(f"dtype must be torch.float32 or torch.float64, got {self.dtype}")


class TaskStream(ABC):
    """Endless sequences of one task, one step at a time, `streams` side by side.

    Arguments:
        options: how the task is streamed
        weight: loss weight of each step of a sequence, `(length,)`
        scored: whether each step of a sequence counts for the metric, `(length,)` bool
    """

    _step: TaskStep
    """the buffers `next` fills; built by the subclass"""

    def __init__(self, options: StreamOptions, *, weight: Tensor, scored: Tensor) -> None:
        self.length = len(weight)
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
        self._generator.manual_seed(2 * (derive_seed(options.seed, _SEQUENCES) >> 1) + options.held_out)
        self._set_offsets(torch.from_numpy(_spread(self.length, options) * int(options.stagger)))

        # A stream's phase is its place in the tables below: idle (0..L-1), then the steps of an even round
        # (L..2L-1) and of an odd one (2L..3L-1), and from there back to L.
        self._phase = self.length - self._offsets.to(self.device)
        self._emitted = self._phase.clone()
        self._following = torch.arange(1, 3 * self.length + 1, device=self.device)
        self._following[-1] = self.length
        step = torch.arange(self.length)
        flags = torch.stack([scored, step == 0, step == self.length - 1])
        weight = weight.to(self.dtype)
        self._flag_table = self._by_phase(False, flags, flags)
        self._weight_table = self._by_phase(0.0, weight, weight)
        self._position_table = self._by_phase(-1, step, step)

        self._flags = self._buffer(3, dtype=torch.bool)
        self._weight = self._buffer()
        self._loss = self._buffer()
        self._metric = self._buffer()
        self._count = self._buffer()

    def next(self) -> TaskStep:
        """The next step of every stream."""
        if self.clock % self.length == 0:
            self._draw(self.clock // self.length % 2)
        torch.index_select(self._flag_table, 1, self._phase, out=self._flags)
        torch.index_select(self._weight_table, 0, self._phase, out=self._weight)
        self._look_up(self._phase)
        torch.index_select(self._following, 0, self._phase, out=self._emitted)
        self._phase, self._emitted = self._emitted, self._phase
        self.clock += 1
        ended = self._ending[self.clock % self.length] if self.clock >= self.length else 0
        if ended:
            self.completed += ended
            self.sequences.add_(ended)
        return self._step

    @property
    def begins(self) -> bool:
        """Whether any stream begins a sequence at the last step given; known without asking the device."""
        return bool(self._ending[(self.clock - 1) % self.length])

    @abstractmethod
    def score(self, y: Tensor, step: TaskStep) -> Score:
        """Loss, explicit gradient and metric of the output `y`, `(streams, d_out)`, at `step`."""

    @abstractmethod
    def sources(self) -> Tensor:
        """Where the last step's target was shown: `(streams, k)` int64 positions in the sequence, -1: none.

        For analysis: the steps a learner has to remember. Computed when asked for, not in `next`.
        """

    def positions(self) -> Tensor:
        """Position of the last step in its sequence, `(streams,)` int64; -1 where a stream is still idle."""
        return self._position_table[self._emitted]

    def state_dict(self) -> StateDict:
        """Everything that decides the steps to come, as copies."""
        return {
            "length": self.length,
            "clock": self.clock,
            "completed": self.completed,
            "offsets": self._offsets.clone(),
            "phase": self._phase.clone(),
            "emitted": self._emitted.clone(),
            "generator": self._generator.get_state(),
            **{name: buffer.clone() for name, buffer in self._content().items()},
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue exactly where the stream that gave `state` stood.

        Raises:
            ConfigError: an entry is missing or does not fit this stream, which then stays as it was
        """
        buffers = {"phase": self._phase, "emitted": self._emitted, **self._content()}
        mine = {**buffers, "offsets": self._offsets, "generator": self._generator.get_state()}
        saved = {name: _tensor_like(state, name, tensor) for name, tensor in mine.items()}
        length, clock, completed = (_integer(state, name) for name in ("length", "clock", "completed"))
        if length != self.length:
            raise ConfigError(f"task state 'length' must be {self.length} as here, got {length}")
        for name, buffer in buffers.items():
            buffer.copy_(saved[name])
        self._generator.set_state(saved["generator"].cpu())
        self._set_offsets(saved["offsets"].cpu().clone())
        self.clock, self.completed = clock, completed
        self.sequences.fill_(completed)

    @abstractmethod
    def _draw(self, half: int) -> None:
        """Draw a round of sequences into the even (0) or odd (1) half of the content."""

    @abstractmethod
    def _look_up(self, phase: Tensor) -> None:
        """Fill input and target of the streams at `phase`, `(streams,)`."""

    @abstractmethod
    def _content(self) -> dict[str, Tensor]:
        """The buffers that hold the two rounds."""

    def _buffer(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Zeros of shape `(*shape, streams)`, of the stream's dtype unless given."""
        return torch.zeros(*shape, self.streams, dtype=dtype or self.dtype, device=self.device)

    def _by_phase(self, idle: float, even: Tensor, odd: Tensor) -> Tensor:
        """A table over phases, `(..., 3 * length)`: what holds when idle, in an even and an odd round."""
        return torch.cat([torch.full_like(even, idle), even, odd], dim=-1).to(self.device)

    def _set_offsets(self, offsets: Tensor) -> None:
        self._offsets = offsets
        self._ending: list[int] = torch.bincount(offsets, minlength=self.length).tolist()


def _spread(length: int, options: StreamOptions) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Phases for the streams: a random start, then steps of the golden section of the period.

    So the phases of any number of streams lie evenly over the period, and take every remainder modulo a learner's
    block of updates about equally often; independent draws would leave out one remainder of five for every sixth seed
    of 8 streams.
    """
    start = np.random.default_rng(derive_seed(options.seed, _OFFSETS)).random()
    turns = start + np.arange(options.streams) * (5**0.5 - 1) / 2
    return np.floor(length * (turns % 1.0)).astype(np.int64)


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
