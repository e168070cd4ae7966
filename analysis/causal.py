"""Does replay land on the causal step: the one that earned the reward, or that showed what an output wants?

Of agents the environment tells it with the reward (`causal_step`). Where that is the last decision before the reward, no
replay can lie between; in the passive T-maze it is the turn, so there the cue's step stands for it: the first of the
episode, which is what has to be remembered. Copying tells it for each output; adding and denoise draw theirs anew in each
sequence, and the run folder does not hold them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

from .agent_runs import AgentRun
from .nulls import lag_matched, uniform_past
from .recorded import Recorded, keys

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PARTS = ("early", "middle", "late")
"""Thirds of the training that is recorded."""
_MAZE = "sabsim/TMaze-v0"


@dataclass(frozen=True, kw_only=True)
class Null:
    """A fraction under a null model: mean and central 95 % of its draws."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """Of `n` of the replays: the `fraction` on the causal step and the means of two nulls; `None` if n is 0."""

    n: int
    fraction: float | None
    lag_matched: float | None
    uniform: float | None


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of the credit, and what it would be with the sources of two nulls."""

    observed: float
    lag_matched: float
    uniform: float


@dataclass(frozen=True, kw_only=True)
class CausalFraction:
    """Of `n` replays, the `fraction` whose replayed segment holds the causal step; the same of sources of two nulls.

    `credit`: the share of all credit that these replays carry, and of two nulls' means, each source with the credit of the
    replay in whose place it is: most replays carry little, since a learner replays what it may, up to its budget.
    `outcome`: fractions of the replays triggered at the very step that tells the causal step, with the reward or the wanted
    output; the others are on the way there. `parts`: fractions by thirds of training, in the order of `PARTS`.
    """

    n: int
    fraction: float
    lag_matched: Null
    uniform: Null
    credit: Share
    outcome: Part
    parts: tuple[Part, ...]


def causal_fraction(run: Recorded, *, draws: int = 200, seed: int = 0) -> CausalFraction:
    """How often the replayed segment holds the causal step.

    Of an agent's replay, triggered in an episode with recorded steps, the first step at or after the trigger that tells a
    causal step tells its own; of a task's, the trigger itself. Replays that come before it, or that no such step follows,
    are not counted. A segment is the `replayed_steps` steps up to the source; in a null it is as long as the episode
    allows, up to the longest one of the run.

    Raises RunFolderError: if nothing was replayed, no step was recorded, or none tells a causal step before a replay.
    """
    run.need_replays()
    run.need_steps()
    chosen, causal, told = _causal(run)
    if not len(chosen):
        raise RunFolderError(f"'{run.run.path}': {_why_none(run)}")
    replays = run.replays
    position, lag, length = (replays[name][chosen] for name in ("position", "lag", "replayed_steps"))
    held = _holds(position - lag, length, causal)
    longest, rng = int(replays["replayed_steps"].max()), np.random.default_rng(seed)
    nulls, expected = [], []
    for null in (lag_matched(lag, position, draws, rng), uniform_past(position, draws, rng)):
        share, total = [], np.zeros(len(chosen))
        for drawn in null:
            hit = _holds(position - drawn, longest, causal)
            share.append(hit.mean())
            total += hit
        nulls.append(_null(np.array(share)))
        expected.append(total / draws)
    credit = np.nan_to_num(replays["credit"][chosen])
    weighted = [_weighted(share, credit) for share in expected]
    part = _thirds(run, replays["step"][chosen])
    return CausalFraction(
        n=len(chosen),
        fraction=float(held.mean()),
        lag_matched=nulls[0],
        uniform=nulls[1],
        credit=Share(observed=_weighted(held, credit), lag_matched=weighted[0], uniform=weighted[1]),
        outcome=_part(told == replays["row"][chosen], held, *expected),
        parts=tuple(_part(part == index, held, *expected) for index in range(len(PARTS))),
    )


def _causal(run: Recorded) -> tuple[Ints, Ints, Ints]:
    """Replays whose causal step is known and lies before their trigger, its position, and the row that tells it; `(n,)`."""
    steps, replays = run.steps, run.replays
    told = np.flatnonzero(steps["causal_step"] >= 0)
    if not len(told):
        return told, told, told
    if isinstance(run, AgentRun):
        known = keys(steps["stream"][told], steps["step"][told])
        at = np.searchsorted(known, keys(replays["stream"], replays["step"]))
        chosen = np.flatnonzero((at < len(known)) & (replays["row"] >= 0))
        rows = told[at[chosen]]
    else:
        chosen = np.flatnonzero((replays["row"] >= 0) & (steps["causal_step"][replays["row"]] >= 0))
        rows = replays["row"][chosen]
    same = (steps["stream"][rows] == replays["stream"][chosen]) & (steps["episode"][rows] == replays["episode"][chosen])
    causal = np.zeros(len(rows), dtype=np.int64) if _shows_cue_first(run) else steps["causal_step"][rows]
    use = same & (causal < replays["position"][chosen])
    return chosen[use], causal[use], rows[use]


def _shows_cue_first(run: Recorded) -> bool:
    """Whether it is the passive T-maze: its cue is in the first observation and the reward follows the turn."""
    return run.what == _MAZE and not run.run.config["env_args"].get("active", False)


def _why_none(run: Recorded) -> str:
    if isinstance(run, AgentRun) or run.what == "copying":
        return "no recorded step tells a causal step that lies before a replay"
    return f"{run.what} draws its causal steps anew in each sequence, and the run folder does not hold them"


def _holds(source: Ints, length: Ints | int, causal: Ints) -> NDArray[np.bool_]:
    """Whether the segment of `length` steps up to `source` holds the step `causal`."""
    held: NDArray[np.bool_] = (source - length < causal) & (causal <= source)
    return held


def _thirds(run: Recorded, step: Ints) -> Ints:
    last = max(int(table["step"].max(initial=0)) for table in (run.steps, run.replays))
    third: Ints = len(PARTS) * step // (last + 1)
    return third


def _part(use: NDArray[np.bool_], *found: NDArray[np.generic]) -> Part:
    if not use.any():
        return Part(n=0, fraction=None, lag_matched=None, uniform=None)
    fraction, matched, uniform = (float(np.asarray(values, dtype=np.float64)[use].mean()) for values in found)
    return Part(n=int(use.sum()), fraction=fraction, lag_matched=matched, uniform=uniform)


def _weighted(share: NDArray[np.float64] | NDArray[np.bool_], weight: Floats) -> float:
    total = weight.sum()
    return float((share * weight).sum() / total) if total > 0 else 0.0


def _null(fractions: Floats) -> Null:
    low, high = np.quantile(fractions, [0.025, 0.975])
    return Null(mean=float(fractions.mean()), low=float(low), high=float(high))
