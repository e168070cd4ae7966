"""Rivals with self-attention: MemLSTM, RelLSTM and their kin behind the calls of a streaming learner."""

from .learner import AttentiveLearner
from .memory import AllStates, ScreenedStates

__all__ = ["AllStates", "AttentiveLearner", "ScreenedStates"]
