"""sabsim: a streaming learner that learns by Sparse Attentive Backtracking, online and in bounded memory."""

from .credit import BPTT, CREDIT_RULES, SAB, TBPTT, CreditRule, Immediate, Memoryless, whole_episodes
from .encoder import Encoder
from .errors import ConfigError, NonFiniteError, RunFolderError, SabsimError, StorageError
from .graph import Block, BlockGraph
from .learner import ReadEvents, StreamingLearner
from .network import Network
from .optim import OPTIMIZERS, SGD, Adam, ObGD, Optimizer, RMSprop
from .presets import PRESETS, Preset
from .replay import ReplayEvents
from .retention import RETENTIONS, All, Novelty, Recent, Relevancy, Reservoir, Retention, Surprise

__version__ = "0.1.0"

__all__ = [
    "BPTT",
    "CREDIT_RULES",
    "OPTIMIZERS",
    "PRESETS",
    "RETENTIONS",
    "SAB",
    "SGD",
    "TBPTT",
    "Adam",
    "All",
    "Block",
    "BlockGraph",
    "ConfigError",
    "CreditRule",
    "Encoder",
    "Immediate",
    "Memoryless",
    "Network",
    "NonFiniteError",
    "Novelty",
    "ObGD",
    "Optimizer",
    "Preset",
    "RMSprop",
    "ReadEvents",
    "Recent",
    "Relevancy",
    "ReplayEvents",
    "Reservoir",
    "Retention",
    "RunFolderError",
    "SabsimError",
    "StorageError",
    "StreamingLearner",
    "Surprise",
    "__version__",
    "whole_episodes",
]
