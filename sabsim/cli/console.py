"""What commands print with."""

from __future__ import annotations

from rich.console import Console


def plain_console() -> Console:
    """Standard output, on which words are shown as they are.

    Names of runs, folders and options may hold brackets, which rich would take for markup, and numbers, which it would
    colour.
    """
    return Console(highlight=False, markup=False)
