"""The run loop of an agent: windows of steps; between windows it records, evaluates, saves and shows.

Whatever decides anything, such as sums and row counts, is taken at a window's end, at step counts that do not depend on
when a run was interrupted: this is why a resumed run equals an unbroken one bit for bit.
"""

from __future__ import annotations

import time
from typing import Any

from sabsim.errors import NonFiniteError
from sabsim.runs.checkpoint import Checkpoint, save_checkpoint
from sabsim.runs.database import RunDatabase
from sabsim.runs.folder import RunFolder, write_json
from sabsim.runs.interrupts import Interrupted, Interrupts
from sabsim.runs.machine import rss_mb, utc_now
from sabsim.runs.progress import Display

from .build import AgentParts
from .episodes import Figures, Tally
from .evaluation import Evaluation, advice, evaluate, sends_nothing
from .recorder import AgentRecorder
from .status import AgentStatus
from .success import pays_success
from .summary import summarise

FINAL_EPISODES = 200
"""Episodes in the final evaluation at least, where the run does not say."""

_COMMIT_SECONDS = 2.0
"""Rows wait so long for a commit at most (a commit waits for the disk)."""


class AgentLoop:
    """Runs from where its parts stand until the steps are done or ``stop_at`` is reached.

    Args: ``parts``: configuration, environments and agent; ``folder``: where checkpoint and summary go; ``database``:
    where rows go; ``display``: what is shown meanwhile.
    """

    def __init__(self, *, parts: AgentParts, folder: RunFolder, database: RunDatabase, display: Display) -> None:
        self._parts, self._config, self._agent = parts, parts.config, parts.agent
        self._folder, self._database, self._display = folder, database, display
        run = self._config.run
        learner = parts.config.learner
        self._recorder = AgentRecorder(
            parts.agent,
            database,
            recorded=run.record_streams,
            every=run.record_every,
            reach=learner.k_trunc or learner.window,
            hidden=run.record_hidden,
        )
        self._tally = Tally(run.streams, pays=pays_success(parts.agent.arena.environments[0]))
        self._figures, self._shown = Figures(), Figures()
        self._windows = self._episodes = self._saved_at = 0
        self._evaluated_at: int | None = None
        self._reached = self._told = False
        self._evaluation: Evaluation | None = None
        self._seconds_before = self._training_seconds = self._training_here = 0.0
        self._begun = self._committed = time.perf_counter()
        self._begun_at = 0

    @property
    def step(self) -> int:
        """Steps of each stream so far."""
        return self._windows * self._config.learner.window

    @property
    def env_steps(self) -> int:
        """Environment steps so far, all streams together."""
        return self.step * self._config.run.streams

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self._reached or self.env_steps >= self._config.run.steps

    def state(self) -> dict[str, Any]:
        """Where the loop, the agent and its environments stand, as JSON can hold it."""
        return {
            "env": self._config.env,
            "env_steps": self.env_steps,
            "step": self.step,
            "windows": self._windows,
            "episodes": self._episodes,
            "evaluated_at": self._evaluated_at,
            "reached": self._reached,
            "seconds": self._seconds(),
            "training_seconds": self._training_seconds,
            "rows": self._database.counts(),
            "recorder": self._recorder.state(),
            "tally": self._tally.state(),
            "figures": self._figures.state(),
            "agent": self._agent.state(),
            "arena": self._arena_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where the loop that gave ``state`` stood; the learner is there already."""
        self._windows, self._episodes = state["windows"], state["episodes"]
        self._evaluated_at, self._reached, self._saved_at = state["evaluated_at"], state["reached"], self.env_steps
        self._seconds_before, self._training_seconds = state["seconds"], state["training_seconds"]
        self._begun_at = self.env_steps
        self._agent.restore(state["agent"])
        self._tally.restore(state["tally"])
        self._figures = Figures(**state["figures"])
        if state["arena"] is None:
            # Other seeds than at the beginning, so that the same episodes are not played again.
            self._agent.arena.reset(self._config.seed_at(self.env_steps))
            self._tally.begin()
        else:
            self._agent.arena.restore(state["arena"])
        self._recorder.restore(state["recorder"], here=state["arena"] is not None)

    def run(self) -> dict[str, Any]:
        """Trains, then evaluates; returns what ``summary.json`` holds.

        Raises NonFiniteError: if NaN or infinity was met; tables and checkpoint end before it. StorageError: if the disk
        refuses; what was committed stays. Interrupted: if asked to stop; a checkpoint was saved.
        """
        with Interrupts() as interrupts, self._display:
            if self._evaluated_at is None:
                self._evaluate()
                self._advise()
            while not self.finished:
                self._advance()
                self._between_windows()
                if interrupts.signum is not None and not self.finished:
                    self.save()
                    raise Interrupted(
                        f"stopped at {self.env_steps} steps; '{self._folder.path}' goes on with --resume",
                        interrupts.signum,
                    )
            self.save()
            return self._finish()

    def save(self) -> None:
        """Commits the rows, then replaces the checkpoint.

        Raises StorageError: if the disk refuses; the checkpoint before is intact.
        """
        self._commit()
        learner = self._agent.learner.state_dict()
        save_checkpoint(self._folder, Checkpoint(states={"learner": learner}, numbers=self.state()))
        self._saved_at = self.env_steps

    def _advance(self) -> None:
        """One window, and its rows."""
        begun = time.perf_counter()
        recorder = self._recorder
        try:
            played = self._agent.window(recorder.observe)
            self._agent.learner.check()
        except NonFiniteError as error:
            self._commit()
            # The learner names its step; the environments do not know it.
            where = "" if "step" in str(error) else f", in steps {self.step} to {self.step + self._agent.steps - 1}"
            raise NonFiniteError(
                f"{error}{where}; lower --lr or --clip, or mend the environment (the last checkpoint, at {self._saved_at} "
                "steps, and the tables are intact)"
            ) from error
        ended = self._tally.take(played)
        recorder.take(played, ended)
        self._figures.add(played, ended)
        self._episodes += len(ended)
        self._windows += 1
        spent = time.perf_counter() - begun
        self._training_seconds += spent
        self._training_here += spent

    def _between_windows(self) -> None:
        """What is due: an evaluation, a checkpoint, a commit, a drawing."""
        run, steps = self._config.run, self.env_steps
        if steps // run.eval_every > (self._evaluated_at or 0) // run.eval_every:
            self._evaluate()
        if steps // run.checkpoint_every > self._saved_at // run.checkpoint_every:
            self.save()
        if time.perf_counter() - self._committed > _COMMIT_SECONDS:
            self._commit()
        if self._display.due():
            self._display.update(self._status())

    def _commit(self) -> None:
        self._recorder.flush()
        self._database.commit()
        self._committed = time.perf_counter()

    def _evaluate(self) -> None:
        """Writes the training figures since the last evaluation, and those of an evaluation now."""
        if self._figures.steps:
            self._write_training()
        found = self._play(self._config.run.eval_episodes)
        self._write_evaluation("evaluation", found)
        goal = self._config.run.stop_at
        if goal is not None and found.measure >= goal:
            self._reached = self._play(self._final_episodes()).measure >= goal
        self._evaluated_at = self.env_steps
        self._display.evaluated(self._status())

    def _advise(self) -> None:
        assert self._evaluation is not None
        found = self._evaluation
        for words in (advice(found, self._config.signal), sends_nothing(found, self._config)):
            if words is not None:
                self._display.note(words)

    def _finish(self) -> dict[str, Any]:
        """The final evaluation and summary; its rows follow the checkpoint, so a longer run drops them."""
        found = self._play(self._final_episodes())
        self._write_evaluation("final", found)
        self._commit()
        self._display.update(self._status())
        summary = summarise(
            self._parts,
            found,
            env_steps=self.env_steps,
            episodes=self._episodes,
            reached=self._reached,
            seconds=self._seconds(),
            training_seconds=self._training_seconds,
        )
        write_json(self._folder.summary, summary)
        return summary

    def _final_episodes(self) -> int:
        run = self._config.run
        return run.final_episodes or max(FINAL_EPISODES, run.eval_episodes)

    def _play(self, episodes: int) -> Evaluation:
        self._evaluation = evaluate(
            self._agent, self._config, self._parts.make, episodes=episodes, seed=self._config.evaluation_seed
        )
        return self._evaluation

    def _write_training(self) -> None:
        learner, f = self._agent.learner, self._figures
        updates, norm = getattr(learner, "updates", None), getattr(learner, "gradient_norm", None)
        row = (
            *(self.env_steps, self.step, "train", f.episodes),
            *(_mean(f.total, f.episodes), _mean(f.length, f.episodes), f.judged, _mean(f.successes, f.judged)),
            *(_mean(f.td_error, f.steps), _mean(f.entropy, f.steps), self._replays_per_update(f)),
            *(None if updates is None else int(updates), None if norm is None else float(norm)),
        )
        self._database.insert("metrics", [row])
        # Right after an evaluation there is nothing since; what was written then is shown.
        self._shown, self._figures = f, Figures()

    def _write_evaluation(self, split: str, found: Evaluation) -> None:
        returns, lengths = float(found.returns.mean()), float(found.lengths.mean())
        figures = (len(found.episodes), returns, lengths, found.judged, found.success, None, None, None, None, None)
        self._database.insert("metrics", [(self.env_steps, self.step, split, *figures)])
        now = (self.env_steps, self.step, self._seconds(), self._rate(), rss_mb(), utc_now())
        self._database.insert("clock", [now])

    def _arena_state(self) -> dict[str, Any] | None:
        """Of the environments; None, said once, where one of them cannot be saved."""
        try:
            return self._agent.arena.state()
        except ValueError as error:
            if not self._told:
                self._display.note(f"{error}; resumed, this run would go on with new episodes")
            self._told = True
            return None

    def _replays_per_update(self, figures: Figures) -> float | None:
        """Per stream and update."""
        return _mean(figures.replays * self._agent.steps, figures.steps)

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._begun

    def _rate(self) -> float:
        """Environment steps per second of training, since this process began."""
        return (self.env_steps - self._begun_at) / self._training_here if self._training_here else 0.0

    def _status(self) -> AgentStatus:
        elapsed, found = time.perf_counter() - self._begun, self._evaluation
        f = self._figures if self._figures.episodes else self._shown
        return AgentStatus(
            done=self.env_steps,
            budget=self._config.run.steps,
            seconds=self._seconds(),
            steps_per_second=self._rate(),
            overall_rate=(self.env_steps - self._begun_at) / elapsed if elapsed else 0.0,
            episodes=self._episodes,
            train_return=_mean(f.total, f.episodes),
            train_success=_mean(f.successes, f.judged),
            td_error=_mean(f.td_error, f.steps),
            replays_per_update=self._replays_per_update(f),
            evaluated_return=float(found.returns.mean()) if found else None,
            evaluated_success=found.success if found else None,
        )


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None
