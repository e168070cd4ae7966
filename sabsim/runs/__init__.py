"""Runs: description, run folder, recorder, checkpoint, loop, evaluation."""

from sabsim.runs.build import Parts, build, build_learner
from sabsim.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sabsim.runs.config import FORMAT, RunConfig
from sabsim.runs.database import TABLES, RunDatabase, read_rows
from sabsim.runs.evaluate import HeldOut, held_out
from sabsim.runs.folder import RunFolder
from sabsim.runs.interrupts import Interrupted
from sabsim.runs.options import LearnerOptions, OptimizerOptions, RunOptions
from sabsim.runs.progress import Display, Lines, Terminal, make_display
from sabsim.runs.train import train

__all__ = [
    "FORMAT",
    "TABLES",
    "Checkpoint",
    "Display",
    "HeldOut",
    "Interrupted",
    "LearnerOptions",
    "Lines",
    "OptimizerOptions",
    "Parts",
    "RunConfig",
    "RunDatabase",
    "RunFolder",
    "RunOptions",
    "Terminal",
    "build",
    "build_learner",
    "held_out",
    "load_checkpoint",
    "make_display",
    "read_rows",
    "save_checkpoint",
    "train",
]
