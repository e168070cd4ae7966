"""Begin a run, or go on with one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs.build import DTYPES, Parts, build
from sabsim.runs.checkpoint import Checkpoint, load_checkpoint
from sabsim.runs.config import RunConfig
from sabsim.runs.database import RunDatabase
from sabsim.runs.folder import RunFolder, read_json
from sabsim.runs.loop import Loop
from sabsim.runs.progress import Display
from sabsim.runs.recorder import make_recorder


def train(
    config: RunConfig | None, *, out: str | Path, resume: bool = False, display: Display | None = None
) -> dict[str, Any]:
    """Run `config` in the folder `out` and return what `summary.json` holds.

    Arguments:
        config: the run; with `resume`, None means the one in the folder
        out: the run folder; must be free unless `resume`
        resume: go on from the last checkpoint (from the beginning, if there is no run in `out` yet)
        display: what is shown meanwhile; nothing by default

    Raises:
        ConfigError: an option that is not allowed, or that differs from the run to be resumed
        RunFolderError: a damaged folder, or one of another format version or task
        StorageError: the disk refuses
        NonFiniteError: NaN or infinity was met
        Interrupted: asked to stop by a signal; a checkpoint was saved
    """
    folder, display = RunFolder(Path(out)), display or Display()
    if resume and folder.begun:
        with folder.locked():
            return _resume(folder, config, display)
    if config is None:
        raise RunFolderError(f"'{folder.path}': no run to resume; give its task and options")
    if resume:
        display.note(f"no run in '{folder.path}' yet: starting from the beginning")
    parts = build(config)
    folder.require_free()
    with folder.locked():
        folder.require_free()
        folder.write_config(parts.config)
        return _start(folder, parts, display)


def _start(folder: RunFolder, parts: Parts, display: Display) -> dict[str, Any]:
    """From the beginning. The first checkpoint comes before the first row."""
    database = RunDatabase(folder.database)
    try:
        if any(database.counts().values()):
            raise RunFolderError(
                f"'{folder.checkpoint}': the checkpoint is missing, run.sqlite has rows; put back a copy of "
                "it, or start again with another --out"
            )
        loop = _loop(folder, parts, database, display)
        loop.save()
        return loop.run()
    finally:
        database.close()


def _resume(folder: RunFolder, config: RunConfig | None, display: Display) -> dict[str, Any]:
    """From the last checkpoint; rows recorded after it are dropped, since the run records them again."""
    stored = folder.read_config()
    wanted = _same_run(stored, config, folder)
    checkpoint = load_checkpoint(folder) if folder.checkpoint.exists() else None
    done = checkpoint.numbers["sequences"] if checkpoint else 0
    if checkpoint is not None and folder.summary.exists():
        if checkpoint.numbers["reached"]:
            goal = f"it reached stop_at = {stored.run.stop_at} at {done} sequences"
            display.note(f"'{folder.path}' is finished: {goal}")
            return read_json(folder.summary)
        if done >= wanted.run.budget == stored.run.budget:
            display.note(f"'{folder.path}' is finished at {done} sequences; a larger --budget goes on")
            return read_json(folder.summary)
    if wanted.run.budget < min(done, stored.run.budget):
        raise ConfigError(f"budget = {wanted.run.budget}: '{folder.path}' has {done} sequences already")
    parts = build(wanted)
    if wanted != stored:
        folder.write_config(wanted)
    folder.summary.unlink(missing_ok=True)
    if checkpoint is None:
        return _start(folder, parts, display)
    database = RunDatabase(folder.database)
    try:
        loop = _loop(folder, parts, database, display)
        _restore(checkpoint, parts, folder)
        database.trim(checkpoint.numbers["rows"])
        loop.load_state_dict(checkpoint.numbers)
        display.note(f"'{folder.path}' goes on from {done} sequences")
        return loop.run()
    finally:
        database.close()


def _same_run(stored: RunConfig, config: RunConfig | None, folder: RunFolder) -> RunConfig:
    """The run to go on with: the stored one, with the budget that was asked for.

    Raises:
        RunFolderError: the folder holds another task
        ConfigError: another option differs; all but the budget must be the same for the results to be
    """
    if config is None:
        return stored
    budget = config.run.budget
    backend = stored.run.backend if config.run.backend == "auto" else config.run.backend
    config = replace(config, run=replace(config.run, budget=stored.run.budget, backend=backend)).resolved()
    for name, there, here in stored.differences(config):
        if name == "task":
            raise RunFolderError(f"'{folder.path}': holds a run of task {there!r}, not {here!r}; give another --out")
        raise ConfigError(f"{name} = {here}: the run in '{folder.path}' has {there}; leave it out, or give another --out")
    return replace(stored, run=replace(stored.run, budget=budget))


def _loop(folder: RunFolder, parts: Parts, database: RunDatabase, display: Display) -> Loop:
    run, credit = parts.config.run, parts.learner.credit
    torch.set_num_threads(run.threads)
    recorder = make_recorder(
        database=database,
        streams=run.streams,
        recorded=run.record_streams,
        every=run.record_every,
        length=parts.config.length,
        reach=credit.k_trunc + credit.block,
        device=parts.learner.device,
        dtype=DTYPES[run.dtype],
    )
    return Loop(parts=parts, folder=folder, database=database, recorder=recorder, display=display)


def _restore(checkpoint: Checkpoint, parts: Parts, folder: RunFolder) -> None:
    """Learner and stream as they were.

    Raises:
        RunFolderError: the checkpoint is of another learner or stream
    """
    try:
        learner: dict[str, Any] = dict(checkpoint.states["learner"])
        stream: dict[str, Any] = dict(checkpoint.states["stream"])
        parts.learner.load_state_dict(learner)
        parts.stream.load_state_dict(stream)
    except (ConfigError, KeyError, RuntimeError) as error:
        raise RunFolderError(
            f"'{folder.checkpoint}': does not fit config.json ({str(error).splitlines()[0]}); put back "
            "the file that belongs to this run"
        ) from error
