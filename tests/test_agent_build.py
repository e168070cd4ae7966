"""From the options of an agent's run to its parts: each arrives where it counts."""

from __future__ import annotations

from typing import Any

import pytest
from sabsim.agents import AgentConfig, AgentLearnerOptions, AgentRunOptions, build_agent
from sabsim.agents.action_credit import Transport

from sabsim import SAB, StreamingLearner


def config_with(learner: dict[str, Any], *, seed: int = 0) -> AgentConfig:
    """A small run with these options."""
    return AgentConfig(
        env="sabsim/MemoryChain-v0",
        learner=AgentLearnerOptions(hidden=4, slots=4, k_top=2, **learner),
        run=AgentRunOptions(streams=2, seed=seed, record_streams=0, backend="torch"),
    )


@pytest.mark.parametrize(
    ("option", "value"), [("explore", 3.0), ("replay_threshold", 0.5), ("negligible", 0.2), ("k_att", 2), ("replays", 1)]
)
def test_an_option_of_the_credit_rule_arrives(option: str, value: float) -> None:
    learner = build_agent(config_with({option: value})).agent.learner
    assert isinstance(learner, StreamingLearner)
    assert isinstance(learner.credit, SAB)
    assert getattr(learner.credit, option) == value
    assert getattr(AgentLearnerOptions(), option) != value


def test_the_options_of_action_credit_arrive() -> None:
    sent = {"sent_share": 0.5, "sent_threshold": 0.1, "sent_segments": 3, "sent_weight": 2.0}
    credit = build_agent(config_with({"action_credit": "random", **sent}, seed=7)).agent.action_credit
    assert credit is not None
    assert credit.how == Transport(share=0.5, threshold=0.1, segments=3, weight=2.0, sources="random", seed=7)
