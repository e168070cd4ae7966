"""What an NWB file of a run holds: which series and tables, of which columns, in what units, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..folders import Run
from ..laps import TRACK

Kind = Literal["time", "number", "count", "flag", "text"]

HALF = 0.5
"""An interval ends half a step after its last step: two that follow each other must not touch."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table, or the values of a series.

    Attributes:
        name: as in the file
        expression: SQL over a table of `Snapshot`; of a time, its value in steps
        meaning: one sentence for the file
        kind: time (in s), number, count (an integer), flag (whether) or text
        unit: of a number
    """

    name: str
    expression: str
    meaning: str
    kind: Kind = "number"
    unit: str = "n.a."


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """A table of intervals: its name, the snapshot's `table`, and its columns after start and stop."""

    name: str
    table: str
    meaning: str
    columns: tuple[Column, ...]
    first: str = "first_step"
    last: str = "last_step"

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """With start and stop."""
        first, last = "Time of the first step, in s.", "Half a step after the last step, in s."
        start = Column(name="start_time", expression=self.first, kind="time", meaning=first)
        stop = Column(name="stop_time", expression=f"{self.last} + {HALF}", kind="time", meaning=last)
        return (start, stop, *self.columns)


_EPISODE = Column(
    name="episode", expression="episode", kind="count", meaning="Number of the episode in its stream, from 0."
)
_RECORDED = Column(
    name="is_recorded",
    expression="is_recorded",
    kind="flag",
    meaning="Whether the single steps of the trial are recorded.",
)
_TD_ERROR = "Temporal-difference error: reward + gamma (value after) - value."


def trials(run: Run) -> Intervals:
    """Episodes of an agent, or sequences of a task, that have ended."""
    columns: tuple[Column, ...]
    if run.agent:
        columns = (
            _EPISODE,
            Column(name="return", expression='"return"', meaning="Sum of the trial's rewards."),
            Column(name="success", expression="success", kind="flag", meaning="Whether it succeeded, where that is told."),
            Column(name="terminated", expression="terminated", kind="flag", meaning="Whether the environment ended it."),
            Column(name="truncated", expression="truncated", kind="flag", meaning="Whether it was cut off."),
            _RECORDED,
        )
        return Intervals(name="trials", table="trials", meaning="Episodes that have ended.", columns=columns)
    columns = (
        _EPISODE,
        Column(name="loss", expression="loss", meaning="Total weighted loss of the sequence."),
        Column(name="metric", expression="metric", meaning="The task's metric, mean over the sequence's scored steps."),
        _RECORDED,
    )
    return Intervals(name="trials", table="trials", meaning="Training sequences that have ended.", columns=columns)


def replay(run: Run) -> Intervals:
    """One row per trigger: overlapping or touching rows would lose all their columns in pynapple."""
    source = "the source that got the most credit"
    columns = [
        Column(
            name="sources", expression="sources", kind="count", meaning="How many states were replayed from this trigger."
        ),
        Column(name="credit", expression="total", meaning="Credit that reached them: sum of the L2 norms of dL/dm."),
        Column(name="source_time", expression="source_step", kind="time", meaning=f"When {source} was met, in s."),
        Column(name="source_weight", expression="weight", meaning=f"Recall weight of {source}, 0 to 1."),
        Column(
            name="update_time",
            expression="update_step",
            kind="time",
            meaning=f"When {source} was replayed: the last step of the update, in s.",
        ),
    ]
    if run.agent:
        paid = "Whether the triggering step was paid, that is its reward is not 0."
        columns += [
            Column(name="is_rewarded", expression="reward != 0", kind="flag", meaning=paid),
            Column(name="td_error", expression="td_error", meaning=_TD_ERROR),
        ]
    else:
        columns.append(Column(name="loss", expression="loss", meaning="Weighted loss at the triggering step."))
    return Intervals(
        name="replay",
        table="triggers",
        first="step",
        last="step",
        meaning=(
            "Replay, one row per trigger: the step that recalled with the greatest weight in the window whose update "
            "replayed. The single sources are the series replay_*."
        ),
        columns=tuple(columns),
    )


def told(what: str) -> Intervals:
    """Epochs or phases."""
    value = Column(name=what, expression="value", kind="text", meaning=f"The {what}, as the environment tells.")
    return Intervals(
        name=f"{what}s",
        table=f"told_{what}",
        meaning=f"Stretches of recorded steps of one episode in which the environment tells one {what}.",
        columns=(value,),
    )


LAPS = Intervals(
    name="laps",
    table="laps",
    meaning="Runs from one end of the track to the other: from the first step seen away from an end to the arrival.",
    columns=(
        Column(name="towards", expression="towards", kind="text", meaning="The end that the lap leads to, left or right."),
        Column(name="phase", expression="phase", kind="text", meaning="The session's phase when the lap begins."),
        Column(name="reward", expression="reward", meaning="What the actions of the lap were paid."),
    ),
)


def has_laps(run: Run) -> bool:
    """Whether the environment is the linear track."""
    return run.agent and run.config.get("env") == TRACK


STEP_SERIES = {
    True: (
        Column(name="action", expression="action", kind="count", meaning="Number of the action taken."),
        Column(name="reward", expression="reward", meaning="Reward paid at the step, as the environment gave it; or 0."),
        Column(name="value", expression="value", meaning="The agent's value of the state before the action."),
        Column(name="td_error", expression="td_error", meaning=_TD_ERROR),
        Column(name="entropy", expression="entropy", unit="nats", meaning="Entropy of the policy."),
    ),
    False: (
        Column(name="loss", expression="loss", meaning="Weighted loss of the step."),
        Column(name="correct", expression="correct", meaning="The step's metric; NaN where it is not scored."),
    ),
}
"""Series of the recorded steps; whether of an agent."""

_LINK = "of each replayed source"
LINK_SERIES = (
    Column(name="replay_source_time", expression="source_step", kind="time", unit="seconds", meaning=f"When met, {_LINK}."),
    Column(
        name="replay_update_time",
        expression="update_step",
        kind="time",
        unit="seconds",
        meaning=f"When replayed, the last step of the update, {_LINK}.",
    ),
    Column(name="replay_weight", expression="weight", meaning=f"Recall weight at the trigger, {_LINK}, 0 to 1."),
    Column(name="replay_credit", expression="credit", meaning=f"L2 norm of dL/dm, {_LINK}."),
    Column(
        name="replay_steps",
        expression="replayed_steps",
        kind="count",
        unit="steps",
        meaning=f"Steps backtracked, {_LINK}.",
    ),
    Column(name="replay_reward", expression="reward", meaning=f"Reward paid at the trigger, {_LINK}."),
)
"""Series with one value per replayed source, at the trigger's time."""

REWARDS = (
    Column(name="timestamp", expression="step", kind="time", meaning="Time of the step that was paid, in s."),
    Column(name="reward", expression="reward", meaning="What was paid."),
    Column(
        name="causal_time",
        expression="step - position + causal_step",
        kind="time",
        meaning="Time of the step that earned it, where the environment tells, in s; else NaN.",
    ),
)
"""Columns of the table of rewards."""


def place_axes(kinds: list[tuple[str, int | None, str | None]]) -> list[str]:
    """SQL for each coordinate of the column `place`; none if places are not all numbers, or all 2 or 3 of them.

    `kinds`: the rows of `PLACE_KINDS`.
    """
    numbers = {"integer", "real"}
    if kinds and {kind for kind, _, _ in kinds} <= numbers:
        return ["place"]
    lengths = {length for _, length, _ in kinds}
    if len(lengths) == 1 and {element for _, _, element in kinds} <= numbers and (length := lengths.pop()) in (2, 3):
        return [f"json_extract(place, '$[{axis}]')" for axis in range(length)]
    return []


PLACE_KINDS = """
SELECT DISTINCT typeof(place), json_array_length(json), json_type(json, '$[0]')
FROM (SELECT place, CASE WHEN typeof(place) = 'text' AND json_valid(place) THEN place END AS json
      FROM steps WHERE place IS NOT NULL)
"""
"""The query for `place_axes`: of each kind of place told, its type, and of a JSON array its length and first type."""
