"""Names out of a list and numbers of a least size: the one-line error that says what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from sabsim.errors import ConfigError


def choose(what: str, value: str, allowed: Iterable[str]) -> str:
    """`value`, if it is one of `allowed`.

    Raises:
        ConfigError: it is not; the message names the option `what`, value, what is allowed, closest match
    """
    names = list(allowed)
    if value in names:
        return value
    between = "; " if any("," in name for name in names) else ", "
    raise ConfigError(f"{what} = {value!r}: must be one of {between.join(names)}{suggestion(value, names)}")


def require_at_least(options: object, least: Mapping[str, int]) -> None:
    """Raises ConfigError: if one of the numbers in `options`, by attribute, is less than `least` says."""
    for name, bound in least.items():
        if getattr(options, name) < bound:
            raise ConfigError(f"{name} = {getattr(options, name)}: must be at least {bound}")


def suggestion(value: str, names: Iterable[str]) -> str:
    """` (did you mean NAME?)` if one of the names is close, else nothing."""
    close = get_close_matches(value, list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
