"""Parts of a learner that can be timed alone: a replay, the window's VJP, a recall, the optimiser.

A user has no need of these, so the learner does not offer them; here, and nowhere else, the bench reaches inside. A
backend that does its work in other pieces has no such part: it is then listed as one that cannot run, and its whole
window (row ``window``) says what it takes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import SabsimError
from ..learner import StreamingLearner
from ..window import Credits

Call = Callable[[], object]


class NoPartError(SabsimError):
    """This backend, or this device, has no such part."""


def fill_memory(learner: StreamingLearner, seed: int) -> None:
    """Fills every slot with random microstates whose segments have full length, as after a long time."""
    memory = learner.macrostate
    generator = torch.Generator(device=learner.device).manual_seed(seed)
    for name in ("m", "segment", "c"):
        memory.arrays[name].normal_(0, 0.3, generator=generator)
    memory.arrays["length"].fill_(learner.credit.k_trunc)
    memory.arrays["stamp"].zero_()
    memory.arrays["score"].zero_()
    memory.arrays["empty"].zero_()
    learner._refresh()


def play_block(learner: StreamingLearner, seed: int) -> None:
    """Steps up to a block's end on random inputs and signals; the update that is due then is not made."""
    generator = torch.Generator(device=learner.device).manual_seed(seed)
    network, streams = learner.network, learner.streams
    for _ in range(learner.credit.block):
        learner.step(torch.randn(streams, network.d_in, generator=generator, device=learner.device))
    signal = learner.window.rings["signal"][learner.window.history :]
    signal.normal_(0, 1 / streams, generator=generator)


def replay(learner: StreamingLearner, seed: int) -> Call:
    """Replays one segment of every stream: forward again, VJP, parameter gradient. The memory must be filled.

    Raises NoPartError: the backend has no such part.
    """
    memory, streams, hidden = learner.macrostate, learner.streams, learner.network.hidden
    generator = torch.Generator(device=learner.device).manual_seed(seed)
    credit = torch.randn(streams, memory.slots, hidden, generator=generator, device=learner.device)
    weight = credit.new_ones(streams, memory.slots)
    slot = torch.zeros(streams, 1, dtype=torch.int64, device=learner.device)
    credits, norm = Credits(credit, weight, torch.zeros_like(weight, dtype=torch.int64)), credit.new_ones(streams, 1)

    def call() -> Tensor:
        room = learner._replay
        assert room is not None
        return room.backward(credits, slot, norm, memory)

    return _tried(call)


def window_vjp(learner: StreamingLearner) -> Call:
    """The VJP of the main chain, with the credits of what it recalled, after ``play_block``.

    Raises NoPartError: the backend has no such part.
    """
    return _tried(lambda: learner.window.backward(learner._memory))


def recall(learner: StreamingLearner, seed: int) -> Call:
    """One recall: scores of all slots, choice of the k_top, weights, summary. The memory must be filled.

    Raises NoPartError: the backend has no such part.
    """
    generator = torch.Generator(device=learner.device).manual_seed(seed)
    h_hat = torch.randn(learner.streams, learner.network.hidden, generator=generator, device=learner.device).mul_(0.3)
    window, position = learner.window, learner.window.history
    return _tried(lambda: window._recall(position, h_hat, learner.macrostate, learner._keys, learner._gap, None))


def refresh(learner: StreamingLearner) -> Call:
    """What of recall is computed once per update: the keys of every slot.

    Raises NoPartError: the backend has no such part.
    """
    return _tried(learner._refresh)


def optimise(learner: StreamingLearner) -> Call:
    """One optimiser step with the gradient as it is.

    Raises NoPartError: the backend has no such part.
    """

    def call() -> Tensor:
        return learner.optimizer.update(learner.flat, learner.grad, learner._optim, None, learner._decaying)

    return _tried(call)


def _tried(call: Call) -> Call:
    """``call`` without gradient tracking, tried once."""
    untracked: Call = torch.no_grad()(call)
    try:
        untracked()
    except (AttributeError, TypeError, NotImplementedError) as error:
        raise NoPartError(f"has no such part to be timed alone ({type(error).__name__}: {error})") from error
    return untracked
