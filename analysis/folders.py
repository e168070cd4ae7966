"""Read-only access to run folders (docs/run-folder.md): description, final figures, learning curve, remindings."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sabsim.errors import RunFolderError

FORMAT = 4
"""Version of the run folder that is understood."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """A learning curve: `metric` after so many training `sequences` (all streams together), both `(n,)`.

    Of an agent's run: success in evaluation episodes, after so many environment steps.
    """

    sequences: Ints
    metric: Floats

    def at(self, sequences: float) -> float:
        """The metric after so many sequences, between two measurements interpolated."""
        return float(np.interp(sequences, self.sequences, self.metric))


@dataclass(frozen=True)
class Episodes:
    """Recorded sequences whose single steps are in the tables, in the order of their beginning.

    `stream`, `episode`, `first_step`, `sequences` `(n,)`; the last is how many training sequences of all streams had
    been completed when it began.
    """

    stream: Ints
    episode: Ints
    first_step: Ints
    sequences: Floats

    def __len__(self) -> int:
        return len(self.episode)

    def part(self, first: int, count: int) -> Episodes:
        """`count` of them from the `first` on."""
        chosen = slice(first, first + count)
        return Episodes(self.stream[chosen], self.episode[chosen], self.first_step[chosen], self.sequences[chosen])


@dataclass(frozen=True)
class Remindings:
    """Forward events: step `position` of a sequence read the microstate of step `recalled` with `weight`, all `(n,)`."""

    position: Ints
    recalled: Ints
    weight: Floats


_ERRORS = {"adding": "mse", "charlm": "bpc"}
"""Tasks that are measured by an error; all others are by accuracy."""


@dataclass(frozen=True)
class Run:
    """A run folder. `config` and `summary` are as in its JSON files; `summary` is empty while the run goes on."""

    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]

    @property
    def agent(self) -> bool:
        """Whether it is an agent's run, not one of a supervised task."""
        return self.config.get("kind") == "agent"

    @property
    def metric(self) -> str:
        """What a supervised run is measured by: accuracy (a share; more is better), or mse or bpc (less is better)."""
        return _ERRORS.get(str(self.config.get("task")), "accuracy")

    @property
    def baselines(self) -> dict[str, float]:
        """What chance and the trivial solution score."""
        known: dict[str, float] = self.summary.get("baselines", {})
        return known

    def curve(self) -> Curve:
        """The metric on held-out sequences; the final evaluation counts instead of an earlier one at the same moment.

        Raises:
            RunFolderError: the database cannot be read, or has no evaluation yet
        """
        columns = "env_steps, success" if self.agent else "sequences, metric"
        wanted = "split IN ('held-out', 'evaluation', 'final')"
        if self.agent:
            wanted += " AND success IS NOT NULL"
        rows = self.rows(f"SELECT {columns} FROM metrics WHERE {wanted} ORDER BY id")
        points = {int(sequences): float(metric) for sequences, metric in rows}
        if not points:
            raise RunFolderError(f"'{self.path}': has no held-out evaluation yet")
        return Curve(np.array([*points]), np.array([*points.values()]))

    def episodes(self) -> Episodes:
        """The sequences of which steps and remindings are recorded.

        Raises:
            RunFolderError: the database cannot be read
        """
        rows = self.rows(
            "SELECT e.stream, e.episode, e.first_step FROM episodes e "
            "JOIN (SELECT DISTINCT stream, episode FROM steps) s ON s.stream = e.stream AND s.episode = e.episode "
            "ORDER BY e.first_step, e.stream"
        )
        stream, episode, first_step = _columns(rows, 3)
        steps, completed = _columns(self.rows("SELECT step, sequences FROM metrics ORDER BY id"), 2)
        sequences = np.interp(first_step, steps, completed) if len(steps) else np.zeros(len(first_step))
        return Episodes(stream.astype(int), episode.astype(int), first_step.astype(int), sequences)

    def remindings(self, episodes: Episodes) -> Remindings:
        """What the steps of these sequences have read; weights below the recorder's threshold are not in the tables.

        Raises:
            RunFolderError: the database cannot be read
        """
        if not len(episodes):
            return Remindings(np.zeros(0, int), np.zeros(0, int), np.zeros(0))
        start = dict(
            zip(zip(episodes.stream.tolist(), episodes.episode.tolist(), strict=True), episodes.first_step, strict=True)
        )
        rows = self.rows(
            "SELECT stream, episode, step, source_step, weight FROM events "
            "WHERE kind = 'reminding' AND episode BETWEEN ? AND ?",
            (int(episodes.episode.min()), int(episodes.episode.max())),
        )
        kept = [
            (step - start[stream, episode], source - start[stream, episode], weight)
            for stream, episode, step, source, weight in rows
            if (stream, episode) in start
        ]
        position, recalled, weight = _columns(kept, 3)
        return Remindings(position.astype(int), recalled.astype(int), weight)

    def scored_positions(self) -> Ints:
        """Steps of a sequence that count for the metric, in ascending order.

        Raises:
            RunFolderError: the database cannot be read
        """
        rows = self.rows("SELECT DISTINCT position FROM steps WHERE scored = 1 ORDER BY position")
        return _columns(rows, 1)[0].astype(int)

    def length(self) -> int:
        """Steps of the longest recorded sequence.

        Raises:
            RunFolderError: the database cannot be read, or no sequence is recorded yet
        """
        ((longest,),) = self.rows("SELECT max(last_step - first_step + 1) FROM episodes")
        if longest is None:
            raise RunFolderError(f"'{self.path}': no sequence is recorded; run it with --record-streams 1 or more")
        return int(longest)

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """What `query` finds in `run.sqlite`.

        Raises:
            RunFolderError: the database cannot be read
        """
        path = self.path / "run.sqlite"
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise RunFolderError(f"'{path}': cannot be read ({error})") from error


def read_run(path: str | Path) -> Run:
    """Open a run folder, finished or not.

    Raises:
        RunFolderError: no run folder, a damaged file, or another format version
    """
    path = Path(path)
    if not (path / "config.json").exists():
        raise RunFolderError(f"'{path}': no run folder (no config.json); 'sabsim run' or 'sabsim agent' makes one")
    config = _json(path / "config.json")
    if config.get("format") != FORMAT:
        raise RunFolderError(f"'{path}': run-folder format {config.get('format')!r}, but {FORMAT} is what can be read")
    summary = path / "summary.json"
    return Run(path, config, _json(summary) if summary.exists() else {})


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunFolderError(f"'{path}': cannot be read ({error})") from error
    if not isinstance(data, dict):
        raise RunFolderError(f"'{path}': is not a JSON object; the file is damaged")
    return data


def _columns(rows: list[tuple[Any, ...]], count: int) -> list[Floats]:
    """Rows as `count` arrays, also if there are none."""
    return list(np.array(rows, dtype=np.float64).reshape(len(rows), count).T)
