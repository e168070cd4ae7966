"""How often replay and reminding come, how far back they reach, and how much credit replay carries.

Each measure is of one run, so one number per seed; whether seeds agree is for `statistics`. Each raises RunFolderError with
the reason where a run has nothing to measure. Steps are those of one stream. Replay around reward and on causal steps:
`peri_reward`, `causal`; places: `places`, `laps`; order: `sequences`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sabsim.errors import RunFolderError

from .nulls import uniform_share
from .recorded import Recorded, keys

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How often: `replays` in `episodes` recorded episodes that have ended, of `steps` steps together.

    `remindings`: forward events at the `single_steps` steps that are recorded one by one, from the recorder's least weight
    (0.05) on.
    """

    episodes: int
    steps: int
    replays: int
    single_steps: int
    remindings: int

    @property
    def per_step(self) -> float:
        """Replays per step."""
        return self.replays / self.steps

    @property
    def per_episode(self) -> float:
        """Replays per episode."""
        return self.replays / self.episodes

    @property
    def remindings_per_step(self) -> float | None:
        """Remindings per step, or `None` where no single step is recorded."""
        return self.remindings / self.single_steps if self.single_steps else None


@dataclass(frozen=True, kw_only=True)
class Lags:
    """How far back, of `n` replays: shares `observed` and `uniform` in bins [edges[k], edges[k + 1]) of lags, in steps.

    `uniform` is expected if sources were uniform over the past of the triggering step's episode. `edges` `(bins + 1,)`.
    """

    n: int
    median: float
    edges: Ints
    observed: Floats
    uniform: Floats


@dataclass(frozen=True, kw_only=True)
class CreditCorrelations:
    """Spearman's rank correlation of credit with the size of the signal at the trigger; `None` if one is constant.

    Of agents `td_error` and `reward`, of tasks `loss`.
    """

    n: int
    td_error: float | None = None
    reward: float | None = None
    loss: float | None = None


def rates(run: Recorded) -> Rates:
    """Replays in the recorded episodes that have ended; 0 for a run that never replays.

    Raises RunFolderError: if no episode has ended.
    """
    episodes = run.episodes
    if not len(episodes["episode"]):
        raise RunFolderError(f"'{run.run.path}': no recorded episode has ended yet")
    ended = keys(episodes["stream"], episodes["episode"])
    begun = np.concatenate([keys(run.replays["stream"], run.replays["episode"]), run.beyond])
    inside = np.isin(begun, ended)
    return Rates(
        episodes=len(ended),
        steps=int(episodes["length"].sum()),
        replays=int(inside.sum()),
        single_steps=len(run.steps["step"]),
        remindings=len(run.remindings["step"]) + run.remindings_beyond,
    )


def lags(run: Recorded) -> Lags:
    """The distribution of lags in bins that double: 1, 2-3, 4-7, ...

    Raises RunFolderError: if nothing was replayed.
    """
    run.need_replays()
    lag, room = run.replays["lag"], run.replays["position"]
    edges = 2 ** np.arange(int(room.max()).bit_length() + 1)
    observed = np.histogram(lag, edges)[0] / len(lag)
    uniform = uniform_share(room, edges)
    return Lags(n=len(lag), median=float(np.median(lag)), edges=edges, observed=observed, uniform=uniform)


def credit_correlations(run: Recorded) -> CreditCorrelations:
    """Whether more credit goes back where the TD error, the reward or the loss is greater; over single replays.

    Raises RunFolderError: if fewer than 3 replays are recorded.
    """
    run.need_replays()
    replays = run.replays
    if len(replays["credit"]) < 3:
        raise RunFolderError(f"'{run.run.path}': {len(replays['credit'])} replays; a correlation needs 3")
    found = {name: _spearman(replays["credit"], np.abs(replays[name])) for name in run.signals}
    return CreditCorrelations(n=len(replays["credit"]), **found)


def _spearman(x: Floats, y: Floats) -> float | None:
    use = np.isfinite(x) & np.isfinite(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        found = float(stats.spearmanr(x[use], y[use]).statistic) if use.sum() > 2 else np.nan
    return found if np.isfinite(found) else None
