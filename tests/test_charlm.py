"""Reading a text as an endless stream, against literal slicing, numpy's cross entropy and unbroken runs."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import ceil, log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sabsim import SAB, Adam, Network, Novelty, Recent, StreamingLearner
from sabsim.errors import ConfigError, DataError
from sabsim.retention import Retention
from sabsim.runs import evaluate, held_out
from sabsim.tasks import CharLM, TaskStream

NOVELTY = Novelty(slots=4)


def codes_of(task: CharLM, part: str) -> list[int]:
    return task.text.parts[part].tolist()


def lead_of(task: CharLM, part: str) -> list[int]:
    """What is read before a held-out part: whole passages, 500 characters or somewhat more."""
    before = codes_of(task, "train") + (codes_of(task, "validation") if part == "test" else [])
    return before[-ceil(500 / task.passage) * task.passage :]


def played(stream: TaskStream, steps: int) -> dict[str, Tensor]:
    """Symbols in and out, weights, marks and resets, one row a step: `(steps, streams)`."""
    rows: list[list[Tensor]] = []
    for _ in range(steps):
        step = stream.next()
        assert torch.equal(step.x.sum(1), torch.ones(stream.streams))
        reset = torch.full((stream.streams,), stream.begins)
        given = (step.x.argmax(1), step.target, step.weight, step.scored, step.first, step.last, reset)
        rows.append([tensor.clone() for tensor in given])
    names = ("x", "target", "weight", "scored", "first", "last", "reset")
    return dict(zip(names, (torch.stack(column) for column in zip(*rows, strict=True)), strict=True))


# The stream


@settings(max_examples=8, deadline=None)
@given(streams=st.integers(1, 7), passage=st.integers(1, 40))
def test_each_stream_reads_its_own_slice_again_and_again(story: Path, streams: int, passage: int) -> None:
    task = CharLM(corpus=str(story), passage=passage)
    text = codes_of(task, "train")
    share = (len(text) - 1) // (streams * passage) * passage
    seen = played(task.stream(streams=streams, seed=3, stagger=True), 2 * share + 5)
    for b in range(streams):
        mine = text[b * share : (b + 1) * share + 1]
        assert seen["x"][:, b].tolist() == (mine[:-1] * 3)[: 2 * share + 5]
        assert seen["target"][:, b].tolist() == (mine[1:] * 3)[: 2 * share + 5]
    at = torch.arange(2 * share + 5).unsqueeze(1).expand(-1, streams)
    assert torch.equal(seen["first"], at % passage == 0)
    assert torch.equal(seen["last"], at % passage == passage - 1)
    assert torch.equal(seen["reset"], at % share == 0)
    assert bool(seen["scored"].all())
    torch.testing.assert_close(seen["weight"], torch.full_like(seen["weight"], 1 / passage))


@settings(max_examples=8, deadline=None)
@given(streams=st.integers(1, 7), passage=st.integers(1, 40), part=st.sampled_from(["validation", "test"]))
def test_every_character_of_a_held_out_part_is_predicted_once(story: Path, streams: int, passage: int, part: Any) -> None:
    task = CharLM(corpus=str(story), passage=passage)
    text = codes_of(task, part)
    share = ceil((len(text) - 1) / (streams * passage)) * passage
    lead = lead_of(task, part)
    around = len(lead) + share
    seen = played(task.stream(streams=streams, seed=0, part=part), 2 * around)
    whole = lead + text
    pairs = Counter()
    for b in range(streams):
        scored = seen["scored"][:around, b]
        where = range(b * share, b * share + int(scored.sum()))
        assert scored.tolist() == [False] * len(lead) + [True] * len(where) + [False] * (share - len(where))
        read = len(lead) + len(where) if where else 0
        assert seen["x"][:read, b].tolist() == whole[b * share :][:read]
        assert seen["target"][:read, b].tolist() == whole[b * share + 1 :][:read]
        assert seen["weight"][:around, b].tolist() == (scored / passage).tolist()
        pairs.update(where)
    assert pairs == Counter(range(len(text) - 1))
    # Round and round, reset only where the lead begins.
    assert all(torch.equal(seen[name][:around], seen[name][around:]) for name in seen)
    assert seen["reset"].any(1).nonzero().flatten().tolist() == [0, around]


def test_steps_taken_together_equal_those_one_by_one(story: Path) -> None:
    """Across the lead's end, the part's end, and the beginning of the next round."""
    task = CharLM(corpus=str(story), passage=30)
    one, other = (task.stream(streams=2, seed=0, part="test") for _ in range(2))
    expected = played(one, 1300)
    for first in range(0, 1300, 65):
        taken = other.take(65)
        rows = slice(first, first + 65)
        assert torch.equal(taken.x.argmax(2), expected["x"][rows])
        for name in ("target", "weight", "scored", "first", "last"):
            assert torch.equal(getattr(taken, name), expected[name][rows]), name
        assert [other.begins_at(t) for t in range(first, first + 65)] == expected["reset"][rows, 0].tolist()
    assert (one.clock, one.completed) == (other.clock, other.completed)


def test_a_text_of_many_kinds_of_characters(tmp_path: Path) -> None:
    path = tmp_path / "kinds.txt"
    path.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 700))) * 2, encoding="utf-8")
    task = CharLM(corpus=str(path), passage=10)
    assert task.d_in == task.d_out == 700
    text, share = codes_of(task, "train"), 620
    seen = played(task.stream(streams=2, seed=0), share)
    assert [seen["x"][:, b].tolist() for b in range(2)] == [text[:share], text[share : 2 * share]]


def test_completed_passages_are_counted_and_placed(story: Path) -> None:
    stream = CharLM(corpus=str(story), passage=7).stream(streams=3, seed=0)
    assert stream.positions().tolist() == [-1] * 3
    for i in range(100):
        stream.next()
        assert stream.positions().tolist() == [i % 7] * 3
        assert stream.completed == int(stream.sequences) == 3 * ((i + 1) // 7)
    assert stream.sources().tolist() == [[-1]] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_equal_autograd_and_bits_are_bits(story: Path, dtype: torch.dtype) -> None:
    task = CharLM(corpus=str(story), passage=9)
    stream = task.stream(streams=4, seed=0, dtype=dtype, part="test")
    generator = torch.Generator().manual_seed(0)
    for _ in range(27):
        step = stream.next()
        y = 3 * torch.randn(4, task.d_out, generator=generator, dtype=dtype)
        score = stream.score(y, step)
        leaf = y.clone().requires_grad_()
        loss = nn.functional.cross_entropy(leaf, step.target, reduction="none")
        (gradient,) = torch.autograd.grad((loss * step.weight).sum() / 4, leaf)
        torch.testing.assert_close(score.loss, loss.detach() * step.weight)
        torch.testing.assert_close(score.dL_dy, gradient)
        torch.testing.assert_close(score.metric_sum, loss.detach() / np.log(2) * step.scored)
        assert torch.equal(score.count, step.scored.to(dtype))


@settings(max_examples=10, deadline=None)
@given(steps=st.integers(0, 2000), part=st.sampled_from(["train", "test"]))
def test_a_loaded_stream_goes_on_bit_for_bit(story: Path, steps: int, part: Any) -> None:
    task = CharLM(corpus=str(story), passage=9)
    stream, other = (task.stream(streams=3, seed=seed, part=part) for seed in (0, 1))
    for _ in range(steps):
        stream.next()
    other.load_state_dict(stream.state_dict())
    assert torch.equal(stream.positions(), other.positions())
    expected, got = played(stream, 700), played(other, 700)
    for name, tensor in expected.items():
        assert torch.equal(tensor, got[name])
    assert (stream.clock, stream.completed) == (other.clock, other.completed)


def test_a_foreign_state_is_refused(story: Path, tmp_path: Path) -> None:
    changed = tmp_path / "story.txt"
    changed.write_text(story.read_text().replace("cat", "tac", 1))
    state = CharLM(corpus=str(story)).stream(streams=3, seed=0).state_dict()
    CharLM(corpus=str(story)).stream(streams=3, seed=0).load_state_dict(state)
    for task, streams, word in [
        (CharLM(corpus=str(changed)), 3, "text"),
        (CharLM(corpus=str(story), passage=50), 3, "length"),
        (CharLM(corpus=str(story)), 2, "share"),
    ]:
        with pytest.raises(ConfigError, match=rf"task state '{word}' must be"):
            task.stream(streams=streams, seed=0).load_state_dict(state)


def test_a_step_makes_no_new_buffers_and_asks_nothing_of_the_device(story: Path) -> None:
    task = CharLM(corpus=str(story), passage=9)
    stream = task.stream(streams=3, seed=0)
    y = torch.zeros(3, task.d_out)

    def addresses() -> list[int]:
        step = stream.next()
        score = stream.score(y, step)
        tensors = (step.x, step.target, step.weight, step.scored, step.first, step.last, score.loss, score.dL_dy)
        return [tensor.data_ptr() for tensor in tensors]

    once = addresses()
    assert all(addresses() == once for _ in range(1300))


def test_a_text_that_is_too_short_is_refused(story: Path, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.txt"
    tiny.write_text("abcdefghijklmnopqrstuvwxyz")
    with pytest.raises(DataError, match=r"tiny.txt': is too short, with 23 train, 1 validation, 2 test characters"):
        CharLM(corpus=str(tiny), passage=1).stream(streams=4, seed=0)
    with pytest.raises(ConfigError, match=r"streams = 20: the train part of story.txt has 1,800 characters, too few for a"):
        CharLM(corpus=str(story)).stream(streams=20, seed=0)
    with pytest.raises(ConfigError, match=r"passage must be an integer >= 1, got 0"):
        CharLM(passage=0)


# Baselines and evaluation


def test_baselines_are_counted(story: Path) -> None:
    task = CharLM(corpus=str(story))
    train, test, kinds = codes_of(task, "train"), codes_of(task, "test"), task.d_in
    single, pairs = Counter(train), Counter(pairwise(train))
    bits_single = [-log2((single[c] + 1) / (len(train) + kinds)) for c in test[1:]]
    before = Counter(train[:-1])
    bits_pairs = [-log2((pairs[a, b] + 1) / (before[a] + kinds)) for a, b in pairwise(test)]
    assert task.baselines() == pytest.approx(
        {
            "equal bpc": log2(kinds),
            "frequencies bpc": sum(bits_single) / len(bits_single),
            "pairs bpc": sum(bits_pairs) / len(bits_pairs),
        }
    )


def learner_for(
    task: CharLM, streams: int = 2, retention: Retention = NOVELTY, k_trunc: int = 3, **options: Any
) -> StreamingLearner:
    return StreamingLearner(
        Network(d_in=task.d_in, d_out=task.d_out, hidden=8),
        credit=SAB(k_top=2, k_trunc=k_trunc),
        retention=retention,
        optimizer=Adam(),
        streams=streams,
        **options,
    )


@pytest.mark.parametrize("part", ["validation", "test"])
def test_bits_per_character_equal_numpys_cross_entropy(story: Path, part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The learner's logits, step by step over the whole part in one stream, scored by a plain numpy cross entropy.

    What comes before the part is read as well.
    """
    monkeypatch.setattr(evaluate, "MOST_READERS", {"cpu": 1})
    task = CharLM(corpus=str(story), passage=30)
    learner = learner_for(task, dtype=torch.float64)
    learner.parameters["readout.W_h"].mul_(20)
    lead = lead_of(task, part)
    player = learner.evaluator(streams=1, seed=5)
    player.reset(torch.ones(1, dtype=torch.bool))
    bits = []
    for now, after in pairwise(lead + codes_of(task, part)):
        y = player.step(nn.functional.one_hot(torch.tensor([now]), task.d_in).double())[0].numpy().copy()
        player.learn(torch.zeros(1, task.d_out, dtype=torch.float64))
        p = np.exp(y - y.max())
        bits.append(-np.log2(p[after] / p.sum()))
    del bits[: len(lead)]
    found = held_out(learner, task, sequences=None, seed=5, part=part)
    assert found.metric == pytest.approx(np.mean(bits), rel=1e-12)
    assert found.sequences == ceil(len(bits) / 30) == 4
    assert np.std(bits) > 0.1  # else anything would do
    cut = [np.mean(bits[i : i + 30]) for i in range(0, len(bits), 30)]
    assert found.standard_error == pytest.approx(np.std(cut, ddof=1) / 2, rel=1e-9)
    assert held_out(learner, task, sequences=2, seed=5, part=part).metric == pytest.approx(np.mean(bits[:60]), rel=1e-12)


def test_several_readers_find_what_one_finds(story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out, and with the text before its share a reader is where the only one would be.

    In as far as what is remembered lies within that text: the newest microstates do, the most novel ones need not.
    """
    task = CharLM(corpus=str(story), passage=10)
    learner = learner_for(task, retention=Recent(slots=4), k_trunc=5, dtype=torch.float64)
    learner.parameters["readout.W_h"].mul_(20)
    learner.parameters["cell.b"].fill_(-1.0)  # it forgets within the lead
    monkeypatch.setattr(evaluate, "MOST_READERS", {"cpu": 1})
    alone = held_out(learner, task, sequences=1000, seed=0, part="test").metric
    for readers in (1, 3, 4, 16):
        monkeypatch.setattr(evaluate, "MOST_READERS", {"cpu": readers})
        found = held_out(learner, task, sequences=1000, seed=0, part="test")
        assert found.sequences == 10
        assert found.loss * 10 == pytest.approx(found.metric * 99 / 10 * np.log(2), rel=1e-12)
        assert found.metric == pytest.approx(alone, rel=1e-6)


def test_evaluation_touches_nothing(story: Path) -> None:
    task = CharLM(corpus=str(story), passage=10)
    learner, stream = learner_for(task), task.stream(streams=2, seed=0)

    def go(steps: int) -> None:
        for _ in range(steps):
            step = stream.next()
            if stream.begins:
                learner.reset(step.first)
            score = stream.score(learner.step(step.x), step)
            learner.learn(score.dL_dy, score.loss)

    go(50)
    before, global_state = learner.state_dict(), torch.random.get_rng_state()
    held_out(learner, task, sequences=3, seed=0)
    held_out(learner, task, sequences=None, seed=0, part="test")
    after = learner.state_dict()
    assert all(torch.equal(torch.as_tensor(before[name]), torch.as_tensor(after[name])) for name in before)
    assert torch.equal(global_state, torch.random.get_rng_state())
