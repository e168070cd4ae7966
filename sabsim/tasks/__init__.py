"""Supervised tasks as endless streams: `TASKS["copying"](T=100).stream(streams=32, seed=0)`."""

from sabsim.tasks.adding import Adding
from sabsim.tasks.base import Score, StateDict, Task, TaskStep, TaskStream
from sabsim.tasks.copying import Copying
from sabsim.tasks.denoise import Denoise

TASKS: dict[str, type[Task]] = {"copying": Copying, "adding": Adding, "denoise": Denoise}
"""the tasks by name"""

__all__ = [
    "TASKS",
    "Adding",
    "Copying",
    "Denoise",
    "Score",
    "StateDict",
    "Task",
    "TaskStep",
    "TaskStream",
]
