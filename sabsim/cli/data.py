"""`sabsim data`: which data sets there are, where they lie, and how to fetch them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.table import Table
from tyro.conf import Positional, arg

from sabsim.choices import choose
from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.data import DATA_SETS, DataSet, fetch, roots
from sabsim.data.places import fault, present
from sabsim.errors import ConfigError

_HELP = """usage: sabsim data list  [--data DIR]
       sabsim data fetch NAME [--data DIR] [--mirror ADDRESS]

'list' shows the data sets, where each is looked for, and whether it is there whole. 'fetch' downloads one and checks
its digests; what is there and whole is kept, so a fetch that was broken off goes on with the next file.

Data lie in folders of their names: DIR/ptb, DIR/text8, DIR/mnist. DIR is --data, else that of SABSIM_DATA, else a cache
folder of yours, and 'sabsim run charlm' and 'sabsim run pixels' look there in the same order. Neither task needs data to
begin with: '--corpus docs' is always at hand, '--images digits' with scikit-learn (pip install 'sabsim[digits]')."""


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """Where to look."""

    data: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: SABSIM_DATA, then the cache)")] = None
    """Folder of data sets."""


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """What to fetch, and where to put it."""

    name: Positional[Annotated[str, arg(metavar="NAME")]]
    """Data set: ptb, text8 or mnist."""
    data: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: SABSIM_DATA, else the cache)")] = None
    """Folder of data sets, made if need be; the files go into a folder NAME there."""
    mirror: Annotated[str | None, arg(metavar="ADDRESS", help_behavior_hint="(default: those known)")] = None
    """Address of a folder on a server that has the files."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status.

    Raises:
        SabsimError: an unknown name or option, a folder that cannot be used, or a download that failed, in one line
    """
    if not arguments:
        raise ConfigError("which? one of list, fetch; see 'sabsim data --help'")
    if arguments[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    if choose("data command", arguments[0], ("list", "fetch")) == "list":
        return _list(parse(ListOptions, arguments[1:], prog="sabsim data list", description="Show the data sets."))
    return _fetch(parse(FetchOptions, arguments[1:], prog="sabsim data fetch", description="Download a data set."))


def _list(options: ListOptions) -> int:
    places = roots(options.data)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("name", "what it is", "state"):
        table.add_column(title, no_wrap=title != "state", overflow="fold")
    table.add_row("docs", "Python's own documentation: 465,000 characters", "at hand: comes with Python")
    table.add_row("digits", "handwritten digits: 1,797 images of 8x8 pixels", _digits())
    for data_set in DATA_SETS.values():
        table.add_row(data_set.name, data_set.purpose, _standing(data_set, places))
    plain_console().print(table)
    return 0


def _standing(data_set: DataSet, places: Sequence[Path]) -> str:
    """Whether a data set is there, whole, and where."""
    for root in places:
        version = present(data_set, root)
        if version is not None:
            folder = root / data_set.name
            faults = [f"{file.name} {wrong}" for file in version.files if (wrong := fault(file, folder / file.name))]
            return f"{'; '.join(faults) or f'at hand, as {version.label}'}: {folder}"
    return f"not there: 'sabsim data fetch {data_set.name}' puts it into {places[0] / data_set.name}"


def _digits() -> str:
    # Here and not above: only this line needs to know.
    from importlib.util import find_spec

    return "at hand: comes with scikit-learn" if find_spec("sklearn") else "not there: pip install 'sabsim[digits]'"


def _fetch(options: FetchOptions) -> int:
    data_set = DATA_SETS[choose("data set", options.name, DATA_SETS)]
    root = roots()[0] if options.data is None else Path(options.data)
    fetch(data_set, root, mirror=options.mirror, told=lambda name, what: print(f"{root / data_set.name / name}: {what}"))
    return 0
