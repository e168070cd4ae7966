"""What anyone who reproduces the SAB paper should know: facts about its equations and its released code, measured.

    python benchmarks/paper_facts.py --out results/paper_facts

It prints a table for each fact and writes them as ``facts.json`` and ``README.md``; with ``--only`` some of them, the
others staying as they are there. ``--updates`` and ``--released-updates`` say how long eq. 1-5 and the released code are
trained, which is what takes long. Beside this file, ``paper_literal.py`` has both as literally as possible, and
``paper_recall.py``, ``paper_training.py`` and ``paper_reach.py`` measure; sabsim's presets ``paper`` and ``released``, and
its oracle, are measured too.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from paper_fact import Fact
from paper_reach import grid, recursion
from paper_recall import cancellation, survival
from paper_training import overflow, overflow_often, released
from rich.console import Console
from rich.table import Table

from sabsim.runs.machine import made_by


def shown(value: Any) -> str:
    """A cell."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


FACTS: dict[str, Callable[[argparse.Namespace], Fact]] = {
    fact.__name__: fact for fact in (cancellation, survival, overflow, overflow_often, released, grid, recursion)
}
"""By name, in the order of the page."""


def as_markdown(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, of what ``facts.json`` holds by name."""
    lines = ["# Facts about the SAB paper"]
    for number, name in enumerate([name for name in FACTS if name in kept], 1):
        fact = kept[name]
        rows, made = fact["rows"], fact["made_by"]
        lines += ["", f"## {number}. {fact['title']}", "", fact["how"], ""]
        lines += [f"| {' | '.join(rows[0])} |", f"|{' --- |' * len(rows[0])}"]
        lines += [f"| {' | '.join(shown(value) for value in row.values())} |" for row in rows]
        lines += [
            "",
            f"`{fact['command']}`, {fact['seconds']:.0f} s of a thread of a machine that others used too; sabsim ",
        ]
        lines[-1] += f"{made['sabsim']} at {made['git'][:7]}, torch {made['torch']}, {made['cpu']}, {made['date'][:10]}."
    return "\n".join([*lines, ""])


def print_fact(fact: Fact, console: Console) -> None:
    """On the terminal."""
    table = Table(title=fact.title, title_justify="left", caption=fact.how, caption_justify="left")
    for key in fact.rows[0]:
        table.add_column(key)
    for row in fact.rows:
        table.add_row(*map(shown, row.values()))
    console.print(table)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for facts.json and README.md")
    parser.add_argument("--only", nargs="+", choices=FACTS, default=list(FACTS), metavar="FACT", help=", ".join(FACTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--T", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--updates", type=int, default=60, help="most updates of eq. 1-5")
    parser.add_argument("--released-updates", type=int, default=300, help="updates of the released code")
    parser.add_argument("--preset-sequences", type=int, default=1_000, help="most sequences of the presets")
    options = parser.parse_args()
    torch.set_num_threads(1)
    maker, command = made_by(), shlex.join(["python", "benchmarks/paper_facts.py", *sys.argv[1:]])
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "facts.json"
    for name in options.only:
        began = time.perf_counter()
        fact = FACTS[name](options)
        print_fact(fact, Console(highlight=False))
        about = {"command": command, "seconds": time.perf_counter() - began, "made_by": maker}
        kept = json.loads(path.read_text()) if path.exists() else {}
        kept[name] = asdict(fact) | about
        path.write_text(json.dumps({name: kept[name] for name in FACTS if name in kept}, indent=1) + "\n")
        (options.out / "README.md").write_text(as_markdown(kept))


if __name__ == "__main__":
    main()
