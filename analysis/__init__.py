"""From run folders to tables, statistics and figures."""

from .figures import learning_curves, recall_map, save
from .folders import Run, read_run
from .recall_phases import causal_steps, recall_phases

__all__ = ["Run", "causal_steps", "learning_curves", "read_run", "recall_map", "recall_phases", "save"]
