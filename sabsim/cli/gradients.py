"""`sabsim gradients RUN`: which steps the gradient of a run's loss reaches, rule by rule; figure and tables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from rich.box import SIMPLE_HEAD
from rich.progress import Progress
from rich.table import Table
from tyro.conf import Positional, arg

from sabsim.choices import choose, require_at_least
from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs import RunFolder, load_checkpoint
from sabsim.runs.machine import git_revision, sabsim_version, utc_now

if TYPE_CHECKING:
    from sabsim.gradients import Measured


@dataclass(frozen=True, kw_only=True)
class GradientsOptions:
    """Which run, and on what."""

    run: Positional[Annotated[str, arg(metavar="RUN")]] = ""
    """Run folder of copying, adding or denoise; the parameters are those of its last checkpoint."""
    sequences: Annotated[int, arg(metavar="N")] = 4
    """Held-out sequences."""
    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the run's)")] = None
    """Seed of the held-out sequences."""
    loss: Annotated[str, arg(metavar="NAME")] = "answers"
    """Whose gradient: answers (the loss of the steps that are scored) or all (of all steps, as in training)."""
    out: Annotated[str | None, arg(metavar="FOLDER", help_behavior_hint="(default: gradients/ in the run folder)")] = None
    """Where figure and tables go."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status.

    Raises:
        SabsimError: whatever is wrong with options, folder or disk, in one line
    """
    options = parse(
        GradientsOptions,
        arguments,
        prog="sabsim gradients",
        description=(
            "Sparsity kappa and depth d of what a run recalls, and the norm of dL/dh_t at every step t under SAB, "
            "truncated BPTT, full BPTT and full self-attention, on the same parameters and sequences (after Kerg et al. "
            "2020, arXiv 2006.09471). Every gradient is by autograd and slow: seconds for each sequence of 100 steps."
        ),
    )
    if not options.run:
        raise ConfigError("which run? give its folder; see 'sabsim gradients --help'")
    require_at_least(options, {"sequences": 1} | ({} if options.seed is None else {"seed": 0}))
    choose("loss", options.loss, ("answers", "all"))
    folder = RunFolder(Path(options.run))
    config = folder.read_config()
    if not folder.checkpoint.exists():
        raise RunFolderError(f"'{folder.path}': no checkpoint yet; 'sabsim run ... --resume' goes on with the run")
    checkpoint = load_checkpoint(folder)
    out = Path(options.out) if options.out else folder.path / "gradients"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out = '{out}': cannot be written ({error.strerror}); give another --out") from error
    # Here and not above: help or a mistake need none of what this loads.
    from sabsim.gradients import describe, measure, write_gradients

    torch.set_num_threads(config.run.threads)
    seed = config.run.seed if options.seed is None else options.seed
    console = plain_console()
    learned: Any = checkpoint.played
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("rules", total=None)
        measured = measure(
            config,
            learned,
            sequences=options.sequences,
            seed=seed,
            all_losses=options.loss == "all",
            after_rule=lambda rule: progress.update(bar, description=f"{rule} done"),
        )
    about = {
        "run": str(folder.path),
        "command": shlex.join(["sabsim", "gradients", *arguments]),
        "task": config.task.name,
        **config.task.facts(),
        "trained_sequences": checkpoint.numbers["sequences"],
        "sequences": options.sequences,
        "seed": seed,
        "loss_of": options.loss,
        "config": config.to_json(),
        **{"sabsim": sabsim_version(), "git": git_revision(), "torch": torch.__version__, "date": utc_now()},
    }
    written = write_gradients(measured, about, out)
    written += _draw(measured, about, out)
    figures = describe(measured)
    console.print(_rules_table(figures, about))
    if figures["recall"]:
        console.print(_recall_table(figures))
    for rule, why in measured.left_out.items():
        console.print(f"{rule}: left out, {why}", soft_wrap=True)
    console.print(f"{', '.join(path.name for path in written)} in {out}", soft_wrap=True)
    return 0


def _draw(measured: Measured, about: Mapping[str, Any], out: Path) -> list[Path]:
    """All sequences where the same steps matter in each, else the first one alone."""
    from sabsim.analysis import save
    from sabsim.analysis.gradient_figure import gradient_figure
    from sabsim.gradients.measure import RULES

    needed, scored = measured.needed(), measured.scored()
    alike = bool((needed == needed[0]).all())
    shown = slice(None) if alike else slice(1)
    lines = {RULES[rule]: measured.norm(rule)[shown].mean(axis=0) for rule in measured.gradient}
    what = "the answers" if about["loss_of"] == "answers" else "all steps"
    which = f"mean over {len(needed)} held-out sequences" if alike else "one held-out sequence"
    figure = gradient_figure(
        lines,
        needed=needed[0].nonzero()[0].tolist(),
        scored=scored[0].nonzero()[0].tolist(),
        title=f"Which steps the gradient reaches\nLoss of {what}; {about['task']}, T = {about['T']}, after "
        f"{about['trained_sequences']:,} training sequences; {which}",
    )
    return save(figure, out / "gradients")


def _rules_table(figures: Mapping[str, Any], about: Mapping[str, Any]) -> Table:
    title = f"|dL/dh_t|, L the loss of {'the answers' if about['loss_of'] == 'answers' else 'all steps'}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("rule", "at needed steps", "at others", "needed without", "cosine with full BPTT"):
        first = column == "rule"
        table.add_column(column, justify="left" if first else "right", no_wrap=first, min_width=8)
    for rule in figures["rules"].values():
        cosine = "-" if rule["cosine"] is None else f"{rule['cosine']:+.2f}"
        norms = (f"{rule['needed']:.2g}", f"{rule['others']:.2g}", f"{100 * rule['without']:.0f} %")
        table.add_row(rule["what"], *norms, cosine)
    return table


def _recall_table(figures: Mapping[str, Any]) -> Table:
    table = Table(title="Sparsity kappa and depth d of recall", title_justify="left", box=SIMPLE_HEAD)
    for column in ("forward pass", "weight above", "kappa, mean", "max", "d", "to needed", "reached"):
        table.add_column(column, justify="left" if column == "forward pass" else "right", no_wrap=column == "forward pass")
    for name, items in figures["recall"].items():
        for item in items:
            kappa = (f"{item['kappa_mean']:.1f}", str(item["kappa_max"]))
            reached = "-" if item["needed_reached"] is None else f"{100 * item['needed_reached']:.0f} %"
            depth = (str(item["d"]), "-" if item["d_to_needed"] is None else str(item["d_to_needed"]))
            table.add_row(name, f"{item['least_weight']:g}", *kappa, *depth, reached)
    return table
