"""What the explorer shows: a stretch of one episode, its pictures and signals, what was read and where credit went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..filmed import Episode, Picture

MOST_STEPS = 300
"""Steps that a report shows at most."""
MOST_ARCS = 200
"""Replays that a report shows at most, those of greatest credit."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Step ``step`` read the microstate that step ``source`` left, with the recall weight ``weight``."""

    step: int
    source: int
    weight: float


@dataclass(frozen=True, kw_only=True)
class Arc(Reading):
    """A replay: ``credit`` reached the microstate and went through ``length`` steps, the last one ``source``.

    It is the work of the update after the window from step ``begin`` to ``end``, both included.
    """

    credit: float
    length: int
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Series:
    """A signal of each step, ``(steps,)``, NaN where there is none; ``kind``: how it is drawn."""

    name: str
    values: NDArray[np.float64]
    kind: Literal["line", "bar"] = "line"


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Steps ``first`` to ``first + steps - 1`` of an episode. All step numbers count from its beginning.

    Attributes:
        title: which episode of which run, and what became of it
        notes: what a reader must know of it: why it was chosen, that it is cut, why there are no frames
        frames: one per step, drawn before the step's action; empty where there are none
        actions: what was done at each step; empty where nothing acts
        series: the signals, drawn one below the other
        readings, arcs: forward and backward events whose two ends are both shown
        replays: whether the learner can replay at all
    """

    title: str
    notes: Sequence[str]
    first: int
    steps: int
    frames: Sequence[Picture]
    actions: Sequence[str]
    series: Sequence[Series]
    readings: Sequence[Reading]
    arcs: Sequence[Arc]
    replays: bool


def of_episode(episode: Episode, *, title: str, notes: Sequence[str]) -> Moments:
    """What there is to explore in an episode watched from its first step on, as ``sabsim.agents.watch`` does.

    At most ``MOST_STEPS`` of its steps; ``notes`` are followed by a line for whatever was cut.
    """
    steps = min(len(episode.reward), MOST_STEPS)
    told = list(notes)
    if not episode.over or steps < len(episode.reward):
        told.append(f"The episode goes on after step {steps - 1}, the last one shown.")
    window = episode.window
    arcs = [
        Arc(
            step=event.step,
            source=event.source,
            weight=event.weight,
            credit=event.credit,
            length=event.length,
            begin=event.window * window,
            end=event.window * window + window - 1,
        )
        for event in episode.replayed
        if event.step < steps
    ]
    arcs, left_out = strongest(arcs)
    return Moments(
        title=title,
        notes=[*told, *left_out],
        first=0,
        steps=steps,
        frames=episode.frames[:steps],
        actions=[episode.action_names.get(int(action), str(action)) for action in episode.action[:steps]],
        series=[
            Series(name="reward", values=episode.reward[:steps], kind="bar"),
            Series(name="TD error", values=episode.td_error[:steps], kind="bar"),
            Series(name="value", values=episode.value[:steps]),
        ],
        readings=[Reading(step=r.step, source=r.source, weight=r.weight) for r in episode.recalled if r.step < steps],
        arcs=arcs,
        replays=episode.replays,
    )


def strongest(arcs: Sequence[Arc]) -> tuple[list[Arc], list[str]]:
    """At most ``MOST_ARCS`` of them, in the order of their steps, and a line that says so if some were left out."""
    chosen = sorted(arcs, key=lambda arc: -arc.credit)[:MOST_ARCS]
    note = f"Of {len(arcs)} replays the {MOST_ARCS} of greatest credit are shown."
    return sorted(chosen, key=lambda arc: (arc.step, arc.source)), [note] if len(arcs) > MOST_ARCS else []
