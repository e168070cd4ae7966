"""What an agent's replay does: how often, how far back, around reward, onto the causal step, and with how much credit.

Each measure is of one run, so one number per seed; whether seeds agree is for `statistics`. Each raises RunFolderError with
the reason where a run has nothing to measure. Steps are environment steps of one stream.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sabsim.errors import RunFolderError

from .agent_runs import AgentRun, keys
from .nulls import lag_matched, uniform_past, uniform_share
from .statistics import LogRatio, log_rate_ratio

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How often: `replays` in `episodes` recorded episodes that have ended, of `steps` steps together."""

    episodes: int
    steps: int
    replays: int

    @property
    def per_step(self) -> float:
        """Replays per step."""
        return self.replays / self.steps

    @property
    def per_episode(self) -> float:
        """Replays per episode."""
        return self.replays / self.episodes


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
class PeriReward:
    """Replays triggered per step, `rate` `(offsets,)`, at `offset` steps from a paid step of the same episode.

    `steps` is how many recorded steps lie there, and `rate` is NaN where there are none; a step may lie at two offsets.
    `mean`: over all recorded steps. `near`: logarithm of the ratio of the rates at most `window` steps before or after a
    paid one and farther away; `None` if one of the two has no steps or both no replay.
    """

    rewards: int
    offset: Ints
    steps: Ints
    rate: Floats
    mean: float
    window: int
    near: LogRatio | None


@dataclass(frozen=True, kw_only=True)
class Null:
    """A fraction under a null model: mean and central 95 % of its draws."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class CausalFraction:
    """Of `n` replays, the `fraction` whose replayed segment holds the causal step; the same of sources of two nulls."""

    n: int
    fraction: float
    lag_matched: Null
    uniform: Null


@dataclass(frozen=True, kw_only=True)
class CreditCorrelations:
    """Spearman's rank correlation of credit with |TD error| and |reward| at the trigger; `None` if one is constant."""

    n: int
    td_error: float | None
    reward: float | None


def rates(run: AgentRun) -> Rates:
    """Replays in the recorded episodes that have ended; 0 for a run that never replays.

    Raises RunFolderError: if no episode has ended.
    """
    episodes = run.episodes
    if not len(episodes["episode"]):
        raise RunFolderError(f"'{run.run.path}': no recorded episode has ended yet")
    ended = keys(episodes["stream"], episodes["episode"])
    inside = np.isin(keys(run.replays["stream"], run.replays["episode"]), ended)
    return Rates(episodes=len(ended), steps=int(episodes["length"].sum()), replays=int(inside.sum()))


def lags(run: AgentRun) -> Lags:
    """The distribution of lags in bins that double: 1, 2-3, 4-7, ...

    Raises RunFolderError: if nothing was replayed.
    """
    run.need_replays()
    lag, room = run.replays["lag"], run.replays["position"]
    edges = 2 ** np.arange(int(room.max()).bit_length() + 1)
    observed = np.histogram(lag, edges)[0] / len(lag)
    uniform = uniform_share(room, edges)
    return Lags(n=len(lag), median=float(np.median(lag)), edges=edges, observed=observed, uniform=uniform)


def peri_reward(run: AgentRun, *, reach: int = 20) -> PeriReward:
    """Replay triggers around paid steps (reward not 0), up to `reach` steps before and after, in recorded episodes.

    Raises RunFolderError: if nothing was replayed, or no recorded step was paid.
    """
    run.need_replays()
    run.need_rewards()
    steps, known = run.steps, keys(run.steps["stream"], run.steps["step"])
    paid = np.flatnonzero(steps["reward"] != 0)
    offsets = np.arange(-reach, reach + 1)
    at, present = np.zeros(len(offsets), dtype=np.int64), np.zeros(len(offsets), dtype=np.int64)
    near = np.zeros(len(known), dtype=bool)
    for place, offset in enumerate(offsets):
        found = np.minimum(np.searchsorted(known, known[paid] + offset), len(known) - 1)
        same = (known[found] == known[paid] + offset) & (steps["episode"][found] == steps["episode"][paid])
        rows = found[same]
        at[place], present[place] = steps["replays"][rows].sum(), len(rows)
        if abs(offset) <= run.window:
            near[rows] = True
    rate = np.divide(at, present, out=np.full(len(offsets), np.nan), where=present > 0)
    counts = [int(steps["replays"][part].sum()) for part in (near, ~near)]
    compared = near.any() and not near.all() and any(counts)
    ratio = log_rate_ratio(counts[0], int(near.sum()), counts[1], int((~near).sum())) if compared else None
    return PeriReward(
        rewards=len(paid),
        offset=offsets,
        steps=present,
        rate=rate,
        mean=float(steps["replays"].mean()),
        window=run.window,
        near=ratio,
    )


def causal_fraction(run: AgentRun, *, draws: int = 200, seed: int = 0) -> CausalFraction:
    """How often the replayed segment holds the causal step: the one that earned the next reward, as the environment tells.

    Of each replay triggered in an episode with recorded steps, the first paid step at or after the trigger tells its causal
    step; replays that come before it, or after the last reward, are not counted. A segment is the `replayed_steps` steps up
    to the source; in a null it is as long as the episode allows, up to the longest one of the run.

    Raises RunFolderError: if nothing was replayed, no step was recorded, or none tells a causal step before a replay.
    """
    run.need_replays()
    run.need_steps()
    steps, replays = run.steps, run.replays
    told = np.flatnonzero(steps["causal_step"] >= 0)
    chosen, causal = _next_causal(run, told)
    if not len(chosen):
        raise RunFolderError(f"'{run.run.path}': no recorded step tells a causal step that lies before a replay")
    position, lag = replays["position"][chosen], replays["lag"][chosen]
    longest = int(replays["replayed_steps"].max())
    source = position - lag
    held = (source - replays["replayed_steps"][chosen] < causal) & (causal <= source)
    rng = np.random.default_rng(seed)
    found = []
    for null in (lag_matched(lag, position, draws, rng), uniform_past(position, draws, rng)):
        drawn = (position - other for other in null)
        found.append(np.array([((there - longest < causal) & (causal <= there)).mean() for there in drawn]))
    matched, uniform = (_null(fractions) for fractions in found)
    return CausalFraction(n=len(chosen), fraction=float(held.mean()), lag_matched=matched, uniform=uniform)


def credit_correlations(run: AgentRun) -> CreditCorrelations:
    """Whether more credit goes back where the TD error, or the reward, is greater; over single replays.

    Raises RunFolderError: if fewer than 3 replays are recorded.
    """
    run.need_replays()
    replays = run.replays
    if len(replays["credit"]) < 3:
        raise RunFolderError(f"'{run.run.path}': {len(replays['credit'])} replays; a correlation needs 3")
    found = {name: _spearman(replays["credit"], np.abs(replays[name])) for name in ("td_error", "reward")}
    return CreditCorrelations(n=len(replays["credit"]), td_error=found["td_error"], reward=found["reward"])


def _next_causal(run: AgentRun, told: Ints) -> tuple[Ints, Ints]:
    """Replays whose episode later tells a causal step before their trigger, and that step's position; both `(n,)`."""
    steps, replays = run.steps, run.replays
    if not len(told):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    known = keys(steps["stream"][told], steps["step"][told])
    at = np.searchsorted(known, keys(replays["stream"], replays["step"]))
    later = np.flatnonzero((at < len(known)) & (replays["row"] >= 0))
    rows = told[at[later]]
    same = (steps["stream"][rows] == replays["stream"][later]) & (steps["episode"][rows] == replays["episode"][later])
    causal = steps["causal_step"][rows]
    use = same & (causal < replays["position"][later])
    return later[use], causal[use]


def _null(fractions: Floats) -> Null:
    low, high = np.quantile(fractions, [0.025, 0.975])
    return Null(mean=float(fractions.mean()), low=float(low), high=float(high))


def _spearman(x: Floats, y: Floats) -> float | None:
    use = np.isfinite(x) & np.isfinite(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        found = float(stats.spearmanr(x[use], y[use]).statistic) if use.sum() > 2 else np.nan
    return found if np.isfinite(found) else None
