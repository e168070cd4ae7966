"""`sabsim agent`, and `sabsim evaluate` of an agent's run: options as documented, and one line for a mistake."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from sabsim.agents import (
    CREDITS,
    AgentLearnerOptions,
    AgentOptimizerOptions,
    AgentRunOptions,
    SignalOptions,
    loop,
    read_agent_config,
)
from sabsim.agents.evaluation import Evaluation
from sabsim.agents.intervals import of_mean, of_share
from sabsim.agents.status import AgentStatus

from sabsim.cli import main
from sabsim.runs import RunFolder, Terminal
from sabsim.runs.folder import read_json

OPTIONS = "--hidden 8 --slots 8 --k-top 3 --streams 4 --steps 200 --eval-every 100 --eval-episodes 4"
QUICK = ("sabsim/MemoryChain-v0", "--env-args", "memory_length=6", *OPTIONS.split())


@pytest.fixture(autouse=True)
def quick_final_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at here does not need 200 episodes."""
    monkeypatch.setattr(loop, "FINAL_EPISODES", 5)


@pytest.fixture
def finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A short finished run."""
    assert main(["agent", *QUICK, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    return tmp_path / "run"


@pytest.mark.parametrize("arguments", [["--help"], ["sabsim/TMaze-v0", "--help"]])
def test_help_explains_every_option(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["agent", *arguments]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    renamed = {"decay": "lambda", "entropy": "entropy-weight", "value": "value-weight"}
    for group in (AgentLearnerOptions, AgentOptimizerOptions, AgentRunOptions):
        for name in group.__dataclass_fields__:
            assert f"--{name.replace('_', '-')}" in shown, name
    for name in SignalOptions.__dataclass_fields__:
        assert f"--{renamed.get(name, name.replace('_', '-'))}" in shown, name
    assert "--lr RATE Learning rate, per update. (default: adam 0.002, obgd 1, else 0.001)" in shown
    assert "--clip NORM Largest global L2 norm" in shown
    for name, credit in CREDITS.items():
        assert f"--credit {name}: {credit.purpose}" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("agent", "which environment? such as sabsim/MemoryChain-v0; see 'sabsim agent --help'"),
        ("agent --seed 3", "--seed: the environment comes first, as in 'sabsim agent sabsim/TMaze-v0 --seed ...'"),
        ("agent sabsim/TMase-v0", "no environment of this name is registered (did you mean sabsim/TMaze-v0?)"),
        ("agent MiniGrid-MemoryS8-v0", "is registered (did you mean MiniGrid-MemoryS"),
        ("agent nowhere:Thing-v0", "module 'nowhere' cannot be imported (No module named 'nowhere')"),
        ("agent Pendulum-v1", "action space Box(-2.0, 2.0, (1,), float32): must be Discrete"),
        ("agent sabsim/TMaze-v0 --env-args memory_length=-3", "cannot be made with {'memory_length': -3} (memory"),
        ("agent sabsim/TMaze-v0 --env-args long", "env_args = 'long': must be KEY=VALUE, or one JSON object"),
        ("agent sabsim/TMaze-v0 --env-args {1", "env_args = '{1': is not a JSON object"),
        ("agent sabsim/TMaze-v0 --credit sabb", "credit = 'sabb': must be one of sab, no-replay"),
        ("agent sabsim/TMaze-v0 --retention novel", "retention = 'novel': must be one of"),
        ("agent sabsim/TMaze-v0 --optimizer adams", "optimizer = 'adams': must be one of"),
        ("agent sabsim/TMaze-v0 --optimizer sgd --eps 1", "eps = 1.0: optimizer sgd has no such setting; leave it out"),
        ("agent sabsim/TMaze-v0 --sloots 3", "unknown option --sloots (did you mean --slots?); see 'sabsim agent ENV_ID"),
        ("agent sabsim/TMaze-v0 --slots 3", "slots = 3: must be at least k_top = 5"),
        ("agent sabsim/TMaze-v0 --gamma 2", "gamma = 2.0: must be between 0 and 1"),
        ("agent sabsim/TMaze-v0 --lr nan", "lr = nan: must be finite"),
        ("agent sabsim/TMaze-v0 --record-streams 33", "record_streams = 33: must be at most streams = 32"),
        ("agent sabsim/TMaze-v0 --window 0", "window = 0: must be at least 1"),
        ("agent sabsim/TMaze-v0 --k-trunc 0", "k_trunc = 0: must be at least 1"),
        ("agent sabsim/TMaze-v0 --env-args render_mode=human", "render_mode = 'human': many environments are played"),
        ("agent sabsim/Exam-v0 --action-credit recall --gamma 1", "gamma = 1 there are none; must be none, or gamma below"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: str, words: str, mistake: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in mistake(*arguments.split())
    assert not list(tmp_path.iterdir())


def test_the_folder_is_named_after_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["agent", *QUICK, "--quiet", "--credit", "tbptt"]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["MemoryChain-v0-memory_length6-tbptt-seed0"]


def test_a_module_that_registers_is_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sabsim.envs:sabsim/MemoryChain-v0", "--env-args", '{"memory_length": 6}', *OPTIONS.split()]
    assert main(["agent", *arguments, "--out", str(tmp_path / "run")]) == 0
    assert "200 steps trained" in capsys.readouterr().out


def test_resume_keeps_the_options_of_the_run(
    finished: Path, capsys: pytest.CaptureFixture[str], mistake: Callable[..., str]
) -> None:
    again = ["agent", "sabsim/MemoryChain-v0", "--out", str(finished), "--resume"]
    assert main(again) == 0
    assert "is finished at 200 steps" in capsys.readouterr().out
    assert main([*again, "--steps", "300"]) == 0
    assert read_agent_config(RunFolder(finished)).learner.hidden == 8
    assert read_json(finished / "summary.json")["steps"] == 300
    assert "hidden = 9: the run in" in mistake(*again, "--hidden", "9")
    other = ("agent", "sabsim/TMaze-v0", "--env-args", "memory_length=6", "--out", str(finished), "--resume")
    assert "holds a run of env 'sabsim/MemoryChain-v0', not 'sabsim/TMaze-v0'" in mistake(*other)


def test_each_kind_of_folder_has_its_command(finished: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    words = mistake("run", "copying", "--out", str(finished), "--resume")
    assert words.endswith("holds a run of kind 'agent', not 'task'; it belongs to 'sabsim agent'")
    options = "--hidden 8 --slots 8 --streams 4 --budget 4 --eval-every 4 --eval-sequences 8 --device cpu --quiet"
    assert main(["run", "copying", "--T", "5", *options.split(), "--out", str(tmp_path / "task")]) == 0
    words = mistake("agent", *QUICK, "--out", str(tmp_path / "task"), "--resume")
    assert words.endswith("holds a run of kind 'task', not 'agent'; it belongs to 'sabsim run'")


def test_lines_for_pipes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", *QUICK, "--out", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("0 steps  0 episodes  return -  evaluated return ")
    assert [line.split()[0] for line in lines[1:3]] == ["100", "200"]
    for words in ("return", "success", "TD error", "replays/update", "steps/s", "ETA"):
        assert words in lines[1]
    assert "over 5 episodes, 200 steps trained" in lines[3]


def test_a_terminal_gets_a_live_table() -> None:
    text = io.StringIO()
    status = AgentStatus(
        done=2_000,
        budget=10_000,
        seconds=10.0,
        steps_per_second=1_234.0,
        overall_rate=100.0,
        episodes=77,
        train_return=0.25,
        train_success=0.5,
        td_error=0.125,
        replays_per_update=3.5,
        evaluated_return=0.75,
        evaluated_success=0.875,
    )
    with Terminal(Console(file=text, force_terminal=True, width=100)) as display:
        display.update(status)
    for words in ("steps", "2,000 of 10,000", "77", "0.25", "0.125", "3.5", "0.75", "0.875", "1,234", "1:20"):
        assert words in text.getvalue()


# Evaluation


def test_evaluate_shows_intervals_and_the_worst(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(finished), "--episodes", "12"]) == 0
    shown = capsys.readouterr().out
    for words in ("success", "return", "length", "95 % interval", "the worst episodes", "1000000", "after 200 steps"):
        assert words in " ".join(shown.split())
    result = read_json(finished / "evaluations" / "sampled-seed0-12.json")
    assert result["episodes"] == result["judged"] == 12
    assert len(result["worst"]) == 5
    assert result["worst"][0]["return"] <= result["worst"][-1]["return"]


def test_evaluate_as_json(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for seed in ("0", "0", "1"):
        assert main(["evaluate", str(finished), "--greedy", "--json", "--seed", seed, "--episodes", "5"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    for result in found:
        result.pop("seconds"), result.pop("date")
    assert found[0] == found[1] != found[2]
    assert found[0]["greedy"]
    assert found[2]["worst"][0]["seed"] >= 1_001_000_000


def test_evaluate_gives_what_the_run_measured(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(finished), "--json", "--episodes", "5"]) == 0
    shown, summary = json.loads(capsys.readouterr().out), read_json(finished / "summary.json")["evaluation"]
    assert {key: shown[key] for key in summary} == summary


def test_evaluate_mistakes(finished: Path, mistake: Callable[..., str]) -> None:
    assert "episodes = 0: must be at least 1" in mistake("evaluate", str(finished), "--episodes", "0")
    assert "unknown option --T" in mistake("evaluate", str(finished), "--T", "3")
    (finished / "checkpoint.safetensors").write_bytes(b"short")
    assert "the checkpoint is missing or damaged" in mistake("evaluate", str(finished))


def test_intervals() -> None:
    import numpy as np

    assert of_mean(np.ones(5)) == (1.0, 1.0, 1.0)
    assert of_mean(np.ones(1)) == (1.0, None, None)
    found = of_mean(np.random.default_rng(0).normal(3, 1, 400))
    assert found.low is not None
    assert found.high is not None
    # 1.96 standard errors to either side.
    assert abs(found.low - (found.estimate - 0.098)) < 0.02
    assert abs(found.high - (found.estimate + 0.098)) < 0.02
    assert of_mean(np.arange(9.0)) == of_mean(np.arange(9.0))
    # The same return, added up in another order.
    rounded = of_mean(np.array([-1.7000000000000004] * 64 + [-1.7000000000000002] * 136))
    assert rounded.low == rounded.estimate == rounded.high == pytest.approx(-1.7)
    # Wilson 1927, by hand: centre (p + z^2/2n) / (1 + z^2/n).
    share = of_share(10, 10)
    assert share.estimate == share.high == 1.0
    assert share.low == pytest.approx(1 / (1 + 1.959964**2 / 10), abs=1e-6)
    assert Evaluation([]).judged == 0
