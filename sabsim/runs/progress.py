"""What a run shows while it goes: a live table on a terminal, elsewhere a line per evaluation, or nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

_REFRESH = 0.25
"""Seconds between two drawings on a terminal."""


class Standing(Protocol):
    """Where a run stands, whatever its kind: how far of how much, and its figures in words."""

    @property
    def unit(self) -> str:
        """What is counted."""

    @property
    def done(self) -> int:
        """How far, in units."""

    @property
    def budget(self) -> int:
        """Of how much."""

    def line(self) -> str:
        """All of it in one line."""

    def columns(self) -> dict[str, str]:
        """The figures of a table, by their titles."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run stands. Metrics are named after the task's; None where nothing was measured yet."""

    unit: str = "sequences"
    sequences: int
    budget: int
    step: int
    seconds: float
    steps_per_second: float
    sequences_per_second: float
    metric_name: str
    train_loss: float | None
    train_metric: float | None
    held_out_metric: float | None
    replays_per_update: float | None

    @property
    def seconds_left(self) -> float | None:
        """At the present rate, until the budget is spent."""
        if self.sequences_per_second <= 0:
            return None
        return max(0, self.budget - self.sequences) / self.sequences_per_second

    @property
    def done(self) -> int:
        """The sequences."""
        return self.sequences

    def line(self) -> str:
        """All figures."""
        return (
            f"{self.sequences} {self.unit}  step {self.step}  "
            f"loss {number(self.train_loss)}  {self.metric_name} {number(self.train_metric)}  "
            f"held-out {self.metric_name} {number(self.held_out_metric)}  "
            f"replays/update {number(self.replays_per_update)}  "
            f"{self.steps_per_second:.0f} steps/s  ETA {duration(self.seconds_left)}"
        )

    def columns(self) -> dict[str, str]:
        """The figures of a live table."""
        return {
            "step": f"{self.step:,}",
            "loss": number(self.train_loss),
            self.metric_name: number(self.train_metric),
            "held-out": number(self.held_out_metric),
            "replays/update": number(self.replays_per_update),
            "steps/s": f"{self.steps_per_second:,.0f}",
            "elapsed": duration(self.seconds),
            "ETA": duration(self.seconds_left),
        }


class Display:
    """Shows nothing; the base of those that do. `due` says whether `update` is worth calling."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the terminal as it was."""

    def due(self) -> bool:
        """Whether it is time to draw again."""
        return False

    def update(self, status: Standing) -> None:
        """Something has moved."""

    def evaluated(self, status: Standing) -> None:
        """A held-out evaluation is done."""

    def note(self, text: str) -> None:
        """One line for the user."""


class Lines(Display):
    """One plain line per evaluation, for pipes and logs."""

    def __init__(self) -> None:
        self._open = True

    def evaluated(self, status: Standing) -> None:
        self.note(status.line())

    def note(self, text: str) -> None:
        # Whoever read the lines may have gone; the run goes on without them.
        if self._open:
            try:
                print(text, flush=True)
            except BrokenPipeError:
                self._open = False


class Terminal(Display):
    """A live table with a bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn = 0.0
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[done]}"),
        )
        self._bar = Progress(*columns)
        self._task = self._bar.add_task("", done="")
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def due(self) -> bool:
        return time.monotonic() - self._drawn >= _REFRESH

    def update(self, status: Standing) -> None:
        self._drawn = time.monotonic()
        self._bar.update(
            self._task,
            description=status.unit,
            total=status.budget,
            completed=status.done,
            done=f"{status.done:,} of {status.budget:,}",
        )
        self._live.update(self._table(status), refresh=True)

    def evaluated(self, status: Standing) -> None:
        self.update(status)

    def note(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False)

    def _table(self, status: Standing) -> Table:
        outer = Table.grid(expand=True)
        table = Table(box=None, padding=(0, 1), pad_edge=False, expand=True, header_style="dim")
        columns = status.columns()
        for title in columns:
            table.add_column(title, justify="right", no_wrap=True)
        table.add_row(*columns.values())
        outer.add_row(self._bar)
        outer.add_row(table)
        return outer


def make_display(*, quiet: bool = False) -> Display:
    """The display that fits where the output goes."""
    if quiet:
        return Display()
    console = Console(file=sys.stdout)
    return Terminal(console) if console.is_terminal else Lines()


def number(value: float | None) -> str:
    """A figure in four significant digits, or a dash."""
    return "-" if value is None else f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """m:ss, or h:mm:ss, or a dash."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
