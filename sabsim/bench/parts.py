"""What of a learner can be timed alone: its update, a step within a block, the keys, the optimiser.

An update can be by calls that every backend has: ``learn`` at the end of a block updates, and called again it does the same
work again. For the others the bench reaches inside the learner, here and nowhere else, and only for what ``step`` and
``learn`` themselves go through: a backend is never credited with code it does not use.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..learner import StreamingLearner

Call = Callable[[], object]


def play_blocks(learner: StreamingLearner, blocks: int, seed: int) -> Tensor:
    """Plays whole blocks on random inputs and signals, up to and with the last update; returns a signal.

    The signal has shape (streams, d_out).
    """
    generator = torch.Generator(device=learner.device).manual_seed(seed)
    network, streams = learner.network, learner.streams
    signal = torch.randn(streams, network.d_out, generator=generator, device=learner.device).div_(streams)
    for _ in range(blocks * learner.credit.block):
        learner.step(torch.randn(streams, network.d_in, generator=generator, device=learner.device))
        learner.learn(signal)
    return signal


def update(learner: StreamingLearner, seed: int) -> Call:
    """The update at a block's end: window VJP, replays, optimiser. Slots are filled first, with segments of full length."""
    blocks = -(-learner.retention.slots // learner.credit.block) + 3 if learner.credit.recalls else 3
    signal = play_blocks(learner, blocks, seed)
    return lambda: learner.learn(signal)


def fill_memory(learner: StreamingLearner, seed: int) -> None:
    """Fills every slot at once with random microstates, as after a long time."""
    memory = learner.macrostate
    generator = torch.Generator(device=learner.device).manual_seed(seed)
    for name in ("m", "segment", "c"):
        memory.arrays[name].normal_(0, 0.3, generator=generator)
    memory.arrays["length"].fill_(learner.credit.k_trunc)
    memory.arrays["stamp"].zero_()
    memory.arrays["score"].zero_()
    memory.arrays["empty"].zero_()
    learner.window.refresh(memory)


def step(learner: StreamingLearner, seed: int) -> Call:
    """A step in the middle of a block, again and again: cell, recall if there is any, readout; no retention, no keys."""
    play_blocks(learner, 2, seed)
    x = torch.zeros(learner.streams, learner.network.d_in, device=learner.device)
    learner.step(x)

    def call() -> None:
        learner.step(x)
        learner._position -= 1

    return call


def keys(learner: StreamingLearner) -> Call:
    """The keys of every slot, anew: what follows when all parameters or all of the memory have changed."""
    memory = learner.macrostate

    def call() -> None:
        memory.arrays["m"][:0].zero_()  # writes nothing, but counts as a write: no backend may keep older keys
        learner.window.refresh(memory)

    return _untracked(call)


def learning_steps(learner: StreamingLearner, seed: int) -> Call:
    """Whole blocks of steps, an update at the end of each, as they come: one block a call."""
    generator = torch.Generator(device=learner.device).manual_seed(seed)
    network, block = learner.network, learner.credit.block
    inputs = torch.randn(64, learner.streams, network.d_in, generator=generator, device=learner.device)
    signal = torch.randn(learner.streams, network.d_out, generator=generator, device=learner.device)

    def call() -> None:
        for _ in range(block):
            learner.step(inputs[learner.clock % len(inputs)])
            learner.learn(signal)

    return call


def optimise(learner: StreamingLearner) -> Call:
    """One optimiser step, after some updates, with the gradient as it is."""
    play_blocks(learner, 2, seed=0)
    update, state, decaying, counts = learner._step_of_optimizer, learner._optim, learner._decaying, learner._counts
    return _untracked(lambda: update(learner.flat, learner.grad, state, None, decaying, counts))


def _untracked(call: Call) -> Call:
    """``call`` as the learner makes it: without gradient tracking."""
    untracked: Call = torch.no_grad()(call)
    return untracked
