"""Begin a run, or go on with one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs.build import DTYPES, Parts, build
from sabsim.runs.checkpoint import Checkpoint, load_checkpoint
from sabsim.runs.config import RunConfig
from sabsim.runs.database import TABLES, RunDatabase, Tables, tables_of
from sabsim.runs.folder import RunFolder
from sabsim.runs.lifecycle import finished, go_on, may_change_threads, start
from sabsim.runs.loop import Loop
from sabsim.runs.progress import Display
from sabsim.runs.recorder import make_recorder
from sabsim.tasks import Task


def train(
    config: RunConfig | None,
    *,
    out: str | Path,
    resume: bool = False,
    display: Display | None = None,
    until: float | None = None,
) -> dict[str, Any]:
    """Run `config` in the folder `out` and return what `summary.json` holds.

    Arguments:
        config: the run; with `resume`, None means the one in the folder
        out: the run folder; must be free unless `resume`
        resume: go on from the last checkpoint (from the beginning, if there is no run in `out` yet)
        display: what is shown meanwhile; nothing by default
        until: moment, as `time.time()` tells it, at which the run is to save a checkpoint and stop; None: none

    Raises:
        TimeUpError: that moment came before the end
        ConfigError: an option that is not allowed, or that differs from the run to be resumed
        RunFolderError: a damaged folder, or one of another format version or task
        StorageError: the disk refuses
        NonFiniteError: NaN or infinity was met
        Interrupted: asked to stop by a signal; a checkpoint was saved
    """
    folder, display = RunFolder(Path(out)), display or Display()
    if resume and folder.begun:
        with folder.locked():
            return _resume(folder, config, display, until)
    if config is None:
        raise RunFolderError(f"'{folder.path}': no run to resume; give its task and options")
    if resume:
        display.note(f"no run in '{folder.path}' yet: starting from the beginning")
    parts = build(config)
    folder.require_free()
    with folder.locked():
        folder.require_free()
        folder.write_config(parts.config)
        return start(folder, partial(_loop, folder, parts, display=display, until=until), tables=_tables(parts.config))


def _resume(folder: RunFolder, config: RunConfig | None, display: Display, until: float | None) -> dict[str, Any]:
    """From the last checkpoint, or from the beginning if there is none yet."""
    stored = folder.read_config()
    wanted = _same_run(stored, config, folder)
    checkpoint = load_checkpoint(folder) if folder.checkpoint.exists() else None
    if checkpoint and wanted.run.stop_at != stored.run.stop_at:
        # Whether it is good enough now is for the next evaluation to say.
        checkpoint = replace(checkpoint, numbers=checkpoint.numbers | {"reached": False})
    done = checkpoint.numbers["sequences"] if checkpoint else 0
    summary = finished(
        folder,
        checkpoint,
        display,
        done=done,
        wanted=wanted.run.budget,
        stored=stored.run.budget,
        what=("budget", stored.task.unit),
        goal=wanted.run.stop_at,
    )
    if summary is not None:
        return summary
    parts = build(wanted)
    tables = _tables(wanted)
    if checkpoint is None:
        anew = partial(_loop, folder, parts, display=display, until=until)
        return start(folder, anew, tables=tables, config=wanted)

    def restored(database: RunDatabase) -> Loop:
        loop = _loop(folder, parts, database, display=display, until=until)
        loop.load_state_dict(checkpoint.numbers, best=checkpoint.states.get("best"))
        display.note(f"'{folder.path}' goes on from {done} {wanted.task.unit}")
        return loop

    # Another text may make another learner; that is not what is to be said of it.
    require_same_data(wanted, checkpoint)
    _restore(checkpoint, parts, folder)
    return go_on(folder, checkpoint, restored, tables=tables, config=wanted)


def _same_run(stored: RunConfig, config: RunConfig | None, folder: RunFolder) -> RunConfig:
    """The run to go on with: the stored one, with budget, goal and threads as asked for, and data where they are.

    Raises:
        RunFolderError: the folder holds another task
        ConfigError: another option differs; all but these must be the same for the results to be
    """
    if config is None:
        return stored
    task, free = stored.task, ["budget", "stop_at"]
    if may_change_threads(stored.run.backend):
        free.append("threads")
    asked = {name: getattr(config.run, name) for name in free}
    if type(config.task) is type(task):
        task = _moved(task, config.task)
        config = replace(config, task=_moved(config.task, stored.task))
    backend = stored.run.backend if config.run.backend == "auto" else config.run.backend
    run = replace(config.run, backend=backend, **{name: getattr(stored.run, name) for name in free})
    config = replace(config, run=run).resolved()
    for name, there, here in stored.differences(config):
        if name == "task":
            raise RunFolderError(f"'{folder.path}': holds a run of task {there!r}, not {here!r}; give another --out")
        raise ConfigError(f"{name} = {here}: the run in '{folder.path}' has {there}; leave it out, or give another --out")
    return replace(stored, task=task, run=replace(stored.run, **asked))


def _moved(task: Task, there: Task) -> Task:
    """The task, with its data where those of another one lie."""
    return replace(task, **{name: getattr(there, name) for name in task.places})


def _tables(config: RunConfig) -> Tables:
    return tables_of(TABLES, record_hidden=config.run.record_hidden)


def _loop(folder: RunFolder, parts: Parts, database: RunDatabase, *, display: Display, until: float | None) -> Loop:
    run, credit = parts.config.run, parts.learner.credit
    torch.set_num_threads(run.threads)
    if parts.learner.device.type == "cuda":
        torch.set_float32_matmul_precision("high" if run.tf32 else "highest")
    recorder = make_recorder(
        database=database,
        streams=run.streams,
        recorded=run.record_streams,
        every=run.record_every,
        length=parts.config.task.period,
        reach=credit.k_trunc + credit.block,
        device=parts.learner.device,
        dtype=DTYPES[run.dtype],
        hidden=parts.learner.network.hidden if run.record_hidden else None,
    )
    return Loop(parts=parts, folder=folder, database=database, recorder=recorder, display=display, until=until)


def require_same_data(config: RunConfig, checkpoint: Checkpoint) -> None:
    """Raises ConfigError: the data are not those that the run was trained on."""
    trained_on = checkpoint.states["stream"]
    if any(trained_on.get(name) != value for name, value in config.task.identity.items()):
        raise ConfigError(f"{config.task.title}: it has changed since the run was trained on it; put the original back")


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
