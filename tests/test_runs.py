"""Description, recorder, database, checkpoint and evaluation of a run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from sabsim.credit import CREDIT_RULES
from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs import (
    TABLES,
    LearnerOptions,
    OptimizerOptions,
    RunConfig,
    RunFolder,
    RunOptions,
    build,
    held_out,
    load_checkpoint,
    loop,
    read_rows,
    train,
)
from sabsim.runs.playing import at_length, play
from sabsim.runs.recorder import REMINDING_THRESHOLD
from sabsim.tasks import TASKS, CharLM, Copying

SMALL = RunConfig(
    task=Copying(T=5),
    learner=LearnerOptions(hidden=8, slots=8, k_top=3),
    run=RunOptions(streams=4, budget=60, eval_every=20, eval_sequences=8, checkpoint_every=20, device="cpu"),
)
EXPECTED_SUMMARY = (
    "task T preset credit retention slots k_top k_trunc k_att streams seed sequences updates steps seconds "
    "steps_per_second accuracy macrostate_bytes peak_rss_mb device torch git"
)


@pytest.fixture(autouse=True)
def quick_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at here does not need 1,000 sequences."""
    monkeypatch.setattr(loop, "FINAL_SEQUENCES", 16)


def variant(
    learner: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    optimizer: dict[str, Any] | None = None,
) -> RunConfig:
    """`SMALL` with some options changed."""
    return replace(
        SMALL,
        learner=replace(SMALL.learner, **learner or {}),
        run=replace(SMALL.run, **run or {}),
        optimizer=replace(SMALL.optimizer, **optimizer or {}),
    )


# The description


@pytest.mark.parametrize("task", list(TASKS))
def test_a_description_survives_json(task: str) -> None:
    config = RunConfig(
        task=TASKS[task](),
        learner=LearnerOptions(slots=40, update_every=3),
        optimizer=OptimizerOptions(lr_schedule="cosine", lr=0.1 + 0.2),
        run=RunOptions(stop_at=0.99, stagger=True),
    ).resolved()
    again = RunConfig.from_json(json.loads(json.dumps(config.to_json())), "config.json")
    assert again == config
    assert again.differences(config) == []


def test_what_depends_on_machine_task_and_budget_is_filled_in() -> None:
    config = replace(SMALL, optimizer=OptimizerOptions(lr_schedule="linear")).resolved()
    assert config.run.device == "cpu"
    assert config.optimizer.decay_updates == 15 * (25 + 1) // 5  # an idle step after each sequence
    for credit in ("bptt", "full-attention"):  # one update a sequence
        assert variant({"credit": credit}, optimizer={"lr_schedule": "cosine"}).resolved().optimizer.decay_updates == 15
    # Without credit to the past there is an update at every step, unless asked for otherwise.
    assert variant({"credit": "none"}, optimizer={"lr_schedule": "linear"}).resolved().optimizer.decay_updates == 15 * 25
    fewer = variant({"credit": "none", "update_every": 4}, {"gap": 3}, {"lr_schedule": "linear"})
    assert fewer.resolved().optimizer.decay_updates == 15 * 28 // 4
    assert build(fewer).learner.credit.update_every == 4
    gap = variant({}, {"gap": 75}, {"lr_schedule": "linear"})
    assert gap.resolved().optimizer.decay_updates == 15 * (25 + 75) // 5
    assert variant({"slots": None}).resolved().learner.slots == 32
    assert variant({"slots": None, "retention": "all", "k_att": 2}, {"gap": 0}).resolved().learner.slots == 12
    assert variant({"slots": None, "retention": "all", "k_att": 2}, {"gap": 1}).resolved().learner.slots == 13


FIRST = """
preset salience sparsify stores readout cell hidden forget_bias input_scale credit k_top k_trunc k_att replays update_every
explore negligible replay_threshold trigger retention slots protect input_effect buffer optimizer lr clip spike average
weight_decay lr_schedule decay_updates lr_floor beta_1 beta_2 eps amsgrad decay momentum seed streams stagger budget stop_at
eval_every eval_sequences checkpoint_every record_streams record_every device dtype backend threads
"""


def test_folders_older_than_an_option_are_read() -> None:
    """An option that the first folders of this format do not name must have a value that says what these did."""
    data, first = SMALL.to_json(), FIRST.split()
    for group in ("learner", "optimizer", "run"):
        data[group] = {name: value for name, value in data[group].items() if name in first}
    read = RunConfig.from_json(data, "config.json").options()
    assert {name: read[name] for name in first} == {name: SMALL.options()[name] for name in first}
    assert {name: value for name, value in read.items() if name not in {*first, "task", "T"}} == {
        "explore_fades": False,
        "familiar": False,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "feeds": None,
        "replay_share": 1.0,
        "restarts": 0,
        "warmup_updates": 0,
        "gap": 0,
        "record_hidden": False,
        "tf32": False,
    }


def test_folders_that_did_not_use_an_option_that_is_gone_are_read() -> None:
    """`centred` was an option of the learner: what this version always does is what False meant."""
    data = SMALL.to_json()
    data["learner"]["centred"] = False
    assert RunConfig.from_json(data, "config.json") == SMALL
    data["learner"]["centred"] = True
    with pytest.raises(RunFolderError, match="missing or unknown: centred"):
        RunConfig.from_json(data, "config.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, r"run-folder format 99, but this sabsim reads format 4; .*sabsim 7\.0"),
        ({"task": "juggling"}, "unknown task 'juggling'; this sabsim has copying"),
        ({"learner": {"slots": 3}}, "options missing or unknown: .*k_top"),
        ({"run": None}, "RunOptions are missing"),
        ({"task_options": {"T": "long"}}, "T = 'long': must be"),
    ],
)
def test_a_damaged_or_foreign_description_is_refused(change: dict[str, Any], message: str) -> None:
    data = SMALL.to_json() | {"made_by": {"sabsim": "7.0"}} | change
    with pytest.raises(RunFolderError, match=message):
        RunConfig.from_json(data, "config.json")


@pytest.mark.parametrize(
    ("learner", "run", "optimizer", "message"),
    [
        ({"slots": 0}, {}, {}, "slots = 0: must be at least 1"),
        ({"k_top": 0}, {}, {}, "k_top = 0: must be at least 1"),
        ({"slots": 2}, {}, {}, "slots = 2: must be at least k_top = 3"),
        ({}, {"stop_at": 99.0}, {}, "stop_at = 99: accuracy is from 0 to 1"),
        ({}, {"seed": 2**64}, {}, "seed = 18446744073709551616: must be at most 4611686018427387904"),
        ({"update_every": 6}, {}, {}, "update_every = 6: must be between 1 and k_trunc = 5"),
        ({"replays": -1}, {}, {}, "replays = -1"),
        ({"hidden": 0}, {}, {}, "hidden = 0"),
        ({"preset": "papr"}, {}, {}, r"preset = 'papr': must be one of stable, .*did you mean paper"),
        ({"credit": "sap"}, {}, {}, r"credit = 'sap'.*did you mean sab"),
        ({"retention": "recnt"}, {}, {}, r"retention = 'recnt'.*did you mean recent"),
        ({"salience": "dott"}, {}, {}, "salience = 'dott'"),
        ({"cell": "gro"}, {}, {}, "cell = 'gro'"),
        ({"retention": "all"}, {}, {}, "slots = 8: retention all keeps .* at least 26"),
        ({"buffer": 3}, {}, {}, "buffer = 3: retention novelty has no such setting"),
        ({}, {"streams": 0}, {}, "streams = 0: must be at least 1"),
        ({}, {"budget": 0}, {}, "budget = 0: must be at least 1"),
        ({}, {"record_streams": 5}, {}, "record_streams = 5: must be at most streams = 4"),
        ({}, {"device": "abacus"}, {}, "device = 'abacus'"),
        ({}, {"dtype": "float16"}, {}, "dtype = 'float16'"),
        ({}, {}, {"optimizer": "adan"}, r"optimizer = 'adan'.*did you mean adam"),
        ({}, {}, {"lr": float("nan")}, "lr = nan: must be finite"),
        ({"trigger": "replay"}, {}, {"lr_schedule": "linear"}, "lr_schedule = 'linear': .*give decay_updates"),
        ({}, {}, {"momentum": 0.9}, "momentum = 0.9: optimizer adam has no such setting"),
    ],
)
def test_bad_options_are_refused_before_any_work(
    learner: dict[str, Any], run: dict[str, Any], optimizer: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        train(variant(learner, run, optimizer), out=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("credit", list(CREDIT_RULES))
def test_every_credit_rule_runs(credit: str, tmp_path: Path) -> None:
    summary = train(variant({"credit": credit}, {"budget": 8}), out=tmp_path)
    assert summary["credit"] == credit
    assert summary["k_trunc"] == {"none": 1, "bptt": 25, "full-attention": 25, "screened-attention": 25}.get(credit, 5)


@pytest.mark.parametrize("run", [{}, {"gap": 6}, {"stagger": False}])
def test_retention_all_has_room_for_idle_steps_and_for_longer_sequences(run: dict[str, Any], tmp_path: Path) -> None:
    train(variant({"retention": "all", "slots": None}, {"budget": 24, **run}), out=tmp_path)
    folder = RunFolder(tmp_path)
    found = play(at_length(folder.read_config(), 30), load_checkpoint(folder), part="test", sequences=4)
    assert found["slots"] == 50 + run.get("gap", int(run == {}))


# What is recorded


def test_the_tables_fit_together(tmp_path: Path) -> None:
    config = variant({}, {"record_streams": 4, "record_every": 1, "stagger": True})
    summary = train(config, out=tmp_path)
    path = tmp_path / "run.sqlite"
    episodes = read_rows(path, "SELECT stream, episode, first_step, last_step, loss, metric FROM episodes")
    assert len(episodes) == summary["sequences"]
    for stream in range(4):
        own = [row for row in episodes if row[0] == stream]
        assert [row[1] for row in own] == list(range(len(own)))
        assert all(row[3] - row[2] == 24 for row in own)
        assert all(after[2] == before[3] + 2 for before, after in pairwise(own))  # a step between them
    sums = read_rows(
        path,
        "SELECT stream, episode, sum(loss), avg(correct), count(*), max(position), sum(scored) "
        "FROM steps GROUP BY stream, episode HAVING count(*) = 25 ORDER BY max(step), stream",
    )
    by_name = {row[:2]: row for row in episodes}
    assert len(sums) == len(episodes)
    for stream, episode, loss, correct, steps, position, scored in sums:
        assert by_name[stream, episode][4:] == pytest.approx((loss, correct), rel=1e-12)
        assert (steps, position, scored) == (25, 24, 10)


@pytest.mark.parametrize("learner", [{}, {"update_every": 2, "k_att": 2}, {"sparsify": "dense"}])
def test_events_belong_to_the_sequence_they_happened_in(learner: dict[str, Any], tmp_path: Path) -> None:
    config = variant(learner, {"record_streams": 4, "record_every": 1, "stagger": True, "budget": 24})
    train(config, out=tmp_path)
    path = tmp_path / "run.sqlite"
    starts: dict[tuple[int, int], int] = {
        row[:2]: row[2] for row in read_rows(path, "SELECT stream, episode, min(step) FROM steps GROUP BY 1, 2")
    }
    events = read_rows(
        path,
        "SELECT kind, step, stream, episode, source_step, lag, weight, credit, replayed_steps, loss, update_step "
        "FROM events",
    )
    assert {row[0] for row in events} == {"reminding", "replay"}
    for kind, step, stream, episode, source, lag, weight, credit, replayed, loss, update in events:
        start = starts[stream, episode]
        # In the gap after a sequence its states can still be recalled.
        assert start <= source < step < start + 25 + (kind == "replay")
        assert lag == step - source
        assert loss >= 0
        if kind == "reminding":
            assert REMINDING_THRESHOLD <= weight <= 1 + 1e-6
            assert (credit, replayed, update) == (None, None, None)
        else:
            assert credit > 0
            assert 1 <= replayed <= 5
            block = config.learner.update_every or 5
            assert step <= update < step + 5
            assert (update + 1) % block == 0


def test_one_sequence_in_record_every_is_written_step_by_step(tmp_path: Path) -> None:
    train(variant({}, {"record_every": 4}), out=tmp_path)
    path = tmp_path / "run.sqlite"
    assert read_rows(path, "SELECT DISTINCT stream, episode FROM steps") == [(0, e) for e in (0, 4, 8, 12)]
    remindings = read_rows(path, "SELECT DISTINCT episode FROM events WHERE kind = 'reminding'")
    assert remindings == [(e,) for e in (0, 4, 8, 12)]
    assert len(read_rows(path, "SELECT DISTINCT episode FROM events WHERE kind = 'replay'")) > 10


def test_bptt_keeps_its_streams_in_phase() -> None:
    config = replace(SMALL, learner=replace(SMALL.learner, credit="bptt"))
    assert SMALL.resolved().run.stagger
    assert not config.resolved().run.stagger


@pytest.mark.parametrize("stagger", [True, False])
def test_a_run_is_evaluated_in_the_phases_it_learned_in(
    stagger: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learned with all sequences at the beginning of a block need not hold at its other places."""
    phases, stream_of = [], Copying.stream

    def spied(task: Copying, *, part: Any = "train", stagger: bool = False, **options: Any) -> Any:
        phases.append((part, stagger))
        return stream_of(task, part=part, stagger=stagger, **options)

    monkeypatch.setattr(Copying, "stream", spied)
    config = variant({}, run={"stagger": stagger, "budget": 8})
    train(config, out=tmp_path / "run")
    play(config, load_checkpoint(RunFolder(tmp_path / "run")), part="validation", sequences=4)
    assert {part for part, _ in phases} == {"train", "validation", "test"}
    assert {phase for _, phase in phases} == {stagger}


def test_metrics_and_summary(tmp_path: Path) -> None:
    summary = train(replace(SMALL, run=replace(SMALL.run, stagger=False)), out=tmp_path)
    assert set(EXPECTED_SUMMARY.split()) <= set(summary)
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    rows = read_rows(tmp_path / "run.sqlite", "SELECT split, sequences, step, evaluated, updates FROM metrics")
    assert rows == [
        ("held-out", 0, 0, 8, 0),
        ("train", 20, 125, 20, 25),
        ("held-out", 20, 125, 8, 25),
        ("train", 40, 250, 20, 50),
        ("held-out", 40, 250, 8, 50),
        ("train", 60, 375, 20, 75),
        ("held-out", 60, 375, 8, 75),
        ("final", 60, 375, 16, 75),
    ]
    replays = read_rows(tmp_path / "run.sqlite", "SELECT replays_per_update FROM metrics WHERE split = 'train'")
    assert all(1 < value <= SMALL.learner.k_top for (value,) in replays)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.json",
        "checkpoint.safetensors",
        "config.json",
        "run.sqlite",
        "summary.json",
    ]


def test_recording_does_not_change_the_run(tmp_path: Path) -> None:
    flats = []
    for name, run in {
        "bare": {"record_streams": 0},
        "full": {"record_streams": 4, "record_every": 1},
    }.items():
        train(variant({}, run), out=tmp_path / name)
        flats.append(load_checkpoint(RunFolder(tmp_path / name)).states["learner"]["flat"])
    assert torch.equal(*flats)


def test_a_run_stops_when_it_is_good_enough(tmp_path: Path) -> None:
    summary = train(variant({}, {"stop_at": 0.0}), out=tmp_path)
    assert (summary["sequences"], summary["stopped_early"]) == (0, True)


def test_a_long_sequence_is_flushed_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = variant({}, {"gap": 0})
    train(config, out=tmp_path / "whole")
    monkeypatch.setattr("sabsim.runs.recorder.LONGEST_BLOCK", 7)
    train(config, out=tmp_path / "parts")
    for table in ("steps", "episodes", "metrics"):
        query = f"SELECT * FROM {table}"
        rows = [read_rows(tmp_path / name / "run.sqlite", query) for name in ("whole", "parts")]
        for one, other in zip(*rows, strict=True):
            assert [pytest.approx(cell, rel=1e-12) if isinstance(cell, float) else cell for cell in one] == [*other]
    query = "SELECT kind, step, stream, episode, source_step, weight, credit FROM events ORDER BY 1, 2, 3, 5"
    assert read_rows(tmp_path / "whole/run.sqlite", query) == read_rows(tmp_path / "parts/run.sqlite", query)


# Evaluation


def test_evaluation_touches_nothing() -> None:
    parts = build(SMALL)
    for _ in range(33):
        step = parts.stream.next()
        parts.learner.reset(step.first)
        score = parts.stream.score(parts.learner.step(step.x), step)
        parts.learner.learn(score.dL_dy, score.loss)
    before, generator = parts.learner.state_dict(), torch.get_rng_state()
    first = held_out(parts.learner, Copying(T=9), sequences=130, seed=3)
    assert first == held_out(parts.learner, Copying(T=9), sequences=130, seed=3)
    assert first != held_out(parts.learner, Copying(T=9), sequences=130, seed=4)
    after = parts.learner.state_dict()
    assert torch.equal(generator, torch.get_rng_state())
    for name, value in before.items():
        assert torch.equal(value, after[name]) if isinstance(value, torch.Tensor) else value == after[name]
    assert first.sequences == 130
    assert 0 <= first.metric <= 1


# The documentation


def test_the_documented_queries_and_columns_are_right(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "run-folder.md").read_text()
    summary = train(variant({}, {"record_every": 1}), out=tmp_path)
    queries = re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL)
    assert len(queries) >= 4
    for query in queries:
        assert read_rows(tmp_path / "run.sqlite", query)
    for table, columns in TABLES.items():
        assert f"**`{table}`**" in text
        assert all(f"`{column}`" in text for column in columns), table
    assert all(f"`{key}`" in text for key in summary)


# Places in the block


@pytest.mark.parametrize(
    ("T", "learner", "gap"),
    [
        (100, {}, 1),
        (200, {"k_trunc": 10, "k_top": 10}, 1),
        (101, {}, 0),
        (100, {"update_every": 1}, 0),
        (3, {"k_trunc": 3}, 0),
    ],
)
def test_the_sequences_of_a_stream_begin_at_every_place_of_a_block(T: int, learner: dict[str, Any], gap: int) -> None:
    config = variant({"slots": 12, **learner}, {"streams": 1, "stagger": True})
    parts = build(replace(config, task=Copying(T=T)))
    assert parts.config.run.gap == gap
    block = parts.learner.credit.block
    begins = {at % block for at in range(block * parts.stream.length) if parts.stream.begins_at(at)}
    assert begins == set(range(block))


def test_gaps_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"gap = 2: must be 0, credit bptt learns whole sequences in a row"):
        build(variant({"credit": "bptt"}, {"gap": 2}))
    with pytest.raises(ConfigError, match=r"gap = 2: task 'charlm' has no sequences that end"):
        build(replace(variant({}, {"gap": 2}), task=CharLM(passage=10)))
