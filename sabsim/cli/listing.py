"""`sabsim list`: the parts there are to choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from sabsim.cells import CELLS
from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.cli.run import first_line
from sabsim.credit import CREDIT_RULES
from sabsim.optim import OPTIMIZERS
from sabsim.presets import PRESETS
from sabsim.retention import RETENTIONS
from sabsim.salience import SALIENCES
from sabsim.sparsify import SPARSIFIERS
from sabsim.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """Nothing to choose."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status.

    Raises:
        ConfigError: arguments it does not know
    """
    parse(ListOptions, arguments, prog="sabsim list", description="Show the parts there are to choose from.")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("option", "name", "what it is"):
        table.add_column(title, no_wrap=title != "what it is")
    for option, parts in catalogue().items():
        for row, (name, purpose) in enumerate(parts.items()):
            table.add_row("" if row else option, name, purpose)
        table.add_row()
    plain_console().print(table)
    return 0


def catalogue() -> dict[str, dict[str, str]]:
    """Every choice, by option and name, in one line; the default comes first."""
    described: dict[str, Mapping[str, object]] = {
        "TASK": TASKS,
        "--credit": CREDIT_RULES,
        "--retention": RETENTIONS,
        "--salience": SALIENCES,
        "--sparsify": SPARSIFIERS,
        "--cell": CELLS,
        "--optimizer": OPTIMIZERS,
    }
    parts = {option: {name: first_line(part) for name, part in named.items()} for option, named in described.items()}
    parts["--preset"] = {
        name: f"{preset.salience}, {preset.sparsify}, stores {preset.stores}, reads out {preset.readout}: {preset.purpose}"
        for name, preset in PRESETS.items()
    }
    return parts
