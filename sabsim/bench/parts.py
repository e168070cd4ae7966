"""What of a learner can be timed alone.

An update can be, by calls that every backend has: ``learn`` at the end of a block updates, and called again it does the
same work again. Recall, the keys and the optimiser are steps inside others, and the bench reaches for them here and
nowhere else. Whether a learner really works through such a part is tried first: a backend that does it in another piece
is listed as one that cannot run, instead of being credited with code it does not use.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import SabsimError
from ..learner import StreamingLearner

Call = Callable[[], object]


class NoPartError(SabsimError):
    """This backend has no such part."""


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


def recall(learner: StreamingLearner, seed: int) -> Call:
    """One recall: scores of all slots, choice of the k_top, weights, summary. The memory must be filled.

    Raises NoPartError: the backend has no such part.
    """
    generator = torch.Generator(device=learner.device).manual_seed(seed)
    h_hat = torch.randn(learner.streams, learner.network.hidden, generator=generator, device=learner.device).mul_(0.3)
    window, position = learner.window, learner.window.history
    _require_used(learner, window, "_recall")
    return _untracked(lambda: window._recall(position, h_hat, learner.macrostate, learner._keys, learner._gap, None))


def refresh(learner: StreamingLearner) -> Call:
    """What of recall is computed once per update: the keys of every slot.

    Raises NoPartError: the backend has no such part.
    """
    _require_used(learner, learner, "_refresh")
    return _untracked(lambda: learner._refresh())


def optimise(learner: StreamingLearner) -> Call:
    """One optimiser step with the gradient as it is.

    Raises NoPartError: the backend has no such part.
    """
    _require_used(learner, learner.optimizer, "update")
    state, decaying = learner._optim, learner._decaying
    return _untracked(lambda: learner.optimizer.update(learner.flat, learner.grad, state, None, decaying))


def _untracked(call: Call) -> Call:
    """``call`` as the learner makes it: without gradient tracking."""
    untracked: Call = torch.no_grad()(call)
    return untracked


def _require_used(learner: StreamingLearner, holder: object, name: str) -> None:
    """Raises NoPartError: unless two blocks of learning go through the method ``name`` of ``holder``."""
    method: Callable[..., object] | None = getattr(holder, name, None)
    seen = []
    if method is not None:
        through = method

        def spy(*arguments: object, **named: object) -> object:
            seen.append(name)
            return through(*arguments, **named)

        # An optimiser is a frozen dataclass; its instance can still be given an attribute, and rid of it.
        object.__setattr__(holder, name, spy)
        try:
            play_blocks(learner, 2, seed=0)
        finally:
            object.__delattr__(holder, name)
    if not seen:
        raise NoPartError("this backend does not do it as a step of its own")
