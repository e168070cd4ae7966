"""`sabsim bench`: what the learner costs beside its peers, measured by turns in one run; tables, JSON and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from tyro.conf import arg

from sabsim.bench import ROWS, Row, RowResult, Settings, find_backends, measure_row
from sabsim.bench.report import as_json, as_markdown, as_table
from sabsim.choices import choose
from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.devices import choose_device
from sabsim.errors import ConfigError
from sabsim.runs.folder import write_bytes, write_json
from sabsim.runs.machine import made_by
from sabsim.runs.progress import duration

_MARKDOWN, _JSON = "bench.md", "bench.json"


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured, where, how often."""

    quick: bool = False
    """Tiny sizes and few samples, about 20 seconds: shows that every row runs; its figures mean little."""
    device: Annotated[str, arg(metavar="NAME")] = "cpu"
    """Where to compute: cpu (one thread, but for the row that compares threads) or cuda."""
    only: Annotated[tuple[str, ...], arg(metavar="ROW [ROW ...]", help_behavior_hint="(default: all)")] = ()
    """Rows to measure; they are listed above."""
    out: Annotated[str, arg(metavar="FOLDER")] = "runs/bench"
    """Folder for bench.md, bench.json and the plots; those of an earlier bench are replaced."""
    repeats: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 15, quick 3)")] = None
    """Samples of each variant at most; a case that takes more than a minute stops after 3."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """Seed of parameters, inputs and sequences."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status.

    Raises:
        SabsimError: whatever is wrong with options, folder or disk, in one line
        KeyboardInterrupt: stopped; the rows that were done are in the folder
    """
    options = parse(BenchOptions, arguments, prog="sabsim bench", description=_description())
    rows = _rows(options)
    device = choose_device(options.device)
    torch.set_num_threads(1)
    # cuDNN would otherwise run nn.LSTM in TF32, with 10 bits of mantissa, against everyone else's float32.
    torch.backends.cudnn.allow_tf32 = False
    out = _folder(options)
    settings = Settings(
        device=device,
        backends=find_backends(device),
        quick=options.quick,
        repeats=options.repeats,
        seed=options.seed,
    )
    console = plain_console()
    for name, reason in settings.backends.refused.items():
        console.print(f"backend {name} is not measured: {reason}", soft_wrap=True)
    results: list[RowResult] = []
    try:
        for row in rows:
            with RowProgress(console) as progress:
                results.append(measure_row(row, settings, progress))
            console.print(f"{row.name}: {row.title}, {duration(results[-1].seconds)}")
            _write(out, results, settings, finished=False)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {len(results)} of {len(rows)} rows are in '{out}'") from None
    _write(out, results, settings, finished=True)
    console.print(as_table(results))
    for result in results:
        for finding in result.findings:
            console.print(f"{result.row.name}: {finding}", soft_wrap=True)
    console.print(str(out / _MARKDOWN), soft_wrap=True)
    return 0


def _description() -> str:
    rows = "\n\n".join(f"{row.name}: {row.purpose}" for row in ROWS.values())
    return (
        "Measure what the learner costs beside its peers: variants by turns, one thread, medians with quartiles.\n\n"
        f"Rows:\n\n{rows}"
    )


def _rows(options: BenchOptions) -> list[Row]:
    """The rows asked for, each once, in their usual order.

    Raises:
        ConfigError: an option that is not allowed, found before anything is measured
    """
    wanted = {choose("row", name, ROWS) for name in options.only} or set(ROWS)
    if options.repeats is not None and options.repeats < 1:
        raise ConfigError(f"repeats = {options.repeats}: must be at least 1")
    if options.seed < 0:
        raise ConfigError(f"seed = {options.seed}: must be at least 0")
    return [row for name, row in ROWS.items() if name in wanted]


def _folder(options: BenchOptions) -> Path:
    """The folder, made if need be and free of what an earlier bench has left.

    Raises:
        ConfigError: it cannot be written
    """
    # Here and not above: the help text does not need matplotlib.
    from sabsim.bench.plots import file_names

    out = Path(options.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (_MARKDOWN, _JSON, *file_names()):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"out = '{out}': cannot be written ({error.strerror}); give another --out") from error
    return out


def _write(out: Path, results: Sequence[RowResult], settings: Settings, *, finished: bool) -> None:
    """All that is known so far; figures at the end.

    Raises:
        StorageError: the disk refuses
    """
    from sabsim.bench.plots import draw

    maker = made_by()
    figures = draw(results, out) if finished else {}
    write_json(out / _JSON, as_json(results, settings, maker, finished=finished))
    text = as_markdown(results, settings, maker, finished=finished, figures=figures)
    write_bytes(out / _MARKDOWN, text.encode())


class RowProgress:
    """A bar while a row is measured, on a terminal only."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._bar = self._progress.add_task("")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def case(self, row: Row, label: str, done: int, cases: int) -> None:
        """A case begins."""
        self._progress.update(self._bar, description=f"{row.name}: {label}", completed=done, total=cases)
