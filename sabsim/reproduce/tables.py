"""The tables and their rows: what each is run with. What the paper reports of them is in ``paper``.

Rows learn in streaming mode: several streams side by side, an update every few steps, 32 slots of memory (adding: 16).
Where a task can be solved, the rows that lead stop when they have, and the others get as many sequences as the longest of
these needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sabsim.runs.config import RunConfig
from sabsim.runs.folder import RunFolder
from sabsim.runs.options import LearnerOptions, OptimizerOptions
from sabsim.runs.recipes import recipe_of
from sabsim.runs.sweep import Planned
from sabsim.tasks import Adding, CharLM, Copying, Denoise, Pixels

from .full import FULL, Full
from .table import Row, Table


def _sab(k: int) -> Row:
    return Row(name=f"SAB ({k}, {k})", learner={"k_trunc": k, "k_top": k}, leads=True)


def _tbptt(*lengths: int) -> tuple[Row, ...]:
    return tuple(Row(name=f"LSTM, TBPTT ({k})", learner={"credit": "tbptt", "k_trunc": k}) for k in lengths)


_LITERAL = {"explore": 0.0}
_PRESETS = (
    Row(name="SAB (5, 5), paper", learner={"preset": "paper", **_LITERAL}),
    Row(name="SAB (5, 5), released", learner={"preset": "released", **_LITERAL}),
)
_WITHOUT = Row(name="no replay", learner={"replays": 0})
_BPTT = Row(name="LSTM, BPTT", learner={"credit": "bptt"})


def _lasting(*rows: Row) -> tuple[Row, ...]:
    """Without sparse recall the units themselves have to remember: they begin with a memory of up to exp(5) steps."""
    return tuple(replace(row, learner={"forget_bias": 5.0, **row.learner}) for row in rows)


_ALONE = {"weight_decay": 0.0, "warmup_updates": 0}
"""Decay is for the salience of sparse recall, a slow start was tried with that alone: a rival's attention has neither."""


def _attentive(nu: int, rho: int, *, leads: bool = True) -> tuple[Row, ...]:
    """Full self-attention and relevancy screening of Kerg et al. 2020; nu and rho as in their released code."""
    full = {"credit": "full-attention", "retention": "all", "update_every": None}
    screened = full | {"credit": "screened-attention", "retention": "relevancy", "slots": nu + rho, "buffer": nu}
    return (
        Row(name="LSTM, self-attention", learner=full, optimizer=_ALONE, leads=leads, alone=True),
        Row(name=f"RelLSTM ({nu}, {rho})", learner=screened, optimizer=_ALONE, leads=leads, alone=True),
    )


def _copying(length: int) -> Table:
    return Table(
        what=f"copying, T = {length}: accuracy over the ten digits",
        task=Copying(T=length),
        rows=(
            *_lasting(_BPTT, *_tbptt(1, 5, 10, 20)),
            _WITHOUT,
            replace(_sab(1), leads=False),
            _sab(5),
            _sab(10),
            *_PRESETS,
            *_lasting(*_attentive(10, 15)),
        ),
        stop_at=0.99,
        budget=200_000,
        quick={"T": 20},
    )


def _adding(length: int, solved: float) -> Table:
    # The recipe's step size is for updates that a replay triggers; those of another credit rule are by the clock.
    slower = {"lr": 4e-3, "lr_schedule": "rsqrt", "decay_updates": None, "average": 0.995}
    return Table(
        what=f"adding, T = {length}: mean squared error (the paper's 'cross entropy')",
        task=Adding(T=length),
        rows=(
            replace(_BPTT, learner={**_BPTT.learner, "update_every": None}, optimizer=slower),
            *(replace(row, learner={**row.learner, "update_every": 2}, optimizer=slower) for row in _tbptt(20, 50)),
            _WITHOUT,
            _sab(5),
            _sab(10),
            *(replace(row, optimizer={**slower, **row.optimizer}) for row in _attentive(10, 15)),
        ),
        stop_at=solved,
        budget=200_000,
        quick={"T": 20},
    )


_CHARACTERS = (
    Row(name="LSTM, TBPTT (5)", learner={"credit": "tbptt", "k_trunc": 5}),
    Row(name="LSTM, TBPTT (20)", learner={"credit": "tbptt", "k_trunc": 20}),
    Row(name="no replay", learner={"replays": 0, "k_trunc": 20, "k_top": 5, "k_att": 10, "explore": 0.0}),
)
_SAB_TEXT = tuple(
    Row(name=f"SAB (20, 5, {k_att})", learner={"k_trunc": 20, "k_top": 5, "k_att": k_att, "explore": 0.0})
    for k_att in (10, 5)
)
# Not the paper's eq. 4: what is recalled is read out, and does not go on to the next step.
_READ_OUT_ONLY = tuple(
    Row(name=f"{name} (20, 5, 5), feeds h_hat", learner={**_SAB_TEXT[1].learner, "feeds": "h_hat", **less})
    for name, less in (("no replay", {"replays": 0}), ("SAB", {}))
)


def _sab_14(k_top: int) -> Row:
    return Row(name=f"SAB (14, {k_top}, 14)", learner={"k_top": k_top, "replays": k_top})


def _pixels(permuted: bool) -> Table:
    return Table(
        what=f"MNIST pixel by pixel{', permuted' * permuted}: accuracy (%/100) on the test images",
        task=Pixels(images="mnist", permuted=permuted),
        rows=(
            *(Row(name=f"LSTM, TBPTT ({k})", learner={"credit": "tbptt", "k_trunc": k}) for k in (14, 28)),
            Row(name="no replay", learner={"k_top": 5, "replays": 0}),
            _sab_14(5),
            _sab_14(10),
            *_attentive(10, 10, leads=False),
        ),
        stop_at=None,
        budget=24_000,
        quick={"images": "digits"},
        note="Less than half a pass of the training images; the paper trained for many passes.",
        run={"eval_every": 4_000, "eval_sequences": 1_000},
    )


def _at_full_size(table: Table, full: Full) -> Table:
    return replace(
        table,
        rows=(*table.rows, *full.rows),
        what=f"{table.what}; at the paper's size",
        budget=full.budget,
        note=full.note,
        learner={**table.learner, **full.learner},
        optimizer={**table.optimizer, **full.optimizer},
        run={**table.run, **full.run},
    )


TABLES: dict[str, Table] = {
    "table1": _copying(100),
    "table2": _copying(200),
    "table3": _copying(300),
    # A run stops where an evaluation happens to be good: the limits are half of the paper's figures.
    "table4": _adding(200, 0.00005),
    "table5": _adding(400, 0.00007),
    "table6": Table(
        what="Penn Treebank, characters: bits per character on the test part",
        task=CharLM(corpus="ptb"),
        rows=(*_CHARACTERS, *_SAB_TEXT, *_READ_OUT_ONLY),
        stop_at=None,
        budget=50_000,
        quick={"corpus": "docs"},
        note="n = 128 and at most one pass of the training text; the paper had n = 1,000 and many.",
    ),
    "table7": Table(
        what="text8, its first 12.5 million characters: bits per character on the test part",
        task=CharLM(corpus="text8"),
        rows=(*_CHARACTERS, *_SAB_TEXT, *_READ_OUT_ONLY),
        stop_at=None,
        budget=50_000,
        quick={"corpus": "docs"},
        note="A prefix of text8 and n = 128: not comparable with the literature.",
    ),
    "table8": _pixels(False),
    "table8-permuted": _pixels(True),
    "transfer": Table(
        what="copying learned at T = 100, played at another T: accuracy",
        task=Copying(T=100),
        rows=(*_lasting(_BPTT), _WITHOUT, _sab(5), *_lasting(*_attentive(10, 15))),
        stop_at=0.99,
        budget=200_000,
        quick={"T": 20},
        lengths=(100, 200, 400, 2000, 5000),
        note="The figures here are those at T = 100; all T are in transfer-lengths.",
    ),
    "denoise": Table(
        what="denoise, T = 200: accuracy over the ten digits",
        task=Denoise(T=200),
        rows=(
            _BPTT,
            *_tbptt(10, 20),
            _WITHOUT,
            _sab(5),
            _sab(10),
            *_attentive(15, 15),
        ),
        stop_at=0.99,
        budget=200_000,
        quick={"T": 20},
        note="Kerg et al. (2020) play it up to T = 1,000.",
    ),
}
TABLES |= {f"{name}-full": _at_full_size(TABLES[name], full) for name, full in FULL.items()}
"""By name: those of Ke et al. in their order, two of Kerg et al. (2020, arXiv 2006.09471), and some at the paper's size."""


def config(table: Table, row: Row, seed: int, *, quick: bool, budget: int | None = None) -> RunConfig:
    """The run of one row and seed; ``budget``: sequences it gets, by default the row's or the table's."""
    recipe = recipe_of(table.task)
    task = replace(table.task, **table.quick) if quick else table.task
    learner: LearnerOptions = replace(recipe.learner, **{**table.learner, **row.learner})
    optimizer: OptimizerOptions = replace(recipe.optimizer, **{**table.optimizer, **row.optimizer})
    run = replace(recipe.run, **{**table.run, **row.run})
    run = replace(
        run,
        eval_every=min(run.eval_every, QUICK_BUDGET // 4) if quick else run.eval_every,
        seed=seed,
        budget=budget or (QUICK_BUDGET if quick else row.budget or table.budget),
        stop_at=table.stop_at if row.leads else None,
        record_streams=0,
    )
    return RunConfig(task=task, learner=learner, optimizer=optimizer, run=run)


QUICK_BUDGET = 2_000
"""Sequences of a row with ``--quick``."""


def plan(
    name: str,
    rows: tuple[str, ...],
    seeds: int,
    out: Path,
    *,
    quick: bool,
    leading: bool,
    budget: int | None = None,
    device: str = "auto",
    threads: int = 1,
) -> list[Planned]:
    """The runs of a table's rows, those that lead or the others: ``out/TABLE/ROW/SEED``.

    ``budget``: sequences of each, by default the row's or the table's; a run that was begun with more keeps those.
    ``device``, ``threads``: where they compute.
    """
    table, found = TABLES[name], []
    for row in table.rows:
        if row.leads is not leading or (rows and row.name not in rows):
            continue
        for seed in range(seeds):
            folder = out / name / row.folder / str(seed)
            wanted = config(table, row, seed, quick=quick, budget=budget)
            most = max(wanted.run.budget, begun_with(folder))
            wanted = replace(wanted, run=replace(wanted.run, budget=most, device=device, threads=threads))
            found.append(Planned(name=run_name(name, row, seed), config=wanted, out=folder))
    return found


def needed(name: str, sequences: Mapping[str, int]) -> int | None:
    """Sequences that the longest of the leading runs needed; None where there are none, or where they are ``alone``.

    ``sequences``: of finished runs, by their names in the sweep.
    """
    beside = [f"{name}/{row.name}/seed " for row in TABLES[name].rows if row.alone]
    return max((count for run, count in sequences.items() if not run.startswith(tuple(beside))), default=None)


def run_name(table: str, row: Row, seed: int) -> str:
    """How a run of a sweep is called."""
    return f"{table}/{row.name}/seed {seed}"


def begun_with(folder: Path) -> int:
    """The budget of the run in ``folder``, 0 without one."""
    there = RunFolder(folder)
    return there.read_config().run.budget if there.begun else 0
