"""Online agents built on the streaming learner."""

from .agent import ActorCritic, Agent, Learner, Played
from .arena import Arena
from .build import AgentParts, build_agent
from .config import AgentConfig, read_env_args
from .credits import CREDITS, Credit, Sizes
from .environments import maker
from .evaluation import Episode, Evaluation, evaluate
from .options import AgentLearnerOptions, AgentOptimizerOptions, AgentRunOptions, SignalOptions
from .tables import AGENT_TABLES
from .train import load_agent, read_agent_config, train_agent
from .watching import Recalled, Replayed, Unmoved, Watched, drawing_maker, watch

__all__ = [
    "AGENT_TABLES",
    "CREDITS",
    "ActorCritic",
    "Agent",
    "AgentConfig",
    "AgentLearnerOptions",
    "AgentOptimizerOptions",
    "AgentParts",
    "AgentRunOptions",
    "Arena",
    "Credit",
    "Episode",
    "Evaluation",
    "Learner",
    "Played",
    "Recalled",
    "Replayed",
    "SignalOptions",
    "Sizes",
    "Unmoved",
    "Watched",
    "build_agent",
    "drawing_maker",
    "evaluate",
    "load_agent",
    "maker",
    "read_agent_config",
    "read_env_args",
    "train_agent",
    "watch",
]
