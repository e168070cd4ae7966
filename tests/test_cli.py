"""The command line: options as documented, help that teaches, and one line for a mistake."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from sabsim.cli import COMMANDS, main
from sabsim.cli.listing import catalogue
from sabsim.credit import CREDIT_RULES
from sabsim.runs import RunFolder, load_checkpoint, loop
from sabsim.runs.options import LearnerOptions, OptimizerOptions, RunOptions
from sabsim.tasks import TASKS

OPTIONS = "--gap 0 --hidden 8 --slots 8 --streams 4 --budget 8 --eval-every 4 --eval-sequences 8 --device cpu"
QUICK = tuple(OPTIONS.split())


@pytest.fixture(autouse=True)
def quick_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at here does not need 1,000 sequences."""
    monkeypatch.setattr(loop, "FINAL_SEQUENCES", 16)


@pytest.fixture
def finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A short finished run."""
    assert main(["run", "copying", "--T", "5", *QUICK, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    return tmp_path / "run"


# Help


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"{name} " in shown
        assert command.purpose in shown
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sabsim ")


@pytest.mark.parametrize("task", [None, *TASKS])
def test_run_help_explains_every_option(
    task: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["run", *([task] if task else []), "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for group in (LearnerOptions, OptimizerOptions, RunOptions):
        for name in group.__dataclass_fields__:
            assert f"--{name.replace('_', '-')}" in shown, name
    own = {"charlm": "--corpus STR", "pixels": "--images STR"}
    assert task is None or own.get(task, "--T INT") in shown
    for words in ("(k_top", "(k_trunc)", "(B)", "SEQUENCES", "STEPS", "--resume"):
        assert words in shown
    assert ("(default: adam 0.016, else 0.001)" in shown) == (task not in ("adding", "charlm", "pixels"))
    for option, names in catalogue().items():
        if option != "TASK":
            at = shown.index(f"{option} NAME")
            assert all(name in shown[at : at + 250] for name in names), option


@pytest.mark.parametrize("module", ["sabsim.runs.options", "sabsim.agents.options", "sabsim.cli.analyze"])
def test_help_has_no_line_that_ends_within_a_sentence(module: str) -> None:
    """Lines of an option's docstring are lines of its help."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    pairs = [pair for body in bodies for pair in pairwise(body) if isinstance(pair[0], ast.AnnAssign)]
    texts = [
        after.value.value for _, after in pairs if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    ]
    assert len(texts) > 3
    assert [line for text in texts for line in str(text).splitlines() if not line.rstrip().endswith((".", ":"))] == []


def test_list_shows_every_part(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for names in catalogue().values():
        for name, purpose in names.items():
            assert name in shown
            assert purpose


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("rum", f"command = 'rum': must be one of {', '.join(COMMANDS)} (did you mean run?)"),
        ("run", "which task? one of copying, adding, denoise, charlm, pixels; see 'sabsim run --help'"),
        ("run copyin", "task = 'copyin': must be one of copying, adding, denoise, charlm, pixels (did you mean copying?)"),
        ("run --T 5", "--T: the task comes first, as in 'sabsim run copying --T ...'"),
        ("run copying --sloots 3", "unknown option --sloots (did you mean --slots?); see"),
        ("run copying --slots 3.5", "--slots: '3.5' is not INT; see 'sabsim run copying --help'"),
        ("run copying --slots", "Missing value for argument '--slots'"),
        ("run copying --clip fast", "--clip: could not convert string to float: 'fast'"),
        ("run copying 100", "unexpected '100'"),
        ("run copying --T 0", "T must be an integer >= 1, got 0"),
        ("run copying --slots 3", "slots = 3: must be at least k_top = 5"),
        ("run copying --k-top 0", "k_top = 0: must be at least 1"),
        ("run copying --preset stabel", "preset = 'stabel': must be one of stable, paper, released"),
        ("run copying --update-every 9", "update_every = 9: must be between 1 and k_trunc = 5"),
        ("evaluate", "RUN"),
        ("evaluate nowhere", "'nowhere': no run folder (no config.json); 'sabsim run' or 'sabsim agent' makes one"),
        ("evaluate nowhere --episodes 5", "'nowhere': no run folder (no config.json); "),
        ("list all", "unexpected 'all'"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: str,
    words: str,
    mistake: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in mistake(*arguments.split())
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_run_folder_is_one_line(finished: Path, mistake: Callable[..., str]) -> None:
    out = ["--out", str(finished)]
    assert "holds a run; give another --out, or --resume" in mistake("run", "copying", *out)
    said = mistake("run", "adding", "--resume", *out)
    assert said == f"'{finished}': holds a run of task 'copying', not 'adding'; give another --out"
    said = mistake("run", "copying", "--resume", "--hidden", "16", *out)
    assert said == f"hidden = 16: the run in '{finished}' has 8; leave it out, or give another --out"
    data = json.loads((finished / "config.json").read_text())
    (finished / "config.json").write_text(json.dumps(data | {"format": 99}))
    for command in (["run", "copying", "--resume", *out], ["evaluate", str(finished)]):
        assert "run-folder format 99, but this sabsim reads format 4; use the version" in mistake(*command)
    (finished / "config.json").write_text("{")
    assert "cannot be read" in mistake("evaluate", str(finished))


def test_a_truncated_checkpoint_is_one_line(finished: Path, mistake: Callable[..., str]) -> None:
    path = finished / "checkpoint.safetensors"
    os.truncate(path, path.stat().st_size // 2)
    out = ["--out", str(finished)]
    assert "damaged" in mistake("evaluate", str(finished))
    assert "damaged" in mistake("run", "copying", "--resume", "--budget", "99", *out)


# Running


@pytest.mark.parametrize(
    "arguments",
    [
        "copying --T 6 --slots 32 --seed 0",
        "adding --T 12 --credit tbptt --k-trunc 20 --k-top 3",
        "denoise --T 12 --credit sab --k-top 5 --replays 0 --retention reservoir",
        "copying --T 6 --preset released --salience mlp --sparsify dense --cell gru --dtype float64",
        "copying --T 6 --retention all --slots 40 --optimizer sgd --momentum 0.9 --clip 0",
        "copying --T 6 --trigger replay --update-every 2 --optimizer rmsprop --lr-schedule cosine --decay-updates 9",
    ],
)
def test_documented_options_run(arguments: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["run", *arguments.split(" ")[:1], *QUICK, *arguments.split()[1:], "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4  # evaluations at 0, 4 and 8 sequences, and the end
    for at, line in zip((0, 4, 8), lines, strict=False):
        sequences = int(line.partition(" sequences  step")[0])
        assert at <= sequences < at + 4  # each stream may have ended one in the same block
    assert lines[-1].startswith("held-out ")
    assert lines[-1].endswith(str(out))


def test_the_folder_is_named_after_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "copying", "--T", "5", *QUICK, "--seed", "3", "--quiet"]) == 0
    assert (tmp_path / "runs" / "copying-T5-sab-seed3" / "summary.json").exists()


def test_resume_keeps_the_options_of_the_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(finished)]
    assert main(["run", "copying", "--resume", *out]) == 0
    assert "is finished at 8 sequences" in capsys.readouterr().out
    assert main(["run", "copying", "--resume", "--budget", "16", "--hidden", "8", *out]) == 0
    assert "goes on from 8 sequences" in capsys.readouterr().out
    assert load_checkpoint(RunFolder(finished)).numbers["sequences"] == 16


def test_quiet_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "copying", "--T", "5", *QUICK, "--quiet", "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_live_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["run", "copying", "--T", "5", *QUICK, "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    for title in ("step", "loss", "accuracy", "held-out", "replays/update", "steps/s", "ETA"):
        assert title in shown


# Evaluating


def test_evaluate_plays_other_lengths(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "checkpoint.safetensors").read_bytes()
    assert main(["evaluate", str(finished), "--T", "5", "40", "--sequences", "20", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["T"] for result in results] == [5, 40]
    for result in results:
        assert result == json.loads((finished / "evaluations" / f"T{result['T']}.json").read_text())
        assert 0 <= result["accuracy"] <= 1
        assert result["slots"] == 8
        assert result["sequences"] == 20
        assert result["trained_sequences"] == 8
    assert main(["evaluate", str(finished), "--sequences", "20"]) == 0
    shown = capsys.readouterr().out
    assert "chance accuracy" in shown
    assert "after 8 training sequences" in shown
    assert (finished / "checkpoint.safetensors").read_bytes() == before


def test_evaluate_gives_what_the_run_measured(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert main(["evaluate", str(finished), "--sequences", "16", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["accuracy"], result["loss"]) == (summary["accuracy"], summary["held_out_loss"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [("--T 0", "T must be an integer >= 1"), ("--sequences 0", "sequences = 0: must be at least 1")],
)
def test_evaluate_mistakes(arguments: str, words: str, finished: Path, mistake: Callable[..., str]) -> None:
    assert words in mistake("evaluate", str(finished), *arguments.split())


@pytest.mark.parametrize("credit", [name for name in CREDIT_RULES if name != "sab"])
def test_evaluate_without_recall(credit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert main(["run", "adding", "--T", "10", *QUICK, "--credit", credit, "--quiet", "--out", out]) == 0
    assert main(["evaluate", out, "--T", "30", "--sequences", "20", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["mse"] > 0


@pytest.mark.parametrize(
    ("arguments", "buffered"),
    [("--help", True), ("--help", False), ("--version", False), ("data --help", True), ("run copying --help", True)],
)
def test_it_runs_as_a_module_and_survives_a_closed_pipe(arguments: str, buffered: bool) -> None:
    unbuffered = [] if buffered else ["-u"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        command = [sys.executable, *unbuffered, "-m", "sabsim", *arguments.split()]
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "")


def test_denoise_begins_with_a_recipe_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main(["run", "denoise", "--T", "10", *QUICK, "--k-top", "3", "--quiet", "--out", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    assert [config["learner"][name] for name in ("input_scale", "k_trunc", "k_top")] == [1.0, 10, 3]
    assert [config["optimizer"][name] for name in ("weight_decay", "average", "lr_floor")] == [0.003, 0.999, 0.1]


def test_help_tells_the_values_of_the_recipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["run", "adding", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    defaults = {"lr": "0.008", "slots": "16", "replays": "2", "update-every": "1", "decay-updates": "20000"}
    for option, value in {**defaults, "warmup-updates": "0", "beta-1": "0.9"}.items():
        at = shown.index(f"--{option} ")
        assert shown[at:].index(f"(default: {value})") < 200, option


def test_another_optimiser_has_its_own_step_size(tmp_path: Path) -> None:
    """What a recipe says of Adam and its schedule is nothing to others."""
    out = str(tmp_path / "run")
    options = [*QUICK, "--optimizer", "sgd", "--lr-schedule", "linear", "--trigger", "clock", "--quiet", "--out", out]
    assert main(["run", "adding", "--T", "10", *options]) == 0
    found = json.loads((tmp_path / "run" / "config.json").read_text())["optimizer"]
    assert found["lr"] == 1e-3
    assert found["decay_updates"] != 20_000
    assert main(["run", "adding", "--out", out, "--resume", "--quiet"]) == 0


def test_what_was_evaluated_is_shown_where_it_cannot_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["run", "copying", "--T", "1", *QUICK, "--quiet", "--out", str(out)]) == 0
    (out / "evaluations").write_text("not a folder")
    capsys.readouterr()
    assert main(["evaluate", str(out), "--sequences", "8"]) == 2
    shown = capsys.readouterr()
    assert "accuracy" in shown.out
    assert "T1.json': " in shown.err
    assert shown.err.endswith("; it is not kept there\n")


def test_adding_begins_with_a_recipe_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["run", "adding", "--T", "10", *QUICK, "--spike", "2", "--quiet", "--out", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    assert (config["learner"]["update_every"], config["learner"]["trigger"]) == (1, "replay")
    assert config["optimizer"]["decay_updates"] == 20_000
    assert config["optimizer"]["spike"] == 2.0
