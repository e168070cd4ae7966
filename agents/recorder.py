"""The recorder: from windows of an agent's steps to rows of the run's tables.

Episodes of the first streams are followed one by one; single steps and remindings are written for one episode in
``every`` only, so that a table grows by a few bytes per episode, and a run that records is nearly as fast as one that does
not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sabsim.replay import ReplayEvents
from sabsim.runs.database import Row, RunDatabase, hidden_blob
from sabsim.runs.recorder import REMINDING_THRESHOLD, Followed

from .agent import Agent, Played
from .episodes import Ended

Array = NDArray[np.floating[Any]]

_MANY = 1_000
"""Rows that wait for the database at most."""
_SITUATION = ("position", "epoch", "phase")
"""What infos tell of where the agent is, if they do."""


class AgentRecorder:
    """Writes what ``agent`` plays: the first ``recorded`` streams, single steps of one episode in ``every``.

    ``reach``: steps that a recall may lie before the window whose update replays it, k_trunc at most. ``hidden``: whether
    the hidden states of single steps are written too.
    """

    def __init__(
        self, agent: Agent, database: RunDatabase, *, recorded: int, every: int, reach: int, hidden: bool = False
    ) -> None:
        self._agent, self._database = agent, database
        self._recorded, self._every = recorded, every
        self._followed = [Followed() for _ in range(recorded)]
        self._waiting: dict[str, list[Row]] = {"events": [], "steps": [], "episodes": []}
        self._hidden: list[Array] | None = None
        if hidden:
            self._waiting["hidden"] = []
            self._hidden = [np.zeros(0)] * agent.steps
        # Rewards and TD errors of the steps before the window: the recall that a replay is named after may lie there.
        self._reach = reach
        self._before: tuple[Array, Array] = (np.zeros((reach, recorded)), np.zeros((reach, recorded)))
        self._here: list[list[dict[str, Any]]] = [[] for _ in range(agent.steps)]
        # The episodes that the steps of the window belong to, while it is played.
        self._now = [0] * recorded
        self._read: tuple[NDArray[Any], NDArray[Any]] | None = None
        self._start = 0

    def observe(self, step: int) -> None:
        """Keeps what the learner has just read, its state and where the agents are, at a step of the window.

        Only where the step will be written: of an episode whose turn it is, in one of the recorded streams.
        """
        if step == 0:
            self._now = [followed.episode for followed in self._followed]
        for stream, begun in enumerate(self._agent.arena.begins[: self._recorded].tolist()):
            self._now[stream] += begun
        if any(map(self._due, self._now)):
            self._look(step)

    def _look(self, step: int) -> None:
        self._here[step] = self._agent.arena.here[: self._recorded]
        if self._hidden is not None:
            self._hidden[step] = self._agent.learner.hidden[: self._recorded].cpu().numpy().copy()
        read = self._agent.learner.read
        if read is None:
            return
        if self._read is None:
            shape = (self._agent.steps, self._recorded, read.weight.shape[1])
            self._read = (np.zeros(shape), np.zeros(shape, dtype=np.int64))
        weight, source = self._read
        weight[step] = read.weight[: self._recorded].cpu().numpy()
        source[step] = read.source_step[: self._recorded].cpu().numpy()

    def take(self, played: Played, ended: Sequence[Ended]) -> None:
        """Makes rows of a window, at each of whose steps ``observe`` was called.

        Raises StorageError: if the disk refuses.
        """
        if self._recorded:
            for stream, followed in enumerate(self._followed):
                self._follow(played, stream, followed, ended)
            lately = self._lately(played)
            if played.events is not None:
                self._take_replays(played.events, lately, self._start + len(played.reward))
            self._before = lately
            if sum(map(len, self._waiting.values())) > _MANY:
                self.flush()
        self._start += len(played.reward)

    def flush(self) -> None:
        """Hands the waiting rows to the database.

        Raises StorageError: if the disk refuses.
        """
        for table, rows in self._waiting.items():
            self._database.insert(table, rows)
            rows.clear()

    def state(self) -> dict[str, Any]:
        """Everything that decides the rows to come, as JSON can hold it; only right after a flush."""
        return {
            "start": self._start,
            "followed": [asdict(followed) for followed in self._followed],
            "before": [part.tolist() for part in self._before],
            "here": [_situation(info) for info in self._agent.arena.here[: self._recorded]],
        }

    def restore(self, state: dict[str, Any], *, here: bool) -> None:
        """The opposite of ``state``. The agent's arena stands there already; ``here``: whether it is where it was."""
        self._start = state["start"]
        self._followed = [Followed(**followed) for followed in state["followed"]]
        reward, td_error = (np.array(part, dtype=np.float64) for part in state["before"])
        self._before = (reward, td_error)
        for stream, told in enumerate(state["here"] if here else ()):
            self._agent.arena.here[stream] = dict(zip(_SITUATION, told, strict=True))

    def _due(self, episode: int) -> bool:
        """Whether the single steps of this episode are written."""
        return episode % self._every == 0

    def _follow(self, played: Played, stream: int, followed: Followed, ended: Sequence[Ended]) -> None:
        """Walks a stream's window from one beginning of an episode to the next."""
        steps = len(played.reward)
        begins = [t for t, begun in enumerate(played.begins[:, stream].tolist()) if begun]
        if not begins and not ended and not self._due(followed.episode):
            return
        marks = sorted({0, *begins, steps})
        ends = {e.step: e for e in ended if e.stream == stream}
        for begin, end in pairwise(marks):
            if begin in begins:
                followed.begin(self._start + begin, self._reach + steps)
            if self._due(followed.episode):
                self._take_steps(played, stream, followed, begin, end)
                self._take_remindings(played, stream, followed, begin, end)
            if end - 1 in ends:
                self._take_episode(ends[end - 1], followed)

    def _take_episode(self, episode: Ended, followed: Followed) -> None:
        success = None if episode.success is None else int(episode.success)
        cut = int(not episode.terminated)
        last = self._start + episode.step
        self._waiting["episodes"].append(
            (
                episode.stream,
                followed.episode,
                last - episode.length + 1,
                last,
                episode.total,
                episode.length,
                success,
                1 - cut,
                cut,
            )
        )

    def _take_steps(self, played: Played, stream: int, followed: Followed, begin: int, end: int) -> None:
        part = (slice(begin, end), stream)
        columns = [
            column[part].tolist()
            for column in (played.action, played.reward, played.value, played.td_error, played.entropy)
        ]
        first = followed.starts[-1]
        for t, figures in zip(range(begin, end), zip(*columns, strict=True), strict=True):
            step = self._start + t
            causal = played.infos[t][stream].get("causal_step")
            self._waiting["steps"].append(
                (
                    step,
                    stream,
                    followed.episode,
                    step - first,
                    *figures,
                    *_situation(self._here[t][stream]),
                    None if causal is None or causal < 0 else int(causal),
                )
            )
            if self._hidden is not None:
                self._waiting["hidden"].append((step, stream, hidden_blob(self._hidden[t][stream])))

    def _take_remindings(self, played: Played, stream: int, followed: Followed, begin: int, end: int) -> None:
        if self._read is None:
            return
        weight, source = (array[begin:end, stream] for array in self._read)
        at, k = np.nonzero((weight >= REMINDING_THRESHOLD) & (source >= 0))
        reward, td_error = (column[begin:end, stream][at].tolist() for column in (played.reward, played.td_error))
        found = zip(at.tolist(), weight[at, k].tolist(), source[at, k].tolist(), reward, td_error, strict=True)
        for t, share, origin, paid, error in found:
            step = self._start + begin + t
            place = (step, stream, followed.episode, origin, step - origin)
            self._waiting["events"].append(("reminding", *place, share, None, None, paid, error, None, None))

    def _lately(self, played: Played) -> tuple[Array, Array]:
        """Rewards and TD errors of the window and of so many steps before that any recall it replays is among them."""
        now = (played.reward[:, : self._recorded], played.td_error[:, : self._recorded])
        most = self._reach + len(played.reward)
        reward, td_error = (np.concatenate([old, new])[-most:] for old, new in zip(self._before, now, strict=True))
        return reward, td_error

    def _take_replays(self, events: ReplayEvents, lately: tuple[Array, Array], now: int) -> None:
        """``lately``: rewards and TD errors of the steps up to ``now``."""
        names = ("step", "source_step", "lag", "weight", "credit", "replayed_steps")
        found = {name: getattr(events, name)[: self._recorded].cpu().numpy() for name in (*names, "valid")}
        streams, places = np.nonzero(found["valid"] & (found["credit"] > 0))
        columns = [found[name][streams, places].tolist() for name in names]
        first = now - len(lately[0])
        for stream, step, *figures, length in zip(streams.tolist(), *columns, strict=True):
            episode = self._followed[stream].episode_at(step)
            reward, td_error = (float(column[step - first, stream]) for column in lately)
            row = ("replay", step, stream, episode, *figures, None, reward, td_error, length, now - 1)
            self._waiting["events"].append(row)


def _situation(info: dict[str, Any]) -> list[Any]:
    """Place, epoch and phase that an info tells, as a database and JSON can hold them."""
    return [_plain(info.get(name)) for name in _SITUATION]


def _plain(value: Any) -> int | float | str | None:
    if value is None or isinstance(value, str):
        return value
    found = np.asarray(value).tolist()
    return found if isinstance(found, int | float) else json.dumps(found)
