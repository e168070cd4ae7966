"""Reading a text as an endless stream, against literal slicing, numpy's cross entropy and unbroken runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
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
from sabsim.cli import main
from sabsim.errors import ConfigError, RunFolderError
from sabsim.retention import Retention
from sabsim.runs import (
    LearnerOptions,
    RunConfig,
    RunFolder,
    RunOptions,
    evaluate,
    held_out,
    load_checkpoint,
    loop,
    read_rows,
)
from sabsim.runs import train as run
from sabsim.runs.folder import read_json
from sabsim.runs.summary import TIMED
from sabsim.tasks import CharLM, TaskStream

NOVELTY = Novelty(slots=4)
WORDS = "the cat sat on the mat and saw a rat that ate the oats "


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 2,000 characters: 1,800 to train with, 100 and 100."""
    path = tmp_path_factory.mktemp("text") / "story.txt"
    rng = np.random.default_rng(0)
    path.write_text(" ".join(rng.choice(WORDS.split(), 800).tolist())[:2000])
    return path


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


def test_a_text_that_is_too_short_is_refused(story: Path) -> None:
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


# Runs


def config(story: Path, **options: Any) -> RunConfig:
    given: dict[str, Any] = {
        "streams": 3,
        "budget": 90,
        "eval_every": 20,
        "eval_sequences": 4,
        "checkpoint_every": 25,
        "record_every": 3,
        "device": "cpu",
    }
    return RunConfig(
        task=CharLM(corpus=str(story), passage=30),
        learner=LearnerOptions(hidden=8, slots=4, k_top=2, explore=0.0),
        run=RunOptions(**(given | options)),
    )


def test_a_run_leaves_figures_of_both_parts(story: Path, tmp_path: Path) -> None:
    summary = run(config(story), out=tmp_path / "run")
    task = CharLM(corpus=str(story), passage=30)
    assert (summary["task"], summary["corpus"], summary["kinds"]) == ("charlm", "story.txt", task.d_in)
    assert summary["characters"] == {"train": 1800, "validation": 100, "test": 100}
    assert (summary["sequences"], summary["held_out_sequences"], summary["validation_sequences"]) == (90, 4, 4)
    assert summary["bpc"] < summary["baselines"]["frequencies bpc"]
    rows = dict(read_rows(tmp_path / "run" / "run.sqlite", "SELECT split, metric FROM metrics ORDER BY id"))
    assert (rows["final"], rows["validation"]) == (summary["bpc"], summary["validation_bpc"])
    curve = read_rows(tmp_path / "run" / "run.sqlite", "SELECT sequences, metric FROM metrics WHERE split = 'held-out'")
    best = min(metric for _, metric in curve)
    assert (summary["best_at"], best) in curve
    # A passage is an episode in the tables; the learner was reset at the end of its share only.
    episodes = read_rows(tmp_path / "run" / "run.sqlite", "SELECT episode, first_step, last_step FROM episodes ORDER BY id")
    assert episodes == [(i, 30 * i, 30 * i + 29) for i in range(30)]
    events = "SELECT max(lag) FROM events WHERE kind = 'replay'"
    assert read_rows(tmp_path / "run" / "run.sqlite", events)[0][0] > 30


def assert_equal_runs(one: Path, other: Path) -> None:
    for table in ("events", "steps", "episodes", "metrics"):
        rows = read_rows(one / "run.sqlite", f"SELECT * FROM {table} ORDER BY id")
        assert rows == read_rows(other / "run.sqlite", f"SELECT * FROM {table} ORDER BY id")
        assert rows, table
    states = [load_checkpoint(RunFolder(path)).states for path in (one, other)]
    assert states[0].keys() == states[1].keys() == {"learner", "stream", "parameters", "best"}
    for part, state in states[0].items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1][part][name])), (part, name)
    summaries = [{k: v for k, v in read_json(path / "summary.json").items() if k not in TIMED} for path in (one, other)]
    assert summaries[0] == summaries[1]


def test_the_best_parameters_are_played_at_the_end(
    story: Path,
    tmp_path: Path,
    killed_at: Callable[[Any, str, int], AbstractContextManager[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = config(story, eval_sequences=100, budget=300)
    whole = replace(whole, optimizer=replace(whole.optimizer, lr=0.05, lr_schedule="constant", average=0.0))
    summary = run(whole, out=tmp_path / "run")
    curve = read_rows(tmp_path / "run" / "run.sqlite", "SELECT sequences, metric FROM metrics WHERE split = 'held-out'")
    assert summary["validation_bpc"] == min(metric for _, metric in curve)
    assert summary["best_at"] == min((metric, at) for at, metric in curve)[1] < 270
    states = load_checkpoint(RunFolder(tmp_path / "run")).states
    assert any(not torch.equal(states["best"][name], states["parameters"][name]) for name in states["best"])
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["bpc"] == summary["bpc"]
    # Killed after they were kept, before the last evaluation, the resumed run still knows them and how good they were.
    with killed_at(loop.Loop, "_advance", 99):
        run(whole, out=tmp_path / "killed")
    run(None, out=tmp_path / "killed", resume=True)
    assert_equal_runs(tmp_path / "run", tmp_path / "killed")


@pytest.mark.parametrize("options", [{}, {"budget": 200, "streams": 2}])
def test_killed_and_resumed_it_is_the_same_run(
    options: dict[str, Any],
    story: Path,
    tmp_path: Path,
    killed_at: Callable[[Any, str, int], AbstractContextManager[None]],
) -> None:
    whole = config(story, **options)
    run(whole, out=tmp_path / "whole")
    for blocks in (2, 9, 12):
        with killed_at(loop.Loop, "_advance", blocks):
            run(whole, out=tmp_path / "killed", resume=True)
    run(None, out=tmp_path / "killed", resume=True)
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")


def test_a_longer_budget_goes_on_like_one_run(story: Path, tmp_path: Path) -> None:
    run(config(story), out=tmp_path / "long")
    run(config(story, budget=150), out=tmp_path / "long", resume=True)
    run(config(story, budget=150), out=tmp_path / "once")
    assert_equal_runs(tmp_path / "once", tmp_path / "long")


def test_stop_at_is_confirmed_on_the_whole_validation_part(story: Path, tmp_path: Path) -> None:
    summary = run(config(story, stop_at=4.0, budget=3000), out=tmp_path / "run")
    assert summary["stopped_early"]
    assert summary["sequences"] < 3000
    assert summary["validation_bpc"] <= 4.0


def test_a_text_that_changed_is_refused(story: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text(story.read_text())
    out = str(tmp_path / "run")
    run(config(mine), out=out)
    from sabsim.data.text import read_text

    mine.write_text(story.read_text().replace("cat", "tac", 1))
    read_text.cache_clear()
    assert "charlm on mine.txt: it has changed since the run was trained on it" in mistake("evaluate", out)
    with pytest.raises(RunFolderError, match=r"does not fit config.json .task state 'text' must be"):
        run(config(mine, budget=200), out=out, resume=True)
    mine.unlink()
    read_text.cache_clear()
    assert "must be one of docs, ptb, text8, or the path of a UTF-8 text file" in mistake("evaluate", out)


def test_what_needs_an_end_is_refused_before_any_work(tmp_path: Path, mistake: Callable[..., str]) -> None:
    for options in (("--retention", "all"), ("--credit", "bptt")):
        said = mistake("run", "charlm", *options, "--out", str(tmp_path / "run"))
        assert said.startswith("task 'charlm' has no end, so neither credit bptt nor retention all can take it whole")
    for options, words in [
        (("--corpus", "nothing"), "corpus = "),
        (("--data", str(tmp_path / "gone"), "--corpus", "ptb"), "gone': no such folder"),
        (("--data", str(tmp_path), "--corpus", "ptb"), "data set 'ptb' is not in"),
        (("--streams", "9999"), "too few for a passage of 100"),
    ]:
        assert words in mistake("run", "charlm", *options, "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_command_runs_and_evaluates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    options = "--hidden 8 --slots 5 --streams 8 --budget 16 --eval-every 8 --eval-sequences 8 --device cpu"
    assert main(["run", "charlm", *options.split(), "--out", out]) == 0
    shown = capsys.readouterr().out
    assert "charlm on python-docs: test bpc " in shown
    assert "16 passages trained" in shown
    assert main(["evaluate", out, "--part", "validation", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    summary = read_json(Path(out) / "summary.json")
    assert (found["bpc"], found["part"], found["corpus"]) == (summary["validation_bpc"], "validation", "python-docs")
    assert main(["evaluate", out]) == 0
    assert "charlm on python-docs, after 16 training passages" in " ".join(capsys.readouterr().out.split())
    assert sorted(path.name for path in (Path(out) / "evaluations").iterdir()) == [
        "docs-passage100-test.json",
        "docs-passage100-validation.json",
    ]
    assert read_json(Path(out) / "evaluations" / "docs-passage100-test.json")["bpc"] == summary["bpc"]
