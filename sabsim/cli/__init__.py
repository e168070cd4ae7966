"""The command line: `sabsim COMMAND ...`. One command a file, loaded when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Command:
    """A sub-command: the module whose `main(arguments)` gives the exit status, and what it does in a line."""

    module: str
    purpose: str


COMMANDS: dict[str, Command] = {
    "demo": Command("sabsim.cli.demo", "learn the copying task and a maze; a table, figures, a report"),
    "run": Command("sabsim.cli.run", "train online on a task; leaves a run folder"),
    "agent": Command("sabsim.cli.agent", "train an agent online in an environment; leaves a run folder"),
    "evaluate": Command("sabsim.cli.evaluate", "play what a run has learned, held-out sequences or episodes"),
    "watch": Command("sabsim.cli.watch", "write a GIF of an agent's episode: what it recalls, where credit goes"),
    "analyze": Command("sabsim.cli.analyze", "measure replay against null models; tables, figures, a report"),
    "sweep": Command("sabsim.cli.sweep", "train agents over environments, credit rules and seeds; a table"),
    "experiment": Command("sabsim.cli.experiment", "run a published experiment on agents, figure and all"),
    "reproduce": Command("sabsim.cli.reproduce", "run a table of the SAB paper again, beside the paper's figures"),
    "gradients": Command("sabsim.cli.gradients", "which steps a run's gradient reaches, under SAB, BPTT and others"),
    "data": Command("sabsim.cli.data", "fetch data sets and show where they lie"),
    "export": Command("sabsim.cli.export", "write a run for other tools: NWB for pynapple, Parquet or CSV tables"),
    "bench": Command("sabsim.cli.bench", "measure what the learner costs beside its peers; tables and plots"),
    "list": Command("sabsim.cli.listing", "show tasks, presets, credit rules, retentions, other parts"),
}
"""The sub-commands, in the order of the help text."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0, 2 for a mistake or a full disk, 75 when time is up, 130 if interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _run(given)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(given: Sequence[str]) -> int:
    if given and given[0] == "--version":
        return _version()
    if not given or given[0] in ("-h", "--help"):
        print(_help())
        return 0 if given else 2
    # Here and not above: the help text needs none of what this loads.
    from sabsim.choices import choose
    from sabsim.errors import SabsimError

    try:
        command = COMMANDS[choose("command", given[0], COMMANDS)]
        status: int = import_module(command.module).main(given[1:])
        return status
    except SabsimError as error:
        print(f"sabsim: {error}", file=sys.stderr)
        return getattr(error, "status", 2)
    except SystemExit as stop:
        # How the options' help ends.
        return int(stop.code or 0)
    except KeyboardInterrupt as error:
        print(f"sabsim: {error}" if str(error) else "sabsim: interrupted", file=sys.stderr)
        return getattr(error, "status", 130)


def _help() -> str:
    lines = ["usage: sabsim COMMAND [options]", ""]
    lines += ["Online learning by sparse attentive backtracking in bounded memory.", ""]
    lines += [f"  {name:<10} {command.purpose}" for name, command in COMMANDS.items()]
    lines += ["", "'sabsim COMMAND --help' explains a command; 'sabsim --version' tells the version."]
    return "\n".join(lines)


def _version() -> int:
    from sabsim.runs.machine import sabsim_version

    print(f"sabsim {sabsim_version()}")
    return 0
