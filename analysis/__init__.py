"""From run folders to tables, statistics and figures."""

from .figures import learning_curves, recall_map, save
from .folders import Run, read_run

__all__ = ["Run", "learning_curves", "read_run", "recall_map", "save"]
