"""Supervised tasks as endless streams: `TASKS["copying"](T=100).stream(streams=32, seed=0)`."""

from sabsim.tasks.adding import Adding
from sabsim.tasks.base import Task
from sabsim.tasks.charlm import CharLM
from sabsim.tasks.copying import Copying
from sabsim.tasks.denoise import Denoise
from sabsim.tasks.pixels import Pixels
from sabsim.tasks.rounds import SequenceStream
from sabsim.tasks.stream import Part, Score, StateDict, TaskStep, TaskStream

TASKS: dict[str, type[Task]] = {
    "copying": Copying,
    "adding": Adding,
    "denoise": Denoise,
    "charlm": CharLM,
    "pixels": Pixels,
}
"""the tasks by name"""

__all__ = [
    "TASKS",
    "Adding",
    "CharLM",
    "Copying",
    "Denoise",
    "Part",
    "Pixels",
    "Score",
    "SequenceStream",
    "StateDict",
    "Task",
    "TaskStep",
    "TaskStream",
]
