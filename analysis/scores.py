"""Scores of the order in which places are replayed: of one event's matrix P, and of a whole series (TDLM).

P, `(positions, times)` with any leading dimensions, says how much of each time's replay is at each position; each time's
column sums to 1, or to 0 where nothing was replayed. Positions and times count from 0. These are the field's own measures,
written for arrays of many events; tests and `results/replay/scores.json` hold them against nelpy and TDLM-Python.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sabsim.errors import ConfigError

Floats = NDArray[np.float64]


def weighted_correlation(matrix: ArrayLike) -> Floats:
    """r = cov_P(x, t) / sqrt(var_P(x) var_P(t)) of position x and time t, `(...)` (Wu & Foster 2014, J Neurosci 34, 6459).

    NaN where all of P is at one position or one time.

    Raises:
        ConfigError: fewer than two dimensions, or a negative entry
    """
    p = _matrix(matrix)
    x, t = np.arange(p.shape[-2])[:, None], np.arange(p.shape[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        p = p / p.sum(axis=(-2, -1), keepdims=True)
        dx, dt = (value - (p * value).sum(axis=(-2, -1), keepdims=True) for value in (x, t))
        variance = (p * dx**2).sum(axis=(-2, -1)) * (p * dt**2).sum(axis=(-2, -1))
        r: Floats = (p * dx * dt).sum(axis=(-2, -1)) / np.sqrt(variance)
    # A variance that is rounding noise is that of one position.
    return np.where(variance > 1e-20, r, np.nan)


def line_fit(matrix: ArrayLike, *, band: int = 1) -> tuple[Floats, Floats]:
    """The replay score of the best line, and its slope in positions per time, both `(...)`.

    The score of a line is the share of P within `band` positions of it, the mean over times (Davidson, Kloosterman &
    Wilson 2009, Neuron 63, 497). Lines go from any position at the first time to any at the last. Of equally good lines
    the one with the least absolute slope counts.

    Raises:
        ConfigError: fewer than two times, a negative entry, or a band below 0
    """
    p = _matrix(matrix)
    positions, times = p.shape[-2:]
    if times < 2 or band < 0:
        raise ConfigError(f"line_fit: {times} times, band = {band}; at least 2 times and a band of 0 or more are needed")
    padded = np.concatenate([np.zeros((*p.shape[:-2], 1, times)), np.cumsum(p, axis=-2)], axis=-2)
    first, last = (end.ravel() for end in np.meshgrid(np.arange(positions), np.arange(positions), indexing="ij"))
    order = np.argsort(np.abs(last - first), kind="stable")
    first, last = first[order], last[order]
    line = np.rint(first[:, None] + (last - first)[:, None] * np.arange(times) / (times - 1)).astype(np.int64)
    low, high = np.clip(line - band, 0, positions), np.clip(line + band + 1, 0, positions)
    at = np.arange(times)
    score = (padded[..., high, at] - padded[..., low, at]).mean(axis=-1)
    # A better line must be better by more than rounding.
    best = np.argmax(score >= score.max(axis=-1, keepdims=True) - 1e-12, axis=-1)
    return np.take_along_axis(score, best[..., None], axis=-1)[..., 0], (last - first)[best] / (times - 1)


def max_jump(matrix: ArrayLike) -> Floats:
    """Greatest step between the likeliest positions of consecutive times, as a share of the positions; `(...)`.

    The criterion of Silva, Feng & Foster 2015 (Nat Neurosci 18, 1772): an event with a large jump is no trajectory.

    Raises:
        ConfigError: fewer than two times, or a negative entry
    """
    p = _matrix(matrix)
    if p.shape[-1] < 2:
        raise ConfigError(f"max_jump: {p.shape[-1]} times; at least 2 are needed")
    jump: Floats = np.abs(np.diff(p.argmax(axis=-2), axis=-1)).max(axis=-1) / p.shape[-2]
    return jump


def sequenceness(series: ArrayLike, transitions: ArrayLike, *, max_lag: int) -> tuple[Floats, Floats]:
    """Forward and backward sequenceness at lags 1 .. `max_lag`, `(max_lag,)` (TDLM: Liu et al. 2021, eLife 10:e66917).

    For each lag each state's `series` `(times, states)` is regressed on all states so long before, and the coefficients on
    the `transitions` `(states, states)` (from row to column), their transpose, the identity and a constant. Coefficients of
    the first two are the result. Before the beginning the series counts as 0.

    Raises:
        ConfigError: shapes that do not fit, a lag below 1, or transitions that are as likely backwards
    """
    x, forward = np.asarray(series, dtype=np.float64), np.asarray(transitions, dtype=np.float64)
    if x.ndim != 2 or forward.shape != (x.shape[1], x.shape[1]):
        raise ConfigError(f"sequenceness: series {x.shape} and transitions {forward.shape}; the states must be the same")
    if not 1 <= max_lag < len(x):
        raise ConfigError(f"max_lag = {max_lag}: must be between 1 and {len(x) - 1}, one less than the times")
    if np.allclose(forward, forward.T):
        raise ConfigError("transitions: as likely backwards as forwards; nothing tells the directions apart")
    states = x.shape[1]
    design = np.stack([part.ravel() for part in (forward, forward.T, np.eye(states), np.ones((states, states)))], axis=1)
    found = []
    for lag in range(1, max_lag + 1):
        before = np.concatenate([np.zeros((lag, states)), x[:-lag]])
        regressors = np.column_stack([before, np.ones(len(x))])
        # By the normal equations: a series is long, and its states are few.
        empirical = np.linalg.pinv(regressors.T @ regressors, hermitian=True) @ (regressors.T @ x)
        found.append(np.linalg.pinv(design) @ empirical[:-1].ravel())
    coefficients = np.array(found)
    return coefficients[:, 0], coefficients[:, 1]


def _matrix(matrix: ArrayLike) -> Floats:
    p = np.asarray(matrix, dtype=np.float64)
    if p.ndim < 2 or not p.size:
        raise ConfigError(f"matrix: shape {p.shape}, must end in (positions, times)")
    if not (p >= 0).all():
        raise ConfigError("matrix: an entry is negative or NaN; all must be 0 or more")
    return p
