"""Character-level language modelling: read a text without end, and say at every character which comes next."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, log2
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from tyro.conf import arg

from sabsim.data.text import CORPORA, PARTS, Text, python_version, read_text
from sabsim.errors import ConfigError
from sabsim.tasks.base import Task
from sabsim.tasks.cross_entropy import CrossEntropy
from sabsim.tasks.stream import Part, Score, StreamOptions, TaskStep, TaskStream, joined, require_int

LEAD = 500
"""Characters that a stream reads of a held-out part before those it is judged by: whole passages, no fewer than this."""


@dataclass(frozen=True)
class CharLM(Task):
    """Character-level language modelling, of section 4 of the SAB paper (arXiv 1711.02326): predict the next character.

    The text is cut into one contiguous share for each stream, which reads it from beginning to end, one
    character a step, carrying its state. At the end of its share, and only there, it begins again, reset. Input is a
    one-hot code of the text's kinds of characters, output are logits of the same; the target is the next
    character. The loss is the cross entropy at every step, each with weight 1/passage; the metric is bits per
    character (bpc). In a held-out part every stream first reads, unscored, the `LEAD` characters before its share, so
    that what it knows of the past is what a single reader of the whole text would.

    What a run counts as a sequence is a passage; at its end nothing happens to the learner. Characters left over at the
    end of the training text, fewer than passage * streams, are not read; of the held-out parts every one is, but
    the first, which is not predicted.

    Arguments:
        corpus: docs (Python's own documentation, always at hand), ptb, text8, or the path of a UTF-8 text
        passage: characters that count as one sequence, in budgets, tables and standard errors
        data: folder of data sets; by default that of SABSIM_DATA, else where sabsim data fetch puts them

    Raises:
        ConfigError: passage < 1
    """

    corpus: str = "docs"
    passage: int = 100
    data: Annotated[str | None, arg(metavar="DIR")] = None

    name: ClassVar[str] = "charlm"
    metric: ClassVar[str] = "bpc"
    unit: ClassVar[str] = "passages"
    places: ClassVar[tuple[str, ...]] = ("data",)

    def __post_init__(self) -> None:
        require_int("passage", self.passage, least=1)
        # A run folder is to find its text from wherever it is gone on with.
        if self.corpus not in CORPORA:
            object.__setattr__(self, "corpus", str(Path(self.corpus).absolute()))

    @property
    def text(self) -> Text:
        """The text, read when first asked for.

        Raises:
            ConfigError: corpus is neither a name nor a file
            DataError: the text is missing or damaged
        """
        return read_text(self.corpus, self.data)

    @property
    def d_in(self) -> int:
        """Kinds of characters."""
        return len(self.text.alphabet)

    @property
    def d_out(self) -> int:
        """Kinds of characters."""
        return len(self.text.alphabet)

    @property
    def length(self) -> None:
        """None: a text is one sequence, read again and again."""
        return None

    @property
    def period(self) -> int:
        """Characters of a passage."""
        return self.passage

    @property
    def label(self) -> str:
        """Text and passage: ptb-passage100."""
        corpus = self.corpus if self.corpus in CORPORA else Path(self.corpus).stem
        return f"{corpus}-passage{self.passage}"

    @property
    def title(self) -> str:
        """With the text that was read."""
        return f"{self.name} on {self.text.name}"

    @property
    def identity(self) -> dict[str, int]:
        """The text's digest, the first 60 bits."""
        return {"text": int(self.text.sha256[:15], 16)}

    def facts(self) -> dict[str, Any]:
        """The text by the name that says which and how much of it was read, with its size and digest."""
        text = self.text
        return {
            "corpus": text.name,
            **({"python": python_version()} if self.corpus == "docs" else {}),
            "characters": {part: len(codes) for part, codes in text.parts.items()},
            "kinds": len(text.alphabet),
            "sha256": text.sha256,
            "passage": self.passage,
        }

    def available(self, part: Part) -> int | None:
        """Passages of a held-out part."""
        return ceil((len(self.text.parts[part]) - 1) / self.passage)

    def baselines(self) -> dict[str, float]:
        """Scores to compare with, in bits per character of the test part.

        "equal bpc": all kinds equally likely. "frequencies bpc": each as frequent as in the training part (one added to
        each count, so that none is impossible). "pairs bpc": the same, given the character before.
        """
        kinds, train, test = self.d_in, self.text.parts["train"], self.text.parts["test"]
        single = np.bincount(train, minlength=kinds) + 1.0
        # Only of the pairs that occur: of all that could there are as many as kinds squared.
        pairs, count = np.unique(_pairs(train, kinds), return_counts=True)
        wanted = _pairs(test, kinds)
        place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
        met = np.where(pairs[place] == wanted, count[place], 0)
        before = np.bincount(train[:-1], minlength=kinds)[test[:-1]]
        return {
            "equal bpc": log2(kinds),
            "frequencies bpc": float(-np.log2(single[test[1:]] / single.sum()).mean()),
            "pairs bpc": float(-np.log2((met + 1) / (before + kinds)).mean()),
        }

    def _open(self, options: StreamOptions) -> TextStream:
        return TextStream(self, options)


class TextStream(TaskStream):
    """The shares of a text, read side by side; the codes of the part are kept once, a byte or two a character.

    Raises:
        ConfigError: the part is too short for so many streams
    """

    def __init__(self, task: CharLM, options: StreamOptions) -> None:
        super().__init__(options, length=task.passage)
        codes = task.text.parts[options.part]
        self._predicted = len(codes) - 1
        before = _text_before(task, options.part) if options.held_out else codes[:0]
        self.lead = len(before) // task.passage
        self._lead = self.lead * task.passage
        passages = self._predicted / (task.passage * self.streams)
        self._share = task.passage * (ceil(passages) if options.held_out else int(passages))
        if self._share < 1:
            raise ConfigError(
                f"streams = {self.streams}: the {options.part} part of {task.text.name} has {len(codes):,} characters, "
                f"too few for a passage of {task.passage} in each; give fewer streams, or a shorter --passage"
            )
        self._text = task.identity
        self._round = self._lead + self._share
        self._codes = torch.from_numpy(_side_by_side(before, codes, self.streams, self._share)).to(self.device)
        self._starts = torch.arange(self.streams, device=self.device) * self._share
        # Places where what is scored changes: a stream begins its share, or the last one comes to the end of the part.
        self._changes = (0, self._lead, self._lead + self._predicted % self._share)

        kinds = task.d_in
        self._pair = self._buffer(2, dtype=torch.int64)
        self._x = torch.zeros(self.streams, kinds, dtype=self.dtype, device=self.device)
        self._scored, self._first, self._last = self._flags
        self._mark_end()
        self._step = TaskStep(self._x, self._pair[1], self._weight, self._scored, self._first, self._last)
        self._cross_entropy = CrossEntropy(streams=self.streams, classes=kinds, like=self._x)
        self._score = Score(self._loss, self._cross_entropy.gradient, self._metric, self._count)

    def next(self) -> TaskStep:
        """The next character of every stream."""
        at = self.clock % self._round
        if at in self._changes:
            self._mark_end()
        self._pair.copy_(self._codes[at : at + 2])
        self._x.zero_().scatter_(1, self._pair[:1].t(), 1)
        self._first.fill_(at % self.length == 0)
        self.clock += 1
        ends = self.clock % self.length == 0
        self._last.fill_(ends)
        if ends:
            self.completed += self.streams
            self.sequences.add_(self.streams)
        return self._step

    def take(self, count: int) -> TaskStep:
        """The next `count` characters at once; every tensor has a leading axis of steps."""
        parts = []
        while count:
            at = self.clock % self._round
            if at in self._changes:
                self._mark_end()
            # To the end of the passage, or to where weights change.
            stops = (*self._changes, self._round, at - at % self.length + self.length)
            until = min(stop for stop in stops if stop > at)
            n = min(count, until - at)
            parts.append(self._take_alike(at, n))
            count -= n
        return joined(parts)

    def _take_alike(self, at: int, count: int) -> TaskStep:
        """The steps from place `at` of the shares, of which none but the last ends a passage or what is scored."""
        codes = self._codes[at : at + count + 1].long()
        first = torch.zeros(count, self.streams, dtype=torch.bool, device=self.device)
        last = torch.zeros_like(first)
        first[0] = at % self.length == 0
        self.clock += count
        ends = self.clock % self.length == 0
        last[-1] = ends
        if ends:
            self.completed += self.streams
            self.sequences.add_(self.streams)
        weight, scored = (part.repeat(count, 1) for part in (self._weight, self._scored))
        x = self._x.new_zeros(count, *self._x.shape).scatter_(2, codes[:-1].unsqueeze(2), 1)
        return TaskStep(x, codes[1:], weight, scored, first, last)

    def begins_at(self, clock: int) -> bool:
        """Whether the step given at `clock` is the first that the streams read."""
        return clock % self._round == 0

    def score(self, y: Tensor, step: TaskStep) -> Score:
        """Cross entropy of the logits `y`, `(streams, kinds)`; gradient (softmax - target) * weight / streams."""
        _, of_target = self._cross_entropy.score(y, step.target, step.weight, loss=self._loss)
        self._count.copy_(step.scored)
        torch.mul(of_target, self._count, out=self._metric).mul_(-1 / log(2))
        return self._score

    def score_all(self, y: Tensor, steps: TaskStep) -> Score:
        """The same of several steps at once."""
        loss, gradient, _, of_target = self._cross_entropy.score_all(y, steps.target, steps.weight)
        count = steps.scored.to(loss.dtype)
        return Score(loss, gradient, (of_target * count).mul_(-1 / log(2)), count)

    def sources(self) -> Tensor:
        """-1, `(streams, 1)`: what a character depends on is not known."""
        return torch.full((self.streams, 1), -1, device=self.device)

    def positions(self) -> Tensor:
        """Place of the last step in its passage, `(streams,)`; -1 before the first step."""
        at = (self.clock - 1) % self.length if self.clock else -1
        return torch.full((self.streams,), at, device=self.device)

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Continue exactly where the stream that gave `state` stood.

        Raises:
            ConfigError: an entry is missing or does not fit this stream, or the text is not the same
        """
        super().load_state_dict(state)
        self._mark_end()

    def _mark_end(self) -> None:
        """What lies before a stream's share, or beyond the end of a held-out part, has no weight and is not scored."""
        at = self.clock % self._round - self._lead
        torch.lt(self._starts, self._predicted - at if at >= 0 else 0, out=self._scored)
        self._weight.copy_(self._scored).div_(self.length)

    def _identity(self) -> dict[str, int]:
        return {**super()._identity(), "share": self._share, **self._text}

    def _buffers(self) -> dict[str, Tensor]:
        return {}


def _pairs(codes: np.ndarray, kinds: int) -> np.ndarray:
    """A number for each character and the one after it, `(characters - 1,)`."""
    return codes[:-1].astype(np.int64) * kinds + codes[1:]


def _text_before(task: CharLM, part: Part) -> np.ndarray:
    """The last characters before a part, `LEAD` in whole passages, or as many whole passages as there are."""
    before = np.concatenate([task.text.parts[name] for name in PARTS[: PARTS.index(part)]])
    passages = min(ceil(LEAD / task.passage), len(before) // task.passage)
    return before[len(before) - passages * task.passage :]


def _side_by_side(before: np.ndarray, codes: np.ndarray, streams: int, share: int) -> np.ndarray:
    """Codes as `(lead + share + 1, streams)`: in each column the text before a stream's share, the share and a character.

    Arguments:
        before: `(lead,)`, what comes before the codes
        codes: `(characters,)`
    """
    whole = np.zeros(len(before) + streams * share + 1, dtype=codes.dtype)
    known = np.concatenate([before, codes])[: len(whole)]
    whole[: len(known)] = known
    columns = np.lib.stride_tricks.sliding_window_view(whole, len(before) + share + 1)[::share]
    return columns.T.copy()
