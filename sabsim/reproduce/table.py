"""What a table of the paper and one of its rows are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sabsim.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table: a learner.

    ``name`` as in the table, SAB with (k_trunc, k_top) or (k_trunc, k_top, k_att); ``learner``, ``optimizer``, ``run``:
    options that differ from the table's; ``leads``: it runs first and stops when the task is solved, and the others get as
    many sequences; ``alone``: how many it needs is nothing to the others; ``budget``: most sequences of it, None: the
    table's.
    """

    name: str
    learner: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    leads: bool = False
    alone: bool = False
    budget: int | None = None

    @property
    def folder(self) -> str:
        """The name as a folder's."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.name).strip("-")

    @property
    def replays(self) -> bool:
        """Whether it learns by replay."""
        return self.learner.get("credit", "sab") == "sab" and self.learner.get("replays") != 0


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper.

    ``what`` it measures; ``task``; ``stop_at``: metric at which rows that lead stop, None: never; ``budget``: most
    sequences of a row; ``quick``: options of the task with ``--quick``; ``rows`` in order; ``note``: what is not as in
    the paper; ``lengths``: T at which runs are played when they have ended (`sabsim.reproduce.transfer`); ``learner``,
    ``optimizer``, ``run``: options of all rows that differ from the task's recipe.
    """

    what: str
    task: Task
    rows: tuple[Row, ...]
    stop_at: float | None
    budget: int
    quick: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    lengths: tuple[int, ...] = ()
    learner: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """The row of this name. Raises KeyError without one."""
        return {row.name: row for row in self.rows}[name]

    def place(self, name: str) -> int:
        """Where the row of this name stands in order; one that only an earlier version had is last."""
        return next((place for place, row in enumerate(self.rows) if row.name == name), len(self.rows))
