"""What is shown while several runs go side by side: a live table on a terminal, elsewhere a line per evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sabsim.cli.console import plain_console
from sabsim.runs.progress import Lines, Status, duration, number


class LinesBoard:
    """A plain line per evaluation, for pipes and logs.

    Arguments:
        names: of the runs, with the words to show for each
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._lines = {name: NamedLines(words) for name, words in names.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing is left open."""

    def update(self, name: str, status: Status) -> None:
        """Lines are for evaluations only."""

    def evaluated(self, name: str, status: Status) -> None:
        self._lines[name].evaluated(status)


class NamedLines(Lines):
    """Lines that begin with the run's name."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def note(self, text: str) -> None:
        super().note(f"{self._words}: {text}")


class LiveBoard:
    """A live table with a row per run.

    Arguments:
        names: of the runs, with the words to show for each
        console: the terminal
    """

    def __init__(self, names: Mapping[str, str], console: Console) -> None:
        self._names = names
        self._status: dict[str, Status] = {}
        self._live = Live(self._table(), console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def update(self, name: str, status: Status) -> None:
        self._status[name] = status
        self._live.update(self._table(), refresh=True)

    def evaluated(self, name: str, status: Status) -> None:
        self.update(name, status)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
        table.add_column("", no_wrap=True)
        for title in ("step", "sequences", "loss", "held-out\naccuracy", "replays\n/update", "steps/s", "ETA"):
            table.add_column(title, justify="right", no_wrap=True, vertical="bottom")
        for name, words in self._names.items():
            table.add_row(words, *_cells(self._status.get(name)))
        return table


def _cells(status: Status | None) -> tuple[str, ...]:
    if status is None:
        return ("starting",)
    return (
        f"{status.step:,}",
        f"{status.sequences:,}",
        number(status.train_loss),
        percent(status.held_out_metric),
        number(status.replays_per_update),
        f"{status.steps_per_second:,.0f}",
        # A run may stop before its budget is spent: this is the most it can take.
        f"< {duration(status.seconds_left)}" if status.sequences < status.budget else "done",
    )


def percent(share: float | None) -> str:
    """A share in per cent, or a dash."""
    return "-" if share is None else f"{100 * share:.1f} %"


def make_board(names: Mapping[str, str]) -> LinesBoard | LiveBoard:
    """The board that fits where the output goes."""
    console = plain_console()
    return LiveBoard(names, console) if console.is_terminal else LinesBoard(names)
