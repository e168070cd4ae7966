"""What each column of the exported tables means, its type and its unit; the tables are those of docs/run-folder.md, tidied.

`events` is told apart into `replays` and `remindings`, which are two kinds of observation with columns of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Type = Literal["integer", "number", "flag", "text", "told", "place", "states"]


@dataclass(frozen=True)
class Described:
    """A column: its name in `run.sqlite` and in the export, type, unit and meaning.

    Types `told` (a number or text, as the environment tells), `place` and `states` depend on the run; see `tables`.
    """

    name: str
    type: Type
    unit: str
    meaning: str


@dataclass(frozen=True)
class TableOf:
    """An exported table: the table of `run.sqlite` it comes from, which of its rows, and its columns."""

    source: str
    columns: tuple[Described, ...]
    condition: str = "1"


_STEP = Described("step", "integer", "steps", "step of the stream, from 0; all streams take it at once")
_STREAM = Described("stream", "integer", "", "which of the streams side by side, from 0")
_EPISODE = Described("episode", "integer", "", "episode (of a task: sequence) of the stream, from 0")
_POSITION = Described("position", "integer", "steps", "step within the episode, from 0")
_LOSS = Described("loss", "number", "", "weighted loss of the step")
_REWARD = Described("reward", "number", "as the environment's", "what the step was paid")
_TD_ERROR = Described("td_error", "number", "as rewards", "reward + gamma (value after) - value")
_HIDDEN = TableOf("hidden", (_STEP, _STREAM, Described("h", "states", "", "hidden state of the network after the step")))

_READ = (
    Described("step", "integer", "steps", "the step that read the remembered state"),
    _STREAM,
    _EPISODE,
    Described("source_step", "integer", "steps", "when the remembered state was formed"),
    Described("lag", "integer", "steps", "step - source_step"),
    Described("weight", "number", "", "recall weight at the step, 0 to 1"),
)
_REPLAYED = (
    Described("credit", "number", "", "L2 norm of dL/dm, the credit that reached the remembered state"),
    Described("replayed_steps", "integer", "steps", "steps run again and backtracked around the remembered state"),
    Described("update_step", "integer", "steps", "the last step of the update in which it was replayed"),
)
_BOUNDS = (
    _STREAM,
    _EPISODE,
    Described("first_step", "integer", "steps", "its first step"),
    Described("last_step", "integer", "steps", "its last step"),
)
_LEARNED = (
    Described("replays_per_update", "number", "", "segments replayed per stream and update since the row before"),
    Described("updates", "integer", "", "parameter updates so far"),
    Described("gradient_norm", "number", "", "norm of the last update's gradient, before the clip"),
)
_CLOCK = (
    _STEP,
    Described("seconds", "number", "s", "wall time of the run so far"),
    Described("steps_per_second", "number", "1/s", "of training, since the process began"),
    Described("rss_mb", "number", "10^6 bytes", "resident memory"),
    Described("date", "text", "UTC", "when the row was written"),
)
_ENV_STEPS = Described("env_steps", "integer", "steps", "environment steps so far, all streams together")
_SEQUENCES = Described("sequences", "integer", "", "training sequences completed so far, all streams together")
_SPLIT = Described("split", "text", "", "train: since the row before; otherwise an evaluation, final at the end")

AGENT: dict[str, TableOf] = {
    "steps": TableOf(
        "steps",
        (
            *(_STEP, _STREAM, _EPISODE, _POSITION),
            Described("action", "integer", "", "number of the action taken"),
            _REWARD,
            Described("value", "number", "as rewards", "the agent's value of the state before the action"),
            _TD_ERROR,
            Described("entropy", "number", "nats", "of the policy"),
            Described("place", "place", "as the environment's", "where the agent is seen to be"),
            Described("epoch", "told", "", "epoch of the session, as the environment tells"),
            Described("phase", "told", "", "phase, as the environment tells"),
            Described("causal_step", "integer", "steps", "position of the step that earned the reward"),
        ),
    ),
    "replays": TableOf("events", (*_READ, *_REPLAYED, _REWARD, _TD_ERROR), "kind = 'replay'"),
    "remindings": TableOf("events", (*_READ, _REWARD, _TD_ERROR), "kind = 'reminding'"),
    "episodes": TableOf(
        "episodes",
        (
            *_BOUNDS,
            Described("return", "number", "as rewards", "sum of rewards"),
            Described("length", "integer", "steps", "number of steps"),
            Described("success", "flag", "", "whether it succeeded, where the environment tells"),
            Described("terminated", "flag", "", "whether the environment ended it"),
            Described("truncated", "flag", "", "whether it was cut off"),
        ),
    ),
    "metrics": TableOf(
        "metrics",
        (
            *(_ENV_STEPS, _STEP, _SPLIT),
            Described("episodes", "integer", "", "episodes that ended"),
            Described("return", "number", "as rewards", "their mean return"),
            Described("length", "number", "steps", "their mean length"),
            Described("judged", "integer", "", "of how many the environment tells success"),
            Described("success", "number", "", "share of these that succeeded"),
            Described("td_error", "number", "as rewards", "mean absolute TD error"),
            Described("entropy", "number", "nats", "mean entropy of the policy"),
            *_LEARNED,
        ),
    ),
    "clock": TableOf("clock", (_ENV_STEPS, *_CLOCK)),
    "hidden": _HIDDEN,
}
"""The tables of an agent's run."""

TASK: dict[str, TableOf] = {
    "steps": TableOf(
        "steps",
        (
            *(_STEP, _STREAM, _EPISODE, _POSITION, _LOSS),
            Described("scored", "flag", "", "whether the step counts for the metric"),
            Described("correct", "number", "", "the step's metric, where it is scored"),
        ),
    ),
    "replays": TableOf("events", (*_READ, *_REPLAYED, _LOSS), "kind = 'replay'"),
    "remindings": TableOf("events", (*_READ, _LOSS), "kind = 'reminding'"),
    "episodes": TableOf(
        "episodes",
        (
            *_BOUNDS,
            Described("loss", "number", "", "total weighted loss"),
            Described("metric", "number", "", "the task's metric over the scored steps"),
        ),
    ),
    "metrics": TableOf(
        "metrics",
        (
            *(_SEQUENCES, _STEP, _SPLIT),
            Described("evaluated", "integer", "", "of how many sequences the figures are means"),
            Described("loss", "number", "", "mean total loss of a sequence"),
            Described("metric", "number", "", "the task's metric"),
            *_LEARNED,
        ),
    ),
    "clock": TableOf("clock", (_SEQUENCES, *_CLOCK)),
    "hidden": _HIDDEN,
}
"""The tables of a supervised run."""
