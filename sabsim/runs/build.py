"""From a description to the parts that run: network, credit, retention, optimiser, learner, task stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any, TypeVar, get_args

import torch

from sabsim.attentive import AttentiveLearner
from sabsim.backend import BackendName
from sabsim.cells import CELLS
from sabsim.choices import choose, require_at_least
from sabsim.credit import CREDIT_RULES, CreditRule, FullAttention, Immediate
from sabsim.errors import ConfigError
from sabsim.learner import StreamingLearner
from sabsim.network import FeedsName, Network, ReadoutName, StoresName
from sabsim.optim import OPTIMIZERS, Optimizer, Schedule
from sabsim.presets import PRESETS
from sabsim.retention import RETENTIONS, Retention
from sabsim.runs.config import RunConfig
from sabsim.runs.options import OptimizerOptions
from sabsim.salience import SALIENCES
from sabsim.sparsify import SPARSIFIERS
from sabsim.tasks import TaskStream

MOST_SEED = 2**62
"""Generators take 64 bits, and some are begun a little above the run's seed."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}
_PIECES = {
    "salience": tuple(SALIENCES),
    "sparsify": tuple(SPARSIFIERS),
    "stores": get_args(StoresName),
    "readout": get_args(ReadoutName),
    "feeds": get_args(FeedsName),
}
"""What a preset chooses, and an option may choose otherwise."""
_PartT = TypeVar("_PartT")


Learner = StreamingLearner | AttentiveLearner
"""What learns the sequences of a task."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is made of; `config` has device, backend and slots filled in."""

    config: RunConfig
    learner: Learner
    stream: TaskStream


def build(config: RunConfig) -> Parts:
    """The learner and the training stream that `config` describes.

    Raises:
        ConfigError: a name or a number that is not allowed, or two that do not fit each other
    """
    config = config.resolved()
    _check(config)
    stream = config.task.stream(
        streams=config.run.streams,
        seed=config.run.seed,
        device=config.run.device,
        dtype=DTYPES[config.run.dtype],
        stagger=config.run.stagger,
        gap=config.run.gap or 0,
    )
    learner = build_learner(config)
    config = replace(config, run=replace(config.run, backend=learner.backend))
    return Parts(config=config, learner=learner, stream=stream)


def build_learner(config: RunConfig, *, learning: bool = True) -> Learner:
    """The learner alone, with fresh parameters.

    Arguments:
        learning: False for one that only plays, without room for whole sequences where its rule needs that

    Raises:
        ConfigError: as `build`
    """
    config = config.resolved()
    backend: Any = choose("backend", config.run.backend, get_args(BackendName))
    network = build_network(config.learner, d_in=config.task.d_in, d_out=config.task.d_out)
    credit = build_credit(config)
    same: dict[str, Any] = {
        "retention": _retention_of_run(config),
        "optimizer": build_optimizer(config.optimizer),
        "streams": config.run.streams,
        "seed": config.run.seed,
        "device": config.run.device,
        "dtype": DTYPES[choose("dtype", config.run.dtype, DTYPES)],
    }
    if isinstance(credit, FullAttention):
        for name in (*_PIECES, "dropout", "recurrent_dropout"):
            if given := getattr(config.learner, name):
                raise ConfigError(f"{name} = {given!r}: credit {credit.name} does without; leave it out")
        return AttentiveLearner(network, credit=credit, learning=learning, backend=backend, **same)
    options = config.learner
    if options.recurrent_dropout and config.task.length is None:
        raise ConfigError(
            f"recurrent_dropout = {options.recurrent_dropout}: is drawn for each sequence, and {config.task.name} has none"
        )
    learner = StreamingLearner(
        network,
        credit=credit,
        backend=backend,
        dropout=options.dropout,
        recurrent_dropout=options.recurrent_dropout,
        familiar=options.familiar,
        **same,
    )
    learner.learning = learning
    return learner


def build_network(options: Any, *, d_in: int, d_out: int) -> Network:
    """Cell, salience, sparsifier, stored state, readout, what goes on: the preset's, unless an option says otherwise.

    Arguments:
        options: has the fields of `LearnerOptions` that describe the network

    Raises:
        ConfigError: an unknown name
    """
    preset = PRESETS[choose("preset", options.preset, PRESETS)]
    pieces = {name: getattr(options, name) or getattr(preset, name) for name in _PIECES}
    for name, allowed in _PIECES.items():
        choose(name, pieces[name], allowed)
    cell: Any = choose("cell", options.cell, CELLS)
    return Network(
        d_in=d_in,
        d_out=d_out,
        hidden=options.hidden,
        cell=cell,
        forget_bias=options.forget_bias,
        input_scale=options.input_scale,
        **pieces,
    )


def build_credit(config: RunConfig) -> CreditRule:
    """The credit rule with those of the options that it knows.

    Raises:
        ConfigError: an unknown rule, or a setting out of range
    """
    kind = CREDIT_RULES[choose("credit", config.learner.credit, CREDIT_RULES)]
    if kind is Immediate:  # a truncation of its own
        return Immediate(update_every=config.learner.update_every)
    known = {item.name for item in fields(kind)}
    values = {name: value for name, value in vars(config.learner).items() if name in known}
    if "length" in known:
        values["length"] = config.length
    return kind(**values)


def build_retention(options: Any) -> Retention:
    """The retention policy with its slots.

    Arguments:
        options: has the fields of `LearnerOptions` that describe the macrostate; `slots` is filled in

    Raises:
        ConfigError: an unknown policy, or an option of another one
    """
    kind = RETENTIONS[choose("retention", options.retention, RETENTIONS)]
    own = {name: getattr(options, name) for name in ("protect", "input_effect", "buffer")}
    return kind(slots=options.slots, **_own_options("retention", kind, own))


def _retention_of_run(config: RunConfig) -> Retention:
    """Raises ConfigError: as `build_retention`, or too few slots for retention `all`."""
    config = config.resolved()
    options = config.learner
    assert options.slots is not None
    if options.retention == "all" and options.slots < config.slots_for_all():
        raise ConfigError(
            f"slots = {options.slots}: retention all keeps every microstate of a sequence, "
            f"here at least {config.slots_for_all()}"
        )
    return build_retention(options)


def build_optimizer(options: OptimizerOptions) -> Optimizer:
    """The optimiser with its schedule; `options` are resolved.

    Raises:
        ConfigError: an unknown optimiser, or an option of another one
    """
    kind = OPTIMIZERS[choose("optimizer", options.optimizer, OPTIMIZERS)]
    schedule: Any = choose("lr_schedule", options.lr_schedule, get_args(Schedule))
    own = {name: getattr(options, name) for name in ("lr", "beta_1", "beta_2", "eps", "amsgrad", "decay", "momentum")}
    return kind(
        clip=options.clip,
        schedule=schedule,
        decay_updates=options.decay_updates or 0,
        restarts=options.restarts,
        weight_decay=options.weight_decay,
        lr_floor=options.lr_floor,
        warmup_updates=options.warmup_updates or 0,
        spike=options.spike,
        average=options.average,
        **_own_options("optimizer", kind, own),
    )


def _own_options(what: str, kind: type[_PartT], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `given` that were set; all of them must be settings of `kind`."""
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        if name not in known:
            rule = getattr(kind, "name", "")
            raise ConfigError(f"{name} = {value}: {what} {rule} has no such setting; leave it out")
    return chosen


def _check(config: RunConfig) -> None:
    """Numbers that no part checks by itself."""
    learner, run = config.learner, config.run
    for name, value in config.options().items():
        if isinstance(value, float) and not isfinite(value):
            raise ConfigError(f"{name} = {value}: must be finite")
    least = {
        "streams": 1,
        "seed": 0,
        "budget": 1,
        "eval_every": 1,
        "eval_sequences": 1,
        "checkpoint_every": 1,
        "record_streams": 0,
        "record_every": 1,
        "threads": 1,
    }
    require_at_least(run, least)
    require_at_least(learner, dict.fromkeys(("k_top", "k_trunc", "k_att", "slots"), 1))
    low, high = config.task.bounds
    if run.stop_at is not None and not low <= run.stop_at <= high:
        raise ConfigError(f"stop_at = {run.stop_at:g}: {config.task.metric} is from {low:g} to {high:g}")
    if run.seed > MOST_SEED:
        raise ConfigError(f"seed = {run.seed}: must be at most {MOST_SEED}")
    recalls = CREDIT_RULES[choose("credit", learner.credit, CREDIT_RULES)].recalls
    if recalls and learner.slots is not None and learner.slots < learner.k_top:
        raise ConfigError(
            f"slots = {learner.slots}: must be at least k_top = {learner.k_top}, the number recalled per step"
        )
    if run.record_streams > run.streams:
        raise ConfigError(f"record_streams = {run.record_streams}: must be at most streams = {run.streams}")
    choose("dtype", run.dtype, DTYPES)
