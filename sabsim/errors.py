"""What can go wrong, as one small family: the command line prints any of these in one line and exits with status 2."""


class SabsimError(Exception):
    """Base of every error sabsim raises on purpose."""


class ConfigError(SabsimError, ValueError):
    """An argument is out of range or does not fit another; the message names it, its value and what is allowed."""


class RunFolderError(SabsimError):
    """A run folder is missing, damaged, of another format version, or of another task."""


class NonFiniteError(SabsimError, FloatingPointError):
    """NaN or infinity met in an input, a learning signal, a state or a gradient."""


class StorageError(SabsimError, OSError):
    """The disk refused what was to be recorded."""


class DataError(SabsimError):
    """A data file is missing, truncated, altered or unreadable; the message says what to put where."""


class TimeUpError(SabsimError):
    """The minutes that a run was given are over; it saved a checkpoint and goes on with --resume. `status`: exit status."""

    status = 75  # EX_TEMPFAIL of sysexits.h: try again
