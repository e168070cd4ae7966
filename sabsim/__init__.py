"""sabsim: a streaming learner that learns by Sparse Attentive Backtracking, online and in bounded memory."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .credit import BPTT, CREDIT_RULES, SAB, TBPTT, CreditRule, Immediate, Memoryless, whole_episodes
    from .encoder import Encoder
    from .errors import ConfigError, NonFiniteError, RunFolderError, SabsimError, StorageError
    from .graph import Block, BlockGraph
    from .learner import StreamingLearner
    from .network import Network
    from .optim import OPTIMIZERS, SGD, Adam, ObGD, Optimizer, RMSprop
    from .presets import PRESETS, Preset
    from .replay import ReplayEvents
    from .retention import RETENTIONS, All, Novelty, Recent, Relevancy, Reservoir, Retention, Surprise
    from .views import ReadEvents

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

_ROOMS = {
    "credit": ("BPTT", "CREDIT_RULES", "SAB", "TBPTT", "CreditRule", "Immediate", "Memoryless", "whole_episodes"),
    "encoder": ("Encoder",),
    "errors": ("ConfigError", "NonFiniteError", "RunFolderError", "SabsimError", "StorageError"),
    "graph": ("Block", "BlockGraph"),
    "learner": ("StreamingLearner",),
    "network": ("Network",),
    "optim": ("OPTIMIZERS", "SGD", "Adam", "ObGD", "Optimizer", "RMSprop"),
    "presets": ("PRESETS", "Preset"),
    "replay": ("ReplayEvents",),
    "retention": ("RETENTIONS", "All", "Novelty", "Recent", "Relevancy", "Reservoir", "Retention", "Surprise"),
    "views": ("ReadEvents",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    """A name of this package from the room it lives in, loaded when it is first asked for.

    The learner brings torch, 200 MB of memory and a second; what reads run folders or prints help needs neither.
    """
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ROOM_OF[name]}", __name__), name)
