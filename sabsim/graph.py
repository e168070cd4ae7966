"""A block of steps as one CUDA graph: reset, step, learning signal, learn, again and again, up to the update.

A step of the learner is some hundred small operations, and on a GPU queueing one costs more than running it. A graph holds
those of a whole block, with the addresses of their operands, and queues them at once. So whatever changes from block to
block must lie in tensors that stay where they are: inputs in buffers, the global step in ``Window.origin``.

Where a graph cannot be had the same calls are made one by one, with the same results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from .errors import ConfigError
from .learner import StreamingLearner
from .replay import ReplayEvents

Signal = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From y (streams, d_out) and the step's target to dL/dy (streams, d_out) and the loss (streams,), in torch operations
that never wait for the device."""

WARM_UP = 3
"""Blocks played before a capture, as torch advises: libraries set themselves up at first use, which a graph cannot hold."""

_T = TypeVar("_T")
_log = logging.getLogger("sabsim")


class Block(NamedTuple):
    """What a block gave; the next one overwrites it.

    ``y`` (block, B, d_out); ``loss`` (block, B); ``events``: the replays of the update at its end, None where the credit
    rule replays nothing.
    """

    y: Tensor
    loss: Tensor
    events: ReplayEvents | None


class BlockGraph:
    """Plays a learner block by block, on a CUDA device as one captured graph.

    One block is ``learner.credit.block`` steps, each ``reset``, ``step``, the signal, ``learn``; it begins with what the
    block before left to do: its states are offered to the macrostate, noise is drawn, the keys are made anew. Between two
    blocks the learner can be used, saved and loaded as ever; plain steps must fill whole blocks.

    Args:
        learner: to be played; making a graph does not change it.
        signal: see ``Signal``; captured as well, so it must always do the same operations.
        target: an example of what ``signal`` gets at one step, ``(streams, ...)``; only shape and type count.

    ``captured`` says whether there is a graph; if not, ``reason`` says why, in one line that is logged as well. ``x``
    (block, B, d_in), ``begins`` (block, B) bool and ``target`` (block, B, ...) are the buffers the graph reads.

    Raises ConfigError: for a learner that is not learning or in the middle of a block.
    """

    def __init__(self, learner: StreamingLearner, signal: Signal, *, target: Tensor) -> None:
        self.learner = learner
        self._signal = signal
        block, streams, like = learner.credit.block, learner.streams, learner.flat
        self.x = like.new_zeros(block, streams, learner.network.d_in)
        self.begins = torch.zeros(block, streams, dtype=torch.bool, device=like.device)
        self.target = torch.zeros(block, *target.shape, dtype=target.dtype, device=like.device)
        self._y = like.new_zeros(block, streams, learner.network.d_out)
        self._loss = like.new_zeros(block, streams)
        self._replay: Callable[[], None] | None = None
        self._events: ReplayEvents | None = None  # of the graph: where it leaves them
        self.reason: str | None = None
        self._require_boundary()
        if learner.device.type == "cuda":
            self._capture()
        else:
            self.reason = f"the device is {learner.device.type}"
        if self.reason is not None:
            _log.log(
                logging.WARNING if learner.device.type == "cuda" else logging.INFO,
                "no CUDA graph, steps are queued one by one: %s",
                self.reason,
            )

    @property
    def captured(self) -> bool:
        """Whether a block is one CUDA graph."""
        return self._replay is not None

    def play(self, x: Tensor, begins: Tensor, target: Tensor) -> Block:
        """One block: copies its arguments into the buffers (a buffer itself costs nothing) and plays them.

        Args: ``x`` (block, B, d_in); ``begins`` (block, B) bool, the streams that begin a sequence before that step;
        ``target`` (block, B, ...).
        Raises ConfigError: for another shape, a learner that is not learning, or one in the middle of a block.
        """
        for name, buffer, given in (("x", self.x, x), ("begins", self.begins, begins), ("target", self.target, target)):
            if given.shape != buffer.shape:
                raise ConfigError(f"{name} has shape {tuple(given.shape)}: must be {tuple(buffer.shape)}")
            buffer.copy_(given)
        self._require_boundary()
        # The graph begins with what a finished block leaves to do, and before the very first one there is none.
        if self._replay is None or not self.learner.block_is_full:
            return Block(self._y, self._loss, self._steps())
        self._replay()
        self.learner.clock += self.learner.credit.block
        return Block(self._y, self._loss, self._events)

    def _require_boundary(self) -> None:
        if not self.learner.learning:
            raise ConfigError("learning = False: a block graph plays a learner that learns; step an evaluator by hand")
        if not (self.learner.block_is_full or self.learner.block_is_empty):
            raise ConfigError(f"the learner is inside a block of {self.learner.credit.block} steps: finish it first")

    @torch.no_grad()
    def _steps(self) -> ReplayEvents | None:
        learner, events = self.learner, None
        for t in range(learner.credit.block):
            learner.reset(self.begins[t])
            y = learner.step(self.x[t])
            self._y[t].copy_(y)
            dL_dy, loss = self._signal(y, self.target[t])
            self._loss[t].copy_(loss)
            events = learner.learn(dL_dy, loss)
        return events

    def _capture(self) -> None:
        """Captures a block that follows another, and leaves the learner as it was, whatever happens."""
        learner, before = self.learner, self.learner.state_dict()
        try:
            warm_up(self._steps, learner.device)
            self._replay, self._events = capture(self._steps, learner.device, learner.generator)
        except RuntimeError as error:
            self.reason = f"it cannot be captured: {first_line(error)}"
        finally:
            learner.load_state_dict(before)


def warm_up(call: Callable[[], object], device: torch.device) -> None:
    """Calls ``call`` a few times on a stream of its own, as a capture needs."""
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                call()
        torch.cuda.current_stream().wait_stream(side)


def capture(
    call: Callable[[], _T], device: torch.device, generator: torch.Generator | None = None
) -> tuple[Callable[[], None], _T]:
    """What does the device's part of ``call`` again, and what ``call`` returned: tensors that this will fill.

    ``call`` is called once, in which nothing is computed; warm up first. ``generator``: where it draws random numbers, if
    not from torch's default one; replaying goes on drawing from it.
    Raises RuntimeError: if ``call`` does what a graph cannot hold.
    """
    graph = torch.cuda.CUDAGraph()
    if generator is not None:
        graph.register_generator_state(generator)
    # The outer stream: a capture that fails does not go back to it by itself.
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
        default = torch.cuda.default_generators[torch.cuda.current_device()]
        try:
            with torch.cuda.graph(graph):
                result = call()
        except RuntimeError:
            for each in (default, generator):
                if each is not None:
                    _release(each, device)
            raise
    return graph.replay, result


def _release(generator: torch.Generator, device: torch.device) -> None:
    """Gives a generator a new state with the old seed: after a capture that failed the old one refuses to draw."""
    fresh = torch.Generator(device=device).manual_seed(generator.initial_seed())
    generator.graphsafe_set_state(fresh.graphsafe_get_state())


def first_line(error: BaseException) -> str:
    """What went wrong first, in one line: the errors after it say only that the capture had failed by then."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
