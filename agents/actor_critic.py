"""The actor-critic's learning signal: dL/dy of a finished window, in numpy.

The learner's readout is the policy's logits and, last, the state's value. In numpy, because on as few numbers as a window
has the time of an operation is that of its call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


class Returns(NamedTuple):
    """``advantage`` of the actions taken, the value's ``target`` and the ``td_error`` of one step, ``(steps, streams)``."""

    advantage: Array
    target: Array
    td_error: Array


def returns(value: Array, reward: Array, ended: Array, last: Array, *, gamma: float, decay: float) -> Returns:
    """Generalised advantage estimates (Schulman et al. 2016, arXiv 1506.02438) within a window.

    Args: ``value`` and ``reward`` (steps, streams), of each state and of the action taken in it; ``ended`` the same, 1
    where the episode ended with that action, else 0; ``last`` (streams,) the value of the state after the window;
    ``gamma``: discount; ``decay``: lambda, 0 for one-step TD errors, 1 for returns to the window's end.
    """
    alive = gamma * (1 - ended)
    error = reward - value
    error[:-1] += alive[:-1] * value[1:]
    error[-1] += alive[-1] * last
    td_error = error.copy()
    alive *= decay
    for t in range(len(error) - 2, -1, -1):
        error[t] += alive[t] * error[t + 1]
    return Returns(error, error + value, td_error)


def signals(
    output: Array, action: NDArray[np.integer[Any]], found: Returns, *, value_weight: float, entropy_weight: float
) -> Array:
    """dL/dy, ``(steps, streams, actions + 1)``, of the mean over steps and streams of

        - advantage log pi(action) + value_weight (value - target)^2 - entropy_weight H(pi),

    with ``advantage`` and ``target`` as constants. ``output`` (steps, streams, actions + 1): logits and value; ``action``
    (steps, streams).
    """
    logits = output[..., :-1]
    log_policy = logits - logits.max(2, keepdims=True)
    policy = np.exp(log_policy)
    total = policy.sum(2, keepdims=True)
    policy /= total
    log_policy -= np.log(total)
    signal = np.empty_like(output)
    # Of the entropy: -pi (log pi + H).
    entropy = -(policy * log_policy).sum(2, keepdims=True)
    signal[..., :-1] = policy * (found.advantage[..., None] + entropy_weight * (log_policy + entropy))
    chosen = np.take_along_axis(signal, action[..., None], 2) - found.advantage[..., None]
    np.put_along_axis(signal, action[..., None], chosen, 2)
    signal[..., -1] = 2 * value_weight * (output[..., -1] - found.target)
    signal /= action.size
    return signal
