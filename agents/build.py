"""From a description to the parts that run: environments, learner, agent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from sabsim.choices import choose
from sabsim.devices import DEVICES, choose_device
from sabsim.errors import ConfigError
from sabsim.learner import StreamingLearner
from sabsim.optim import ObGD, Optimizer
from sabsim.runs.build import build_optimizer

from .action_credit import ActionCredit, Transport
from .agent import Agent, Learner
from .arena import Arena, Make
from .config import AgentConfig
from .credits import CREDITS, Sizes, build_learner
from .environments import maker
from .observations import LARGEST, LARGEST_ENCODED
from .pictures import ENCODERS
from .traces import TraceAgent


@dataclass(frozen=True, kw_only=True)
class AgentParts:
    """What an agent's run is made of; ``config`` is resolved, ``make`` makes one environment more."""

    config: AgentConfig
    agent: Agent
    make: Make


def build_agent(config: AgentConfig) -> AgentParts:
    """The environments, and an agent with fresh parameters, that ``config`` describes.

    Raises ConfigError: for an environment, a name or a number that is not allowed, or two that do not fit each other.
    """
    choose("credit", config.learner.credit, CREDITS)
    choose("encoder", config.learner.encoder, ENCODERS)
    choose_device(choose("device", config.run.device, DEVICES))
    config = config.resolved()
    makes = [maker(env, config.env_args, kinds=config.learner.kinds) for env in (config.env, *config.mix)]
    turns = cycle(makes)
    arena = Arena(
        lambda: next(turns)(),
        streams=config.run.streams,
        seed=config.training_seed,
        sees_action=config.learner.sees_action,
        sees_reward=config.learner.sees_reward,
        largest=LARGEST if config.learner.encoder == "none" else LARGEST_ENCODED,
    )
    sends = config.learner.action_credit != "none"
    learner = build_learner(config, Sizes(arena.size, arena.actions + 1 + sends, arena.pictures))
    backend = getattr(learner, "backend", config.run.backend)
    config = replace(config, run=replace(config.run, backend=backend, device=learner.device.type))
    agent = _tracing(config, arena, learner) if config.signal.traces else _windowed(config, arena, learner)
    return AgentParts(config=config, agent=agent, make=makes[0])


def _windowed(config: AgentConfig, arena: Arena, learner: Learner) -> Agent:
    """The agent that learns window by window."""
    if config.optimizer.optimizer == "obgd":
        raise ConfigError("optimizer = 'obgd': bounds the step along an eligibility trace; give --traces as well")
    credit = None
    if config.learner.action_credit != "none":
        if config.learner.encoder != "none":
            raise ConfigError("action_credit: credits a microstate's inputs as they were; leave out --encoder")
        if not isinstance(learner, StreamingLearner) or not learner.credit.recalls:
            raise ConfigError(f"action_credit: credit {config.learner.credit!r} recalls nothing that could be credited")
        if learner.network.feeds != "h":
            raise ConfigError("action_credit: needs the summaries of a microstate's segment; leave out --feeds h_hat")
        credit = ActionCredit(
            learner, _transport(config), actions=arena.actions, gamma=config.signal.gamma, steps=config.learner.window
        )
    return Agent(arena, learner, config.signal, window=config.learner.window, seed=config.run.seed, action_credit=credit)


def _transport(config: AgentConfig) -> Transport:
    options = config.learner
    sources: Any = options.action_credit
    return Transport(
        share=options.sent_share,
        threshold=options.sent_threshold,
        segments=options.sent_segments,
        weight=options.sent_weight,
        sources=sources,
        seed=config.run.seed,
    )


def _tracing(config: AgentConfig, arena: Arena, learner: Any) -> Agent:
    """The agent that learns step by step, along a trace."""
    if config.learner.window != 1:
        raise ConfigError(f"window = {config.learner.window}: --traces updates at every step; give --window 1")
    if config.learner.action_credit != "none":
        raise ConfigError("action_credit: cannot be had with --traces")
    options = config.optimizer
    rule: ObGD | Optimizer
    if options.optimizer == "obgd":
        assert options.lr is not None
        assert options.kappa is not None
        rule = ObGD(lr=options.lr, kappa=options.kappa)
    else:
        rule = build_optimizer(options)
    return TraceAgent(arena, learner, config.signal, rule=rule, seed=config.run.seed)
