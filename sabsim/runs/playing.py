"""What a run has learned, played on held-out sequences, also of other lengths than those it was trained on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch

from sabsim.errors import ConfigError
from sabsim.runs.build import build_learner
from sabsim.runs.checkpoint import Checkpoint
from sabsim.runs.config import RunConfig
from sabsim.runs.evaluate import held_out
from sabsim.runs.machine import git_revision, sabsim_version, utc_now
from sabsim.tasks import Part

SEQUENCES = 1000
"""Held-out sequences where there are as many as wanted."""

_WINDOW = 32
"""Steps of the window with which a network trained by credit bptt is played."""


def at_length(config: RunConfig, T: int) -> RunConfig:
    """The run's configuration with sequences of another T.

    Raises:
        ConfigError: the task has no T, or not this one
    """
    if "T" not in {item.name for item in fields(config.task)}:
        raise ConfigError(f"T = {T}: task {config.task.name} has no T")
    return replace(config, task=replace(config.task, **{"T": T}))


def play(
    config: RunConfig,
    checkpoint: Checkpoint,
    *,
    part: Part,
    sequences: int | None = None,
    after_sequence: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Play what `checkpoint` holds as `config` says; returns what `sabsim evaluate` tells of it.

    Arguments:
        config: that of the run, or with another length, seed or device
        sequences: by default all of the data, or `SEQUENCES` where there are as many as wanted
        after_sequence: hears of those done

    Raises:
        ConfigError: parameters that do not fit the configuration
        NonFiniteError: the loss is NaN or infinite
    """
    config = _fitting(config).resolved()
    learner = build_learner(config, learning=False)
    for name, parameter in learner.learned.items():
        value = checkpoint.played.get(name)
        if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
            raise ConfigError(f"slots = {config.learner.slots}: parameter {name} has a shape that does not fit the run's")
        parameter.copy_(value)
    began = time.perf_counter()
    available = config.task.available(part)
    if sequences is None:
        sequences = SEQUENCES if available is None else available
    seed, task, stagger = config.run.seed, config.task, config.run.stagger
    result = held_out(
        learner, task, sequences=sequences, seed=seed, part=part, stagger=stagger, after_sequence=after_sequence
    )
    return {
        "task": task.name,
        **task.facts(),
        **({"part": result.part} if available is not None else {}),
        "sequences": result.sequences,
        task.metric: result.metric,
        "standard_error": result.standard_error,
        "perfect_sequences": result.perfect,
        "loss": result.loss,
        "baselines": task.baselines(),
        "slots": learner.retention.slots if learner.credit.recalls or learner.credit.attends else 0,
        "trained_sequences": checkpoint.numbers["sequences"],
        "trained_steps": checkpoint.numbers["step"],
        "seed": seed,
        "device": str(learner.device),
        "seconds": time.perf_counter() - began,
        "sabsim": sabsim_version(),
        "git": git_revision(),
        "date": utc_now(),
    }


def _fitting(config: RunConfig) -> RunConfig:
    """The same with the memory that playing sequences of this length needs, and no more."""
    learner = config.learner
    if learner.credit == "bptt":
        # Whole sequences are for the way back; forward a short window does the same.
        learner = replace(learner, credit="tbptt", k_trunc=_WINDOW, update_every=None)
    if learner.retention == "all" and learner.slots is not None:
        # This policy is not bounded by its nature: a longer sequence has more to keep.
        learner = replace(learner, slots=max(learner.slots, config.slots_for_all()))
    return replace(config, learner=learner)
