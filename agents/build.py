"""From a description to the parts that run: environments, learner, agent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sabsim.runs.choices import choose

from .agent import Agent
from .arena import Arena, Make
from .config import AgentConfig
from .credits import CREDITS, Sizes, build_learner
from .environments import maker


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
    config = config.resolved()
    make = maker(config.env, config.env_args)
    arena = Arena(
        make,
        streams=config.run.streams,
        seed=config.training_seed,
        sees_action=config.learner.sees_action,
        sees_reward=config.learner.sees_reward,
    )
    learner = build_learner(config, Sizes(arena.size, arena.actions + 1))
    config = replace(config, run=replace(config.run, backend=getattr(learner, "backend", config.run.backend)))
    agent = Agent(arena, learner, config.signal, window=config.learner.window, seed=config.run.seed)
    return AgentParts(config=config, agent=agent, make=make)
