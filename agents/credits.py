"""The credit rules an agent can have, by name: one line each, from the options of a run to a learner.

To add a rule, write a builder and put it into ``CREDITS``. Whatever it returns must answer the calls of
``sabsim.agents.Learner``; the run, its checkpoints and evaluations ask for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

from sabsim.backend import BackendName
from sabsim.choices import choose
from sabsim.credit import SAB, TBPTT, CreditRule, Immediate, Memoryless, whole_episodes
from sabsim.errors import ConfigError
from sabsim.learner import StreamingLearner
from sabsim.optim import SGD, Optimizer
from sabsim.runs.build import build_network, build_optimizer, build_retention

from .agent import Learner
from .config import AgentConfig
from .pictures import Picture, build_encoder, width_of
from .rtu import RTULearner
from .rtu_parameters import RTU


class Sizes(NamedTuple):
    """What the environments decide: numbers of an observation and of an output (a logit per action, and the value), and
    where the former show pictures."""

    inputs: int
    outputs: int
    pictures: Sequence[Picture] = ()


class Credit(NamedTuple):
    """A rule: what makes its learner of a resolved configuration, and what it is in a line."""

    build: Callable[[AgentConfig, Sizes], Learner]
    purpose: str


def build_learner(config: AgentConfig, sizes: Sizes) -> Learner:
    """The learner that ``config`` describes, with fresh parameters.

    Raises ConfigError: for a name or number that is not allowed, or two that do not fit each other.
    """
    config = config.resolved()
    return CREDITS[choose("credit", config.learner.credit, CREDITS)].build(config, sizes)


def _streaming(config: AgentConfig, sizes: Sizes, credit: CreditRule) -> StreamingLearner:
    """The streaming learner with this rule."""
    backend: Any = choose("backend", config.run.backend, get_args(BackendName))
    options = config.learner
    encoder = build_encoder(
        options.encoder, size=sizes.inputs, pictures=sizes.pictures, features=options.features, seed=config.run.seed
    )
    return StreamingLearner(
        build_network(options, d_in=width_of(encoder, sizes.inputs), d_out=sizes.outputs),
        encoder=encoder,
        credit=credit,
        retention=build_retention(options),
        optimizer=_optimizer(config),
        streams=config.run.streams,
        seed=config.run.seed,
        device=config.run.device,
        backend=backend,
    )


def _optimizer(config: AgentConfig) -> Optimizer:
    """The learner's own; with traces it is the agent that moves the parameters."""
    return SGD(lr=0.0) if config.signal.traces else build_optimizer(config.optimizer)


def _k_trunc(config: AgentConfig) -> int:
    return config.learner.k_trunc or config.learner.window


def _sab(config: AgentConfig, sizes: Sizes, replays: int) -> StreamingLearner:
    options = config.learner
    rule = SAB(
        k_top=options.k_top,
        k_trunc=_k_trunc(config),
        update_every=options.window,
        k_att=options.k_att,
        replays=replays,
        explore=options.explore,
        negligible=options.negligible,
        replay_threshold=options.replay_threshold,
    )
    return _streaming(config, sizes, rule)


def _tbptt(config: AgentConfig, sizes: Sizes) -> StreamingLearner:
    return _streaming(config, sizes, TBPTT(k_trunc=_k_trunc(config), update_every=config.learner.window))


def _whole_episodes(config: AgentConfig, sizes: Sizes) -> StreamingLearner:
    return _streaming(config, sizes, whole_episodes(longest=config.learner.longest, update_every=config.learner.window))


def _rtu(config: AgentConfig, sizes: Sizes) -> RTULearner:
    n = config.learner.hidden
    if config.learner.encoder != "none":
        raise ConfigError(f"encoder = {config.learner.encoder!r}: credit rtu does without; leave it out")
    return RTULearner(
        RTU(d_in=sizes.inputs, d_out=sizes.outputs, units=2 * n, hidden=n),
        optimizer=_optimizer(config),
        block=config.learner.window,
        streams=config.run.streams,
        seed=config.run.seed,
        device=config.run.device,
    )


CREDITS: dict[str, Credit] = {
    "sab": Credit(
        lambda config, sizes: _sab(config, sizes, config.learner.replays),
        "sparse attentive backtracking: recall, and replay of what was recalled",
    ),
    "no-replay": Credit(
        lambda config, sizes: _sab(config, sizes, 0),
        "the same recall, but no credit goes back through it",
    ),
    "tbptt": Credit(_tbptt, "truncated backpropagation through the window; nothing is recalled"),
    "immediate": Credit(
        lambda config, sizes: _streaming(config, sizes, Immediate(update_every=config.learner.window)),
        "credit for the present step alone; the state goes on",
    ),
    "memoryless": Credit(
        lambda config, sizes: _streaming(config, sizes, Memoryless(k_trunc=config.learner.window)),
        "every step begins from zero: only the present observation counts",
    ),
    "bptt": Credit(_whole_episodes, "backpropagation through whole episodes of at most --longest steps"),
    "rtu": Credit(_rtu, "recurrent trace units (2 n complex ones) with exact real-time recurrent learning"),
}
"""In the order of the help text; the first is the default."""
