"""Begin an agent's run, or go on with one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs.checkpoint import Checkpoint, load_checkpoint
from sabsim.runs.database import RunDatabase, Tables, tables_of
from sabsim.runs.folder import RunFolder
from sabsim.runs.lifecycle import finished, go_on, may_change_threads, start
from sabsim.runs.progress import Display

from .build import AgentParts, build_agent
from .config import AgentConfig
from .loop import AgentLoop
from .tables import AGENT_TABLES

LEARNED = ("flat", "optimizer.", "usual.", "learner.typical", "learner.usual_credit")
"""What of a learner's state was learned and belongs to no stream: how its names begin."""


def train_agent(
    config: AgentConfig | None, *, out: str | Path, resume: bool = False, display: Display | None = None
) -> dict[str, Any]:
    """Trains the agent that ``config`` describes, in the folder ``out``, and returns what ``summary.json`` holds.

    Args:
        config: the run; with ``resume``, None means the one in the folder.
        out: the run folder; must be free unless ``resume``.
        resume: go on from the last checkpoint (from the beginning, if there is no run in ``out`` yet).
        display: what is shown meanwhile; nothing by default.

    Raises:
        ConfigError: an option that is not allowed, or that differs from the run to be resumed.
        RunFolderError: a damaged folder, or one of another format version, kind or environment.
        StorageError: the disk refuses.
        NonFiniteError: NaN or infinity was met.
        Interrupted: asked to stop by a signal; a checkpoint was saved.

    A small run, and its last evaluation:

        >>> import tempfile
        >>> from sabsim.agents import AgentConfig, AgentRunOptions, train_agent
        >>> config = AgentConfig(
        ...     env="sabsim/MemoryChain-v0", env_args={"memory_length": 5}, run=AgentRunOptions(streams=4, steps=400)
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     summary = train_agent(config, out=folder)
        >>> summary["steps"], summary["evaluation"]["length"]["estimate"]
        (400, 5.0)
    """
    folder, display = RunFolder(Path(out)), display or Display()
    if resume and folder.begun:
        with folder.locked():
            return _resume(folder, config, display)
    if config is None:
        raise RunFolderError(f"'{folder.path}': no run to resume; give its environment and options")
    if resume:
        display.note(f"no run in '{folder.path}' yet: starting from the beginning")
    # Before the parts: an environment may take its time.
    folder.require_free()
    parts = build_agent(config)
    begin_as(parts)
    with folder.locked():
        folder.require_free()
        folder.write_config(parts.config)
        return start(folder, partial(_loop, folder, parts, display=display), tables=_tables(parts.config))


def begin_as(parts: AgentParts) -> None:
    """Gives a fresh agent what the run of its option ``begin_from`` has learned, if there is one.

    Raises RunFolderError: if that is no agent's run. ConfigError: if the two are not of the same sizes, or see observations
    or rewards on other scales.
    """
    where = parts.config.run.begin_from
    if where is None:
        return
    folder = RunFolder(Path(where))
    before, now = read_agent_config(folder).signal, parts.config.signal
    for name in ("normalise", "scale_reward"):
        here, there = getattr(now, name), getattr(before, name)
        if here != there:
            raise ConfigError(
                f"{name} = {here}: it is {there} in begin_from = {where!r}, whose parameters know no other scale"
            )
    if not folder.checkpoint.exists():
        raise RunFolderError(f"'{folder.path}': no checkpoint yet, from which to begin")
    checkpoint = load_checkpoint(folder)
    learner = parts.agent.learner
    mine, theirs = learner.state_dict(), checkpoint.states["learner"]
    shared = {name: theirs[name] for name in mine if name in theirs and name.startswith(LEARNED)}
    try:
        learner.load_state_dict(mine | shared)
        parts.agent.follow(checkpoint.numbers["agent"])
    except (ConfigError, KeyError, ValueError) as error:
        raise ConfigError(f"begin_from = {where!r}: of another kind or size ({error})") from error


def read_agent_config(folder: RunFolder) -> AgentConfig:
    """The description of the agent's run in ``folder``.

    Raises RunFolderError: for no run, one of another kind or format version, or a damaged file.
    """
    return AgentConfig.from_json(folder.description(), str(folder.config))


def load_agent(folder: RunFolder) -> tuple[AgentParts, Checkpoint]:
    """The agent as the last checkpoint has it, for evaluation: its environments stand at the beginning.

    One that was trained on a CUDA device plays on the CPU where there is none.

    Raises RunFolderError: as ``read_agent_config``, or without a whole checkpoint.
    """
    config = read_agent_config(folder)
    if not folder.checkpoint.exists():
        raise RunFolderError(f"'{folder.path}': no checkpoint yet; 'sabsim agent ... --resume' goes on with the run")
    checkpoint = load_checkpoint(folder)
    torch.set_num_threads(config.run.threads)
    if config.run.device != "cpu":
        config = replace(config, run=replace(config.run, device="auto"))
    parts = build_agent(config)
    _restore_learner(checkpoint, parts, folder)
    try:
        parts.agent.restore(checkpoint.numbers["agent"])
    except KeyError as error:
        raise RunFolderError(
            f"'{folder.checkpoint}': does not say {error}; it was written by another revision of sabsim, use that one"
        ) from error
    return parts, checkpoint


def _resume(folder: RunFolder, config: AgentConfig | None, display: Display) -> dict[str, Any]:
    """From the last checkpoint, or from the beginning if there is none yet."""
    stored = read_agent_config(folder)
    wanted = _same_run(stored, config, folder)
    checkpoint = load_checkpoint(folder) if folder.checkpoint.exists() else None
    done = checkpoint.numbers["env_steps"] if checkpoint else 0
    summary = finished(
        folder,
        checkpoint,
        display,
        done=done,
        wanted=wanted.run.steps,
        stored=stored.run.steps,
        what=("steps", "steps"),
        goal=stored.run.stop_at,
    )
    if summary is not None:
        return summary
    parts = build_agent(wanted)
    tables = _tables(wanted)
    if checkpoint is None:
        begin_as(parts)
        return start(folder, partial(_loop, folder, parts, display=display), tables=tables, config=wanted)

    def restored(database: RunDatabase) -> AgentLoop:
        loop = _loop(folder, parts, database, display=display)
        loop.restore(checkpoint.numbers)
        display.note(f"'{folder.path}' goes on from {done} steps")
        return loop

    _restore_learner(checkpoint, parts, folder)
    return go_on(folder, checkpoint, restored, tables=tables, config=wanted)


def _same_run(stored: AgentConfig, config: AgentConfig | None, folder: RunFolder) -> AgentConfig:
    """The run to go on with: the stored one, with the numbers of steps and threads that were asked for.

    Raises RunFolderError: if the folder holds another environment. ConfigError: if another option differs; all but these
    must be the same for the results to be.
    """
    if config is None:
        return stored
    free = ["steps"]
    if may_change_threads(stored.run.backend, encoder=stored.learner.encoder):
        free.append("threads")
    asked = {name: getattr(config.run, name) for name in free}
    found = {name: getattr(stored.run, name) for name in ("backend", "device") if getattr(config.run, name) == "auto"}
    found |= {name: getattr(stored.run, name) for name in free}
    config = replace(config, run=replace(config.run, **found)).resolved()
    for name, there, here in stored.differences(config):
        if name in ("env", "env_args"):
            raise RunFolderError(f"'{folder.path}': holds a run of {name} {there!r}, not {here!r}; give another --out")
        raise ConfigError(f"{name} = {here}: the run in '{folder.path}' has {there}; leave it out, or give another --out")
    return replace(stored, run=replace(stored.run, **asked))


def _tables(config: AgentConfig) -> Tables:
    return tables_of(AGENT_TABLES, record_hidden=config.run.record_hidden)


def _loop(folder: RunFolder, parts: AgentParts, database: RunDatabase, *, display: Display) -> AgentLoop:
    torch.set_num_threads(parts.config.run.threads)
    return AgentLoop(parts=parts, folder=folder, database=database, display=display)


def _restore_learner(checkpoint: Checkpoint, parts: AgentParts, folder: RunFolder) -> None:
    """The learner as it was.

    Raises RunFolderError: if the checkpoint is of another one.
    """
    try:
        parts.agent.learner.load_state_dict(dict(checkpoint.states["learner"]))
    except (ConfigError, KeyError, RuntimeError) as error:
        raise RunFolderError(
            f"'{folder.checkpoint}': does not fit config.json ({str(error).splitlines()[0]}); put back "
            "the file that belongs to this run"
        ) from error
