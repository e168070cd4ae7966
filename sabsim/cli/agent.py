"""`sabsim agent ENV_ID`: train an agent online in an environment and leave a run folder."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from sabsim.agents import (
    CREDITS,
    AgentConfig,
    AgentLearnerOptions,
    AgentOptimizerOptions,
    AgentRunOptions,
    SignalOptions,
    maker,
    read_agent_config,
    read_env_args,
    train_agent,
)
from sabsim.choices import choose
from sabsim.cli.parse import parse
from sabsim.cli.run import FolderOptions
from sabsim.errors import ConfigError
from sabsim.runs import RunFolder, make_display
from sabsim.runs.progress import duration, number

_EXAMPLES = """examples:
  sabsim agent sabsim/MemoryChain-v0 --env-args memory_length=100 --out runs/chain
  sabsim agent MiniGrid-MemoryS7-v0 --window 8 --slots 32 --steps 1000000
  sabsim agent sabsim/TMaze-v0 --credit no-replay          (recall without replay)
  sabsim agent sabsim/MemoryChain-v0 --out runs/chain --resume    (go on after a kill, with the options it had)"""


@dataclass(frozen=True, kw_only=True)
class EnvironmentOptions:
    """What the environment is made with."""

    env_args: Annotated[
        tuple[str, ...], arg(metavar="KEY=VALUE [KEY=VALUE ...]", help_behavior_hint="(default: none)")
    ] = ()
    """Arguments of the environment; or all of them as one JSON object."""
    mix: Annotated[tuple[str, ...], arg(metavar="ENV_ID [ENV_ID ...]", help_behavior_hint="(default: none)")] = ()
    """Further environments, played by turns of the streams: a curriculum. Evaluations play the first one alone."""


_GROUPS: dict[str, type] = {
    "environment": EnvironmentOptions,
    "run": AgentRunOptions,
    "folder": FolderOptions,
    "learner": AgentLearnerOptions,
    "signal": SignalOptions,
    "optimizer": AgentOptimizerOptions,
}
"""In the order of the help text."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status.

    Raises:
        SabsimError: whatever is wrong with environment, options, folder, disk or numbers, in one line
    """
    if not arguments:
        raise ConfigError("which environment? such as sabsim/MemoryChain-v0; see 'sabsim agent --help'")
    if arguments[0] in ("-h", "--help"):
        return _help()
    if arguments[0].startswith("-"):
        raise ConfigError(
            f"{arguments[0]}: the environment comes first, as in 'sabsim agent sabsim/TMaze-v0 {arguments[0]} ...'"
        )
    env = arguments[0]
    chosen = _parse(arguments[1:], _defaults())
    folder = _folder(env, chosen)
    if chosen.folder.resume and folder.begun:
        # Options left out mean those the run was begun with; what is given must agree with them.
        chosen = _parse(arguments[1:], _stored(read_agent_config(folder), chosen.folder))
    config = _config(env, chosen)
    choose("credit", config.learner.credit, CREDITS)
    for name in (config.env, *config.mix):
        maker(name, config.env_args)
    display = make_display(quiet=chosen.folder.quiet)
    summary = train_agent(config, out=folder.path, resume=chosen.folder.resume, display=display)
    display.note(_last_line(summary, folder))
    return 0


def _options() -> Any:
    """One dataclass of several, each a group of the help text."""
    items = [(name, kind, field(default_factory=kind)) for name, kind in _GROUPS.items()]
    return dataclasses.make_dataclass("Options", items, frozen=True, kw_only=True)


def _defaults() -> Any:
    return _options()(**{name: kind() for name, kind in _GROUPS.items()})


def _stored(config: AgentConfig, folder: FolderOptions) -> Any:
    """The options that a run was begun with."""
    environment = EnvironmentOptions(env_args=(json.dumps(dict(config.env_args)),), mix=config.mix)
    return dataclasses.replace(
        _defaults(),
        environment=environment,
        run=config.run,
        folder=folder,
        learner=config.learner,
        signal=config.signal,
        optimizer=config.optimizer,
    )


def _parse(arguments: Sequence[str], default: Any) -> Any:
    return parse(
        type(default),
        arguments,
        prog="sabsim agent ENV_ID",
        description=f"Train an agent online.\n\n{_credits()}",
        default=default,
    )


def _credits() -> str:
    """The rules for --credit, in words."""
    return "\n\n".join(f"--credit {name}: {credit.purpose}" for name, credit in CREDITS.items())


def _config(env: str, chosen: Any) -> AgentConfig:
    return AgentConfig(
        env=env,
        env_args=read_env_args(chosen.environment.env_args),
        mix=chosen.environment.mix,
        learner=chosen.learner,
        optimizer=chosen.optimizer,
        signal=chosen.signal,
        run=chosen.run,
    )


def _folder(env: str, chosen: Any) -> RunFolder:
    """The folder asked for, or one named after the run."""
    if chosen.folder.out is not None:
        return RunFolder(Path(chosen.folder.out))
    own = "-".join(f"{name}{value}" for name, value in read_env_args(chosen.environment.env_args).items())
    parts = [env.removeprefix("sabsim/"), own, chosen.learner.credit, f"seed{chosen.run.seed}"]
    return RunFolder(Path("runs") / re.sub(r"[^\w.-]+", "-", "-".join(part for part in parts if part)))


def _help() -> int:
    print("Train an agent online in any Gymnasium environment with Discrete actions, and leave a run folder.\n")
    print(f"{_EXAMPLES}\n")
    _parse(["--help"], _defaults())
    return 0


def _last_line(summary: dict[str, Any], folder: RunFolder) -> str:
    found = summary["evaluation"]
    success = "" if found["success"] is None else f"success {number(found['success']['estimate'])}, "
    return (
        f"{success}return {number(found['return']['estimate'])} over {found['episodes']} episodes, "
        f"{summary['steps']} steps trained, {duration(summary['seconds'])}, "
        f"{summary['steps_per_second']:.0f} steps/s: {folder.path}"
    )
