"""The whole description of an agent's run as one frozen value, and its JSON form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any

from sabsim.choices import require_at_least
from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs.config import ENDLESS_UPDATES, FORMAT, read_group, require_kind

from .options import AgentLearnerOptions, AgentOptimizerOptions, AgentRunOptions, SignalOptions

KIND = "agent"
"""What ``config.json`` says of an agent's run."""
EVALUATION_SEEDS = 1_000_000_000
"""Environments are trained with seeds below this, and evaluated with seeds from it on."""

_EPS = 1e-8
_LR = {"adam": 2e-3, "obgd": 1.0}
_OTHER_LR = 1e-3
_KAPPA = 3.0


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Environment, learner, optimiser, learning signal and run: what is needed to run it again.

    Args:
        env: a Gymnasium id, such as "sabsim/MemoryChain-v0", "MiniGrid-MemoryS7-v0" or "module:Id-v0".
        env_args: what the environment is made with, by name.
        mix: further ids; the streams are shared among all of them, and ``env`` alone is evaluated.
        learner, optimizer, signal, run: the options, by group.

    Raises ConfigError: for a number out of range. Names are checked by the parts that are made of them.

        >>> config = AgentConfig(env="sabsim/MemoryChain-v0", env_args={"memory_length": 100})
        >>> config.run.streams
        32
    """

    env: str
    env_args: Mapping[str, Any] = field(default_factory=dict)
    mix: tuple[str, ...] = ()
    learner: AgentLearnerOptions = field(default_factory=AgentLearnerOptions)
    optimizer: AgentOptimizerOptions = field(default_factory=AgentOptimizerOptions)
    signal: SignalOptions = field(default_factory=SignalOptions)
    run: AgentRunOptions = field(default_factory=AgentRunOptions)

    def __post_init__(self) -> None:
        try:
            json.dumps(dict(self.env_args))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"env_args = {self.env_args!r}: must be what JSON can hold ({error})") from error
        for name, value in self.options().items():
            if isinstance(value, float) and not isfinite(value):
                raise ConfigError(f"{name} = {value}: must be finite")
        least = {
            "seed": 0,
            "streams": 1,
            "steps": 1,
            "eval_every": 1,
            "eval_episodes": 1,
            "checkpoint_every": 1,
            "record_streams": 0,
            "record_every": 1,
            "threads": 1,
        }
        if self.run.final_episodes is not None:
            least["final_episodes"] = 1
        require_at_least(self.run, least)
        require_at_least(self.learner, dict.fromkeys(("window", "k_top", "k_att", "slots", "hidden", "features"), 1))
        if self.learner.k_trunc is not None:
            require_at_least(self.learner, {"k_trunc": 1})
        if self.run.record_streams > self.run.streams:
            raise ConfigError(f"record_streams = {self.run.record_streams}: must be at most streams = {self.run.streams}")
        if self.learner.action_credit not in ("none", "recall", "random"):
            raise ConfigError(f"action_credit = {self.learner.action_credit!r}: must be none, recall or random")
        if self.learner.action_credit != "none" and self.signal.gamma == 1:
            raise ConfigError(
                f"action_credit = {self.learner.action_credit!r}: sends value over lags of more than 1/(1 - gamma) steps, "
                "and with gamma = 1 there are none; must be none, or gamma below 1"
            )
        if len(self.mix) >= self.run.streams:
            raise ConfigError(f"mix = {', '.join(self.mix)}: streams = {self.run.streams} are too few for one of each")
        if self.training_seed + self.run.streams > EVALUATION_SEEDS:
            most = EVALUATION_SEEDS // self.run.streams - 1
            raise ConfigError(f"seed = {self.run.seed}: must be at most {most} with streams = {self.run.streams}")

    @property
    def training_seed(self) -> int:
        """The seed of the first environment; the others follow. No two runs' seeds have an environment in common."""
        return self.run.seed * self.run.streams

    def seed_at(self, env_steps: int) -> int:
        """The first environment's seed where a run goes on at ``env_steps`` with new episodes."""
        return (self.training_seed + 7919 * env_steps) % (EVALUATION_SEEDS - self.run.streams)

    @property
    def evaluation_seed(self) -> int:
        """The seed of the first episode of an evaluation; the others follow. None is ever trained on."""
        return EVALUATION_SEEDS + 1_000_000 * self.run.seed

    def resolved(self) -> AgentConfig:
        """The same run with what depends on the optimiser or the number of steps filled in.

        Raises ConfigError: as ``AgentConfig``.
        """
        optimizer = self.optimizer
        usual = _LR.get(optimizer.optimizer, _OTHER_LR)
        values: dict[str, Any] = {"lr": usual if optimizer.lr is None else optimizer.lr}
        if optimizer.optimizer == "obgd" and optimizer.kappa is None:
            values["kappa"] = _KAPPA
        if optimizer.optimizer == "adam":
            values["amsgrad"] = optimizer.amsgrad is not False
        if optimizer.optimizer in ("adam", "rmsprop") and optimizer.eps is None:
            values["eps"] = _EPS
        if optimizer.lr_schedule in ("inverse", "rsqrt") and optimizer.decay_updates is None:
            values["decay_updates"] = ENDLESS_UPDATES
        elif optimizer.lr_schedule != "constant" and optimizer.decay_updates is None:
            updates = self.run.steps // (self.run.streams * self.learner.window)
            values["decay_updates"] = max(1, updates // (1 + max(0, optimizer.restarts)))
        # A trace is moved along by TD errors as they are.
        signal = replace(self.signal, scale_advantage=self.signal.scale_advantage and not self.signal.traces)
        learner = replace(self.learner, k_trunc=self.learner.k_trunc or self.learner.window)
        return replace(self, optimizer=replace(optimizer, **values), signal=signal, learner=learner)

    def options(self) -> dict[str, Any]:
        """Every option by its name, the environment and its arguments among them."""
        groups = (self.learner, self.optimizer, self.signal, self.run)
        # The optimiser's and the returns' decay are two things.
        named = {name: value for group in groups for name, value in asdict(group).items()}
        named |= {"decay": self.optimizer.decay, "lambda": self.signal.decay}
        return {"env": self.env, "env_args": dict(self.env_args), "mix": list(self.mix)} | named

    def differences(self, other: AgentConfig) -> list[tuple[str, Any, Any]]:
        """Options whose value is not the same in ``other``: name, value here, value there; the environment first."""
        theirs = other.options()
        return [(name, value, theirs[name]) for name, value in self.options().items() if value != theirs[name]]

    def to_json(self) -> dict[str, Any]:
        """The parts of ``config.json`` that describe the run."""
        return {
            "format": FORMAT,
            "kind": KIND,
            "env": self.env,
            "env_args": dict(self.env_args),
            "mix": list(self.mix),
            "learner": asdict(self.learner),
            "optimizer": asdict(self.optimizer),
            "signal": asdict(self.signal),
            "run": asdict(self.run),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], where: str) -> AgentConfig:
        """The run that ``to_json`` described; ``where`` names the file in errors.

        Raises RunFolderError: for another format version, a run of another kind, or an option unknown or of a wrong kind.
        """
        require_kind(data, KIND, where)
        env, env_args, mix = data.get("env"), data.get("env_args"), data.get("mix")
        if not isinstance(env, str) or not isinstance(env_args, dict) or not isinstance(mix, list):
            raise RunFolderError(f"{where}: the environments or their arguments are missing; the file is damaged")
        try:
            return cls(
                env=env,
                env_args=env_args,
                mix=tuple(mix),
                learner=read_group(AgentLearnerOptions, data.get("learner"), where),
                optimizer=read_group(AgentOptimizerOptions, data.get("optimizer"), where),
                signal=read_group(SignalOptions, data.get("signal"), where),
                run=read_group(AgentRunOptions, data.get("run"), where),
            )
        except ConfigError as error:
            raise RunFolderError(f"{where}: {error}; the file was changed") from error


def read_env_args(words: Sequence[str]) -> dict[str, Any]:
    """An environment's arguments, from one JSON object or from words ``KEY=VALUE`` whose values are JSON or else text.

    Raises ConfigError: for words that are neither.

        >>> read_env_args(["memory_length=100"]) == read_env_args(['{"memory_length": 100}'])
        True
    """
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        try:
            return dict(json.loads(words[0]))
        except ValueError as error:
            raise ConfigError(f"env_args = {words[0]!r}: is not a JSON object ({error})") from error
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"env_args = {word!r}: must be KEY=VALUE, or one JSON object")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
