"""The run loop: steps in blocks; between blocks it records, evaluates, saves and shows.

A task with data of its own is evaluated on their validation part; the parameters that did best there are kept. At the end
the last ones are a candidate too, wherever an evaluation was due, and the final evaluation plays the best on the test part.

Whatever decides anything, such as sums and row counts, is taken at the end of a stretch of steps (`stepping.py`), and
these do not depend on when a run was interrupted: this is why a resumed run equals an unbroken one bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sabsim.errors import NonFiniteError, TimeUpError
from sabsim.runs.best import Best
from sabsim.runs.build import Parts
from sabsim.runs.checkpoint import Checkpoint, State, save_checkpoint
from sabsim.runs.database import RunDatabase
from sabsim.runs.evaluate import HeldOut, held_out
from sabsim.runs.folder import RunFolder, write_json
from sabsim.runs.interrupts import Interrupted, Interrupts
from sabsim.runs.metrics import Metrics
from sabsim.runs.progress import Display, Status
from sabsim.runs.recorder import Recorder
from sabsim.runs.stepping import Stepping
from sabsim.runs.summary import summarise
from sabsim.tasks import Part

FINAL_SEQUENCES = 1000
"""Held-out sequences in the final evaluation, at least."""

_COMMIT_SECONDS = 2.0
"""Rows wait so long for a commit at most (a commit waits for the disk)."""


class Loop:
    """Runs from where its parts stand until the budget is spent or `stop_at` is reached.

    Arguments:
        parts: learner and training stream
        folder: where checkpoint and summary go
        database: where rows go
        recorder: what makes rows of steps
        display: what is shown meanwhile
        until: moment, as `time.time()` tells it, from which on the run stops after a block; None: never
    """

    def __init__(
        self,
        *,
        parts: Parts,
        folder: RunFolder,
        database: RunDatabase,
        recorder: Recorder,
        display: Display,
        until: float | None = None,
    ) -> None:
        self._until = until
        self._config, self._learner, self._stream = parts.config, parts.learner, parts.stream
        self._folder, self._database, self._recorder, self._display = folder, database, recorder, display
        self._stepping = Stepping(parts, recorder=recorder)
        self._metrics = Metrics(parts, database=database, recorder=recorder)
        self._saved_at = 0
        self._reached = False
        self._held_out: HeldOut | None = None
        task = parts.config.task
        self._best = None if task.available("validation") is None else Best(higher_is_better=task.higher_is_better)
        self._last: HeldOut | None = None
        self._seconds_before = 0.0
        self._training_seconds = 0.0
        self._begun = self._committed = time.perf_counter()
        self._begun_at = (0, 0)
        self._training_here = 0.0

    @property
    def sequences(self) -> int:
        """Training sequences completed, all streams together."""
        return self._stream.completed

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self._reached or self.sequences >= self._config.run.budget

    def state_dict(self) -> dict[str, Any]:
        """Where the loop stands, as JSON."""
        return {
            "task": self._config.task.name,
            "sequences": self.sequences,
            "step": self._learner.clock,
            "evaluated_at": self._metrics.evaluated_at,
            "updates_at": self._metrics.updates_at,
            "reached": self._reached,
            "seconds": self._seconds(),
            "training_seconds": self._training_seconds,
            "rows": self._database.counts(),
            "recorder": self._recorder.state_dict(),
        } | ({"best": self._best.figures, "last_is_best": self._last_is_best} if self._best else {})

    def load_state_dict(self, state: dict[str, Any], *, best: State | None = None) -> None:
        """Continue where the loop that gave `state` stood; learner and stream are there already.

        Arguments:
            best: the parameters that had done best on the validation part, if any were kept
        """
        if self._best:
            self._best.restore(best, state["best"], device=self._learner.device)
        self._metrics.evaluated_at, self._metrics.updates_at = state["evaluated_at"], state["updates_at"]
        self._reached, self._saved_at = state["reached"], state["sequences"]
        self._seconds_before, self._training_seconds = state["seconds"], state["training_seconds"]
        self._recorder.load_state_dict(state["recorder"])
        self._begun_at = (self.sequences, self._learner.clock)

    def run(self) -> dict[str, Any]:
        """Train, then evaluate; returns what `summary.json` holds.

        Raises:
            TimeUpError: the time was up first; a checkpoint was saved
            NonFiniteError: the learner met NaN or infinity; tables and checkpoint end before it
            StorageError: the disk refuses; what was committed stays
            Interrupted: asked to stop; a checkpoint was saved
        """
        with Interrupts() as interrupts, self._display:
            if self._metrics.evaluated_at is None:
                self._evaluate()
            while not self.finished:
                self._advance()
                self._between_blocks()
                if interrupts.signum is not None and not self.finished:
                    raise Interrupted(self._leave("stopped"), interrupts.signum)
                if self._until is not None and time.time() >= self._until and not self.finished:
                    raise TimeUpError(self._leave("time is up"))
            self._look_at_the_last()
            self.save()
            return self._finish()

    def save(self) -> None:
        """Commit the rows, then replace the checkpoint.

        Raises:
            StorageError: the disk refuses; the checkpoint before is intact
        """
        self._database.commit()
        states: dict[str, State] = {
            "learner": self._learner.state_dict(),
            "stream": self._stream.state_dict(),
            "parameters": self._learner.learned,
        }
        if self._best and self._best.learned is not None:
            states["best"] = self._best.learned
        save_checkpoint(self._folder, Checkpoint(states=states, numbers=self.state_dict()))
        self._saved_at = self.sequences

    def _leave(self, why: str) -> str:
        """Save before the budget is spent; returns what to say of it."""
        self.save()
        return f"{why} at {self.sequences} {self._config.task.unit}; '{self._folder.path}' goes on with --resume"

    def _advance(self) -> None:
        """One block of steps, and its rows."""
        begun = time.perf_counter()
        self._stepping.advance()
        try:
            self._learner.check()
            self._recorder.flush()
        except NonFiniteError as error:
            self._database.commit()
            raise NonFiniteError(
                f"{error}; lower --lr or --clip, or mend the input (the last checkpoint, at {self._saved_at} "
                "sequences, and the tables are intact)"
            ) from error
        spent = time.perf_counter() - begun
        self._training_seconds += spent
        self._training_here += spent

    def _between_blocks(self) -> None:
        """What is due: an evaluation, a checkpoint, a commit, a drawing."""
        run, sequences = self._config.run, self.sequences
        if sequences // run.eval_every > (self._metrics.evaluated_at or 0) // run.eval_every:
            self._evaluate()
        if sequences // run.checkpoint_every > self._saved_at // run.checkpoint_every:
            self.save()
        if time.perf_counter() - self._committed > _COMMIT_SECONDS:
            self._database.commit()
            self._committed = time.perf_counter()
        if self._display.due():
            self._display.update(self._status())

    def _evaluate(self) -> None:
        """Write the training figures since the last evaluation, and the held-out ones of now."""
        self._metrics.write_training()
        result = self._play(self._config.run.eval_sequences)
        self._write("held-out", result)
        if self._best:
            self._best.look(result, self._learner.learned, sequences=self.sequences)
        if self._good(result):
            self._reached = self._good(self._play(self._final_sequences()))
            if self._reached and self._best:
                # These are the ones that were confirmed, whatever did better on fewer sequences.
                self._best.keep(result, self._learner.learned, sequences=self.sequences)
        self._metrics.evaluated_at = self.sequences
        self._display.evaluated(self._status())

    def _look_at_the_last(self) -> None:
        """Evaluate the last parameters, if that was not just done: nothing of it is kept for a longer run."""
        if self._best and self._metrics.evaluated_at != self.sequences:
            self._last = self._play(self._config.run.eval_sequences)

    def _finish(self) -> dict[str, Any]:
        """The final evaluation and summary; its rows follow the checkpoint, so a longer run drops them."""
        if self._last:
            self._metrics.write_training()
            self._write("held-out", self._last)
        learned = self._best.learned if self._best and not self._last_is_best else None
        validation = self._play(None, learned=learned) if self._best else None
        if validation is not None:
            self._write("validation", validation)
        result = self._play(self._final_sequences(), part="test", learned=learned)
        self._write("final", result)
        self._database.commit()
        self._display.update(self._status())
        summary = summarise(
            self._config,
            self._learner,
            result,
            validation=validation,
            best_at=self._best_at,
            sequences=self.sequences,
            reached=self._reached,
            seconds=self._seconds(),
            training_seconds=self._training_seconds,
        )
        write_json(self._folder.summary, summary)
        return summary

    @property
    def _last_is_best(self) -> bool:
        return self._best is not None and self._last is not None and self._best.beaten_by(self._last)

    @property
    def _best_at(self) -> int | None:
        """Sequences trained when the parameters that the final evaluation plays were the learner's."""
        if self._best is None:
            return None
        return self.sequences if self._last_is_best else self._best.figures["sequences"]

    def _final_sequences(self) -> int | None:
        """All there are, or many."""
        return None if self._best else max(FINAL_SEQUENCES, self._config.run.eval_sequences)

    def _play(
        self, sequences: int | None, *, part: Part = "validation", learned: Mapping[str, Tensor] | None = None
    ) -> HeldOut:
        task, seed, stagger = self._config.task, self._config.run.seed, self._config.run.stagger
        self._held_out = held_out(
            self._learner, task, sequences=sequences, seed=seed, part=part, stagger=stagger, learned=learned
        )
        return self._held_out

    def _good(self, result: HeldOut) -> bool:
        goal = self._config.run.stop_at
        if goal is None:
            return False
        return result.metric >= goal if self._config.task.higher_is_better else result.metric <= goal

    def _write(self, split: str, result: HeldOut) -> None:
        self._metrics.write(split, result, seconds=self._seconds(), rate=self._rate())

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._begun

    def _rate(self) -> float:
        """Steps per second of training, since this process began."""
        return (self._learner.clock - self._begun_at[1]) / self._training_here if self._training_here else 0.0

    def _status(self) -> Status:
        elapsed = time.perf_counter() - self._begun
        loss, metric, replays = self._metrics.shown
        return Status(
            sequences=self.sequences,
            budget=self._config.run.budget,
            step=self._learner.clock,
            seconds=self._seconds(),
            steps_per_second=self._rate(),
            sequences_per_second=(self.sequences - self._begun_at[0]) / elapsed if elapsed else 0.0,
            unit=self._config.task.unit,
            metric_name=self._config.task.metric,
            train_loss=loss,
            train_metric=metric,
            held_out_metric=self._held_out.metric if self._held_out else None,
            replays_per_update=replays,
        )
