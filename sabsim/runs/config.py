"""The whole description of a run as one frozen value, and its JSON form."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from itertools import count
from math import ceil, gcd
from typing import Any, TypeVar, get_type_hints

import torch

from sabsim.choices import choose
from sabsim.credit import CREDIT_RULES, CreditRule, Immediate
from sabsim.devices import DEVICES
from sabsim.errors import ConfigError, RunFolderError
from sabsim.optim import OPTIMIZERS
from sabsim.retention import RETENTIONS
from sabsim.runs.options import LearnerOptions, OptimizerOptions, RunOptions
from sabsim.tasks import TASKS, Task

FORMAT = 4
"""Version of the run folder. Another number means that files or their meaning have changed."""

KIND = "task"
"""What `config.json` says of a supervised run; `sabsim.agents` has another word for its own."""

_LATER = {
    "explore_fades": False,
    "familiar": False,
    "record_hidden": False,
    "tf32": False,
    "replay_share": 1.0,
    "warmup_updates": 0,
    "gap": 0,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "feeds": None,
    "restarts": 0,
    "encoder": "none",
    "features": 64,
    "device": "cpu",
}
"""Options that came after the format's first folders, with what these folders did without naming them."""
_GONE = {"centred": False}
"""Options that this version no longer has, with what it does without them: older folders may name that value."""
_DEFAULT_SLOTS = 32
ENDLESS_UPDATES = 3_000
"""D of the schedules that need no end: copying finds what to attend to in about as many learning signals."""
_GroupT = TypeVar("_GroupT")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Task, learner, optimiser and run: what is needed to run it again.

    Names are checked here; numbers by the parts that `sabsim.runs.build` makes of them.
    """

    task: Task
    learner: LearnerOptions = field(default_factory=LearnerOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    run: RunOptions = field(default_factory=RunOptions)

    @property
    def length(self) -> int:
        """Steps of one sequence, for what needs whole ones.

        Raises:
            ConfigError: the task has no end
        """
        if self.task.length is None:
            raise ConfigError(
                f"task {self.task.name!r} has no end, so neither credit bptt nor retention all can take it whole; "
                "credit tbptt reaches back as far as a long --k-trunc, any other retention keeps as many as --slots"
            )
        return self.task.length

    def resolved(self) -> RunConfig:
        """The same run with what depends on machine, task or budget filled in: device, slots, step size, decay.

        Raises:
            ConfigError: an unknown device, or CUDA where there is none
        """
        device = choose("device", self.run.device, DEVICES)
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device = 'cuda': this machine or this torch has none; use cpu or auto")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        rule = CREDIT_RULES[choose("credit", self.learner.credit, CREDIT_RULES)]
        stagger = self.run.stagger and not rule.whole_sequences and self.task.length is not None
        gap = self._gap(stagger, whole=rule.whole_sequences)
        slots, retention = self.learner.slots, self._retention(rule)
        if rule.keeps == "all":
            slots = self.length
        elif slots is None:
            slots = self.slots_for_all(gap) if retention == "all" else _DEFAULT_SLOTS
        decay = self.optimizer.decay_updates
        if decay is None and self.optimizer.lr_schedule != "constant":
            endless = self.optimizer.lr_schedule in ("inverse", "rsqrt")
            decay = ENDLESS_UPDATES if endless else self._updates_of_budget(gap)
        kind = OPTIMIZERS[choose("optimizer", self.optimizer.optimizer, OPTIMIZERS)]
        lr, warmup = self.optimizer.lr, self.optimizer.warmup_updates
        return replace(
            self,
            learner=replace(self.learner, slots=slots, retention=retention),
            optimizer=replace(
                self.optimizer,
                lr=kind.lr if lr is None else lr,
                decay_updates=decay,
                warmup_updates=kind.warmup_updates if warmup is None else warmup,
            ),
            run=replace(self.run, device=device, stagger=stagger, gap=gap),
        )

    def _gap(self, stagger: bool, *, whole: bool) -> int:
        """Idle steps after a sequence: as asked for, or the least with which the period and the block share no factor.

        Raises:
            ConfigError: there are to be some where sequences have no end, or must follow each other
        """
        gap = self.run.gap
        if gap is None:
            return next(g for g in count() if gcd(self.length + g, self._block) == 1) if stagger else 0
        if gap and self.task.length is None:
            raise ConfigError(f"gap = {gap}: task {self.task.name!r} has no sequences that end; leave it out")
        if gap and whole:
            raise ConfigError(f"gap = {gap}: must be 0, credit {self.learner.credit} learns whole sequences in a row")
        return gap

    def _retention(self, rule: type[CreditRule]) -> str:
        """The retention policy's name: that of the rule, if it needs one.

        Raises:
            ConfigError: another one was asked for, or the task has no end and the rule needs whole sequences
        """
        asked = choose("retention", self.learner.retention, RETENTIONS)
        if rule.keeps is None:
            return asked
        if self.task.length is None:
            raise ConfigError(
                f"task {self.task.name!r} has no end: credit {rule.name} attends to whole sequences and learns at their "
                "ends; credit sab or tbptt can take it"
            )
        if asked not in (rule.keeps, LearnerOptions.retention):
            raise ConfigError(f"retention = {asked!r}: credit {rule.name} keeps {rule.keeps!r}; ask for that")
        return rule.keeps

    def slots_for_all(self, gap: int | None = None) -> int:
        """Slots that retention `all` needs: the microstates that one sequence offers, and the idle steps after it."""
        idle = (self.run.gap or 0) if gap is None else gap
        return max(1, (self.length + idle) // max(1, self.learner.k_att))

    def _updates_of_budget(self, gap: int) -> int:
        """Updates until the budget is met, those in idle steps too.

        Raises:
            ConfigError: nobody knows how many those will be
        """
        if self.learner.trigger != "clock":
            raise ConfigError(
                f"lr_schedule = {self.optimizer.lr_schedule!r}: with trigger {self.learner.trigger!r} it is not known "
                "how many updates there will be; give decay_updates"
            )
        steps = ceil(self.run.budget / max(1, self.run.streams)) * (self.task.period + gap)
        return max(1, steps // (self._block * (1 + max(0, self.optimizer.restarts))))

    @property
    def _block(self) -> int:
        """Steps between updates; what is not allowed is refused by the credit rule."""
        rule = CREDIT_RULES.get(self.learner.credit)
        if rule is Immediate:
            return max(1, self.learner.update_every or 1)
        if rule is not None and rule.whole_sequences and self.task.length is not None:
            return self.task.length
        return max(1, self.learner.update_every or self.learner.k_trunc)

    def options(self) -> dict[str, Any]:
        """Every option by its name, the task and its own options among them."""
        groups = (self.task, self.learner, self.optimizer, self.run)
        return {"task": self.task.name} | {name: value for group in groups for name, value in asdict(group).items()}

    def differences(self, other: RunConfig) -> list[tuple[str, Any, Any]]:
        """Options whose value is not the same in `other`: name, value here, value there; the task first."""
        mine, theirs = self.options(), other.options()
        if mine["task"] != theirs["task"]:
            return [("task", mine["task"], theirs["task"])]
        return [(name, value, theirs[name]) for name, value in mine.items() if value != theirs[name]]

    def to_json(self) -> dict[str, Any]:
        """The parts of `config.json` that describe the run."""
        return {
            "format": FORMAT,
            "kind": KIND,
            "task": self.task.name,
            "task_options": asdict(self.task),
            "learner": asdict(self.learner),
            "optimizer": asdict(self.optimizer),
            "run": asdict(self.run),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], where: str) -> RunConfig:
        """The run that `to_json` described; `where` names the file in errors.

        Raises:
            RunFolderError: another format version, an unknown task, an option unknown or of a wrong kind
        """
        require_kind(data, KIND, where)
        name = data.get("task")
        if name not in TASKS:
            raise RunFolderError(f"{where}: unknown task {name!r}; this sabsim has {', '.join(TASKS)}")
        return cls(
            task=read_group(TASKS[name], data.get("task_options"), where),
            learner=read_group(LearnerOptions, data.get("learner"), where),
            optimizer=read_group(OptimizerOptions, data.get("optimizer"), where),
            run=read_group(RunOptions, data.get("run"), where),
        )


def require_kind(data: dict[str, Any], kind: str, where: str) -> None:
    """Make sure that `data`, from the file `where`, is this version's description of a run of this kind.

    Raises:
        RunFolderError: another format version, or a run of another kind
    """
    version = data.get("format")
    if version != FORMAT:
        writer = data.get("made_by", {}).get("sabsim", "unknown")
        raise RunFolderError(
            f"{where}: run-folder format {version!r}, but this sabsim reads format {FORMAT}; "
            f"use the version that wrote it (sabsim {writer})"
        )
    found = data.get("kind", KIND)
    if found != kind:
        commands = {KIND: "sabsim run", "agent": "sabsim agent"}
        remedy = f"it belongs to '{commands[found]}'" if found in commands else "the file was changed"
        raise RunFolderError(f"{where}: holds a run of kind {found!r}, not {kind!r}; {remedy}")


def read_group(kind: type[_GroupT], data: object, where: str) -> _GroupT:
    """One group of options from its JSON form, every value of the declared kind.

    Raises:
        RunFolderError: an option missing, unknown or of a wrong kind
    """
    if not isinstance(data, dict):
        raise RunFolderError(f"{where}: the options of {kind.__name__} are missing; the file is damaged")
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    data = {name: value for name, value in data.items() if name not in _GONE or value != _GONE[name]}
    data = {name: value for name, value in _LATER.items() if name in known} | data
    if set(data) != known:
        odd = ", ".join(sorted(set(data) ^ known))
        raise RunFolderError(f"{where}: options missing or unknown: {odd}; the file was changed or is damaged")
    hints = get_type_hints(kind)
    values = {name: _as_float(value) if hints[name] in (float, float | None) else value for name, value in data.items()}
    for name, value in values.items():
        if not isinstance(value, hints[name]) or (isinstance(value, bool) and hints[name] not in (bool, bool | None)):
            raise RunFolderError(f"{where}: {name} = {value!r}: must be {hints[name]}; the file was changed")
    return kind(**values)


def _as_float(value: object) -> object:
    """1 is a fine way to write 1.0 in JSON."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
