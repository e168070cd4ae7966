"""The native backend: the default combination of pieces in C, on the same buffers as the torch path.

``learner.h`` says what a call may touch, ``all.c`` puts the C files together; ``compiler`` compiles them at first use,
``bindings`` connects tensors with them, and ``pieces`` has the counterparts of Window, Macrostate, Replay and the rest;
``attentive`` has that of the rivals with self-attention.
"""

from .attentive import NativeSequence
from .compiler import CannotCompile, library_or_none, load_library
from .pieces import NativeBackend

__all__ = ["CannotCompile", "NativeBackend", "NativeSequence", "library_or_none", "load_library"]
