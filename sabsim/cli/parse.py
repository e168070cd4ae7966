"""Options from the command line: tyro reads them and writes the help; a mistake becomes one line."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import TypeVar

import tyro

from sabsim.choices import suggestion
from sabsim.errors import ConfigError

_OptionsT = TypeVar("_OptionsT")
_FRAME = str.maketrans("", "", "│╭╮╰╯")


def parse(
    kind: type[_OptionsT],
    arguments: Sequence[str],
    *,
    prog: str,
    description: str | None = None,
    default: _OptionsT | None = None,
) -> _OptionsT:
    """The options of dataclass `kind` in `arguments`; `--help` prints and exits with status 0.

    Raises:
        ConfigError: an unknown option, a missing value, or a value of the wrong kind
    """
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            options, unknown = tyro.cli(
                kind,
                args=list(arguments),
                prog=prog,
                description=description,
                return_unknown_args=True,
                config=(tyro.conf.OmitArgPrefixes,),
                default=tyro.MISSING_NONPROP if default is None else default,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(f"{_one_line(errors.getvalue())}; see '{prog} --help'") from None
    if unknown:
        raise ConfigError(f"{_unknown(unknown[0], kind)}; see '{prog} --help'")
    return options


def _unknown(word: str, kind: type) -> str:
    if not word.startswith("-"):
        return f"unexpected {word!r}"
    return f"unknown option {word}{suggestion(word, sorted(_option_names(kind)))}"


def _option_names(kind: type) -> set[str]:
    """Every option of `kind`, read from the help that tyro makes."""
    text = io.StringIO()
    with suppress(SystemExit), redirect_stdout(text):
        tyro.cli(kind, args=["--help"], config=(tyro.conf.OmitArgPrefixes,))
    return set(re.findall(r"(?<!\S)--[\w-]+", text.getvalue()))


def _one_line(text: str) -> str:
    """What tyro says in a box, up to its first rule, as one line."""
    lines = [line.translate(_FRAME).strip() for line in text.splitlines()]
    said = []
    for line in lines[1:]:
        if line.startswith("──") or line.startswith("Got errors"):
            break
        said.append(line)
    message = " ".join(part for part in said if part).removeprefix("Error parsing ").removeprefix("task: ")
    no_type = r"no type matching (?:{None}\|)?(.*) could be instantiated from \['(.*)'\]"
    message = re.sub(no_type, r"'\2' is not \1", message)
    return message.rstrip(".") or "the options cannot be read"
