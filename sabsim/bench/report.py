"""The report: a table for the terminal, Markdown and JSON with every figure, and who made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from .case import CaseResult, Measurement, Parameters, RowResult, Spread
from .settings import Settings

FORMAT = 1
"""Of ``bench.json``; raised when what is there changes its meaning."""
_COLUMNS = ("variant", "time", "quartiles", "of base", "quartiles", "GFLOP/s", "share", "memory", "note")
_HOW_TO_READ = """\
Times are medians over rounds in which all variants of a case take turns; *quartiles* are the first and the third. *Of
base* is the time over that of the variant marked (base), the median of the ratios round by round. *Share* is the rate of
matrix products over the rate of torch.mm alone at the shapes named, in the same rounds: near 1 the products are all it
takes, and only a kernel that multiplies faster than torch.mm gets above. *Memory* is the most that is needed at once, in
MB (10^6 bytes). Ratios within a case can be compared; absolute figures depend on the machine and on what else it did.\
"""


def as_json(
    results: Sequence[RowResult], settings: Settings, made_by: Mapping[str, str], *, finished: bool
) -> dict[str, Any]:
    """The content of ``bench.json``: every sample, with machine, versions, revision, date, seed and configuration."""
    return {
        "format": FORMAT,
        "finished": finished,
        "made_by": dict(made_by),
        "settings": settings.to_json(),
        "seconds": sum(result.seconds for result in results),
        "rows": [result.to_json() for result in results],
    }


def as_markdown(
    results: Sequence[RowResult],
    settings: Settings,
    made_by: Mapping[str, str],
    *,
    finished: bool,
    figures: Mapping[str, str] | None = None,
) -> str:
    """The content of ``bench.md``; ``figures``: captions by the name of the file."""
    about = settings.to_json()
    lines = ["# sabsim bench", ""]
    if settings.quick:
        lines += ["**Quick: tiny sizes, few samples. It shows that everything runs; its figures mean little.**", ""]
    if not finished:
        lines += ["**Not finished: rows are missing.**", ""]
    known = {**made_by, **{key: value for key, value in about.items() if not isinstance(value, dict)}}
    known["backends"] = ", ".join(settings.backends.names)
    lines += _grid(("made by", ""), [(name, str(value)) for name, value in known.items()])
    refused = settings.backends.refused
    lines += [f"- Backend {name} is not measured: {reason}." for name, reason in refused.items()]
    lines += [""] if refused else []
    lines += [_HOW_TO_READ, ""]
    for result in results:
        lines += _section(result)
    if figures:
        lines += ["## Figures", "", *(f"![{caption}]({name})\n" for name, caption in figures.items())]
    return "\n".join(lines).rstrip() + "\n"


def _section(result: RowResult) -> list[str]:
    lines = [f"## {result.row.name}: {result.row.title}", "", _sentence(result.row.purpose), ""]
    lines += [f"- {finding}" for finding in result.findings]
    lines += [""] if result.findings else []
    for case in result.cases:
        lines += [f"### {_sizes(case.parameters)}", ""]
        if case.measurements:
            body = [_cells(case, one) for one in case.measurements]
            shown = [at for at in range(len(_COLUMNS)) if at < 4 or any(row[at] for row in body)]
            heads = [f"time per {case.unit}" if name == "time" else name for name in _COLUMNS]
            lines += _grid([heads[at] for at in shown], [[row[at] for at in shown] for row in body])
        lines += [f"- Cannot run: {name}: {reason}." for name, reason in case.refused.items()]
        lines += [""] if case.refused else []
    return lines


def _grid(heads: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; figures to the right."""
    rule = ["---" if at == 0 or head in ("note", "") else "---:" for at, head in enumerate(heads)]
    rows = [heads, rule, *([cell.replace("|", "\\|") for cell in row] for row in body)]
    return [f"| {' | '.join(row)} |" for row in rows] + [""]


def _cells(case: CaseResult, one: Measurement) -> tuple[str, ...]:
    ratio = one.ratio
    return (
        f"{one.name} (base)" if one.name == case.base else one.name,
        duration(one.time.median),
        _quartiles(one.time),
        "" if ratio is None else f"{ratio.median:.2f}",
        "" if ratio is None else f"{ratio.low:.2f} .. {ratio.high:.2f}",
        "" if one.gflops is None else f"{one.gflops:.1f}",
        "" if one.share is None else f"{one.share:.2f}",
        "" if one.memory_mb is None else f"{one.memory_mb:,.1f} MB",
        one.note,
    )


def as_table(results: Sequence[RowResult]) -> Table:
    """What the terminal shows: of each row the cases its ``headline`` names, or all if there are none."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("row, case, variant", overflow="fold")
    for title in ("time", "of base", "share of GEMM", "memory"):
        table.add_column(title, justify="right", no_wrap=True)
    for result in results:
        table.add_section()
        table.add_row(f"[bold]{result.row.name}[/bold]: {result.row.title}")
        for case in _headline(result):
            table.add_row(f" {_sizes(case.parameters)}", f"per {case.unit}" if case.unit else "", style="dim")
            for one in case.measurements:
                name, time, _, ratio, _, _, share, memory, _ = _cells(case, one)
                table.add_row(f"  {name}", time, ratio, share, memory)
            for name, reason in case.refused.items():
                table.add_row(f"  {name}: cannot run, {reason}", style="yellow")
    return table


def _headline(result: RowResult) -> list[CaseResult]:
    wanted = result.row.headline
    chosen = [case for case in result.cases if all(case.parameters.get(name) in values for name, values in wanted.items())]
    return chosen or list(result.cases)


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them, three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(seconds) >= size:
            return f"{_three(seconds / size)} {unit}"
    return f"{_three(seconds / 1e-9)} ns"


def _three(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _quartiles(time: Spread) -> str:
    return f"{duration(time.low)} .. {duration(time.high)}"


def _sizes(parameters: Parameters) -> str:
    shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in parameters.items()}
    return ", ".join(f"{name} = {value}" for name, value in shown.items())


def _sentence(text: str) -> str:
    """Its first letter a capital, unless it begins with a name such as torch.mm."""
    first = text.split(" ", 1)[0]
    return text if "." in first else text[:1].upper() + text[1:]
