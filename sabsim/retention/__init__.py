"""Retention: which microstates stay when the slots are full. One policy a file; each is a score, and the lowest goes."""

from ._base import Retention, States
from .all import All
from .novelty import Novelty
from .recent import Recent
from .relevancy import Relevancy
from .reservoir import Reservoir
from .surprise import Surprise

RETENTIONS: dict[str, type[Retention]] = {
    policy.name: policy for policy in (Novelty, Recent, Reservoir, Relevancy, Surprise, All)
}

__all__ = ["RETENTIONS", "All", "Novelty", "Recent", "Relevancy", "Reservoir", "Retention", "States", "Surprise"]
