"""A sweep: runs in processes of their own, one after another they wait for, failures told, nothing done twice."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sabsim.agents import AgentConfig, AgentLearnerOptions, AgentRunOptions
from sabsim.agents.ambrose import work

import sabsim.runs.sweep as sweep_module
from sabsim.errors import ConfigError, SabsimError, TimeUpError
from sabsim.runs.sweep import Planned, SweepDisplay, follow, sweep

SMALL = AgentConfig(
    env="sabsim/MemoryChain-v0",
    env_args={"memory_length": 3},
    learner=AgentLearnerOptions(hidden=4, slots=4, k_top=2),
    run=AgentRunOptions(streams=2, steps=40, eval_every=40, eval_episodes=2, final_episodes=2, record_streams=0),
)


def test_runs_wait_for_others_and_failures_are_told(tmp_path: Path) -> None:
    first = Planned(name="first", config=SMALL, out=tmp_path / "first")
    then = replace(SMALL, run=replace(SMALL.run, begin_from=str(first.out), seed=1))
    runs = [
        Planned(name="second", config=then, out=tmp_path / "second", after="first"),
        first,
        Planned(name="broken", config=replace(SMALL, env="sabsim/Nowhere-v0"), out=tmp_path / "broken"),
        Planned(name="hopeless", config=SMALL, out=tmp_path / "hopeless", after="broken"),
    ]
    told = io.StringIO()
    with redirect_stderr(told):
        found = sweep(runs, work, jobs=2, display=SweepDisplay(len(runs)))
    assert found.summaries.keys() == {"first", "second"}
    assert "no environment of this name is registered" in found.failures["broken"]
    assert found.failures["hopeless"] == "waited for broken, which failed"
    assert found.summaries["second"] == json.loads((tmp_path / "second" / "summary.json").read_text())
    lines = told.getvalue().splitlines()
    assert len(lines) == 4
    assert any(line.startswith("4/4 ") for line in lines)
    # Again: finished runs are read, not run.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoint.safetensors")}
    again = sweep([runs[1], runs[0]], work, jobs=1, display=SweepDisplay(2, quiet=True))
    assert again.summaries == found.summaries
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoint.safetensors")} == before


class Here:
    """Does runs at once in this process: seed 1 finds no memory, seed 2 no time, and seed 9 takes the pool with it."""

    def submit(self, run: Planned) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        seed = run.config.run.seed
        errors = {
            1: RuntimeError("[enforce fail at alloc_cpu.cpp] not enough memory\nbacktrace"),
            2: TimeUpError("time is up at 0 steps"),
            9: BrokenProcessPool("gone"),
        }
        if seed in errors:
            future.set_exception(errors[seed])
        else:
            future.set_result({"seconds": 1.0})
        return future

    def result(self, future: Future[dict[str, Any]]) -> dict[str, Any]:
        return future.result()

    def listen(self, display: SweepDisplay) -> None:
        """They have told nothing."""


def test_an_unforeseen_error_of_one_run_does_not_stop_the_others(tmp_path: Path) -> None:
    def planned(seed: int) -> Planned:
        return Planned(name=str(seed), config=replace(SMALL, run=replace(SMALL.run, seed=seed)), out=tmp_path / str(seed))

    runs = [*map(planned, range(4)), replace(planned(0), name="later", after="2")]
    found = follow(runs, Here(), SweepDisplay(len(runs), quiet=True))
    assert found.summaries.keys() == {"0", "3"}
    assert found.failures == {"1": "RuntimeError: [enforce fail at alloc_cpu.cpp] not enough memory"}
    assert found.paused == {"2": "time is up at 0 steps", "later": "waited for 2, which is not finished"}
    with pytest.raises(BrokenProcessPool):
        follow([planned(9)], Here(), SweepDisplay(1, quiet=True))


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to find the sweep's process")
def test_a_killed_sweep_leaves_a_checkpoint_and_no_process(tmp_path: Path) -> None:
    """Killed at once, without a chance to tell its processes."""
    script = tmp_path / "begin.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from sabsim.agents import AgentConfig, AgentLearnerOptions, AgentOptimizerOptions\n"
        "from sabsim.agents import AgentRunOptions, SignalOptions\n"
        "from sabsim.agents.ambrose import work\n"
        "from sabsim.runs.sweep import Planned, SweepDisplay, follow, sweep\n"
        f"CONFIG = {replace(SMALL, run=replace(SMALL.run, steps=10_000_000, eval_every=10_000_000))!r}\n"
        "if __name__ == '__main__':\n"
        "    runs = [Planned(name=n, config=CONFIG, out=Path(sys.argv[1]) / n) for n in ('a', 'b')]\n"
        "    sweep(runs, work, jobs=1, display=SweepDisplay(2, quiet=True))\n"
    )
    sweeping = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    until(lambda: (tmp_path / "a" / "checkpoint.safetensors").exists())
    (worker,) = (child for child in children(sweeping.pid) if "spawn_main" in command_of(child))
    before = (tmp_path / "a" / "checkpoint.safetensors").stat().st_mtime_ns
    sweeping.kill()
    sweeping.wait()
    until(lambda: not Path(f"/proc/{worker}").exists())
    assert (tmp_path / "a" / "checkpoint.safetensors").stat().st_mtime_ns > before
    assert not (tmp_path / "b").exists()


def test_what_is_queued_is_not_begun_when_the_sweep_is_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may take up the next run before it hears that it is to end."""
    halt = threading.Event()
    monkeypatch.setattr(sweep_module, "_HALT", halt)
    begun: list[Path] = []

    def begin(config: Any, *, out: Path, resume: bool, display: Any) -> dict[str, Any]:
        begun.append(out)
        return {}

    run = Planned(name="b", config=SMALL, out=tmp_path / "b")
    assert sweep_module._run(run, begin) == {}
    halt.set()
    with pytest.raises(SabsimError, match="interrupted"):
        sweep_module._run(run, begin)
    assert begun == [run.out]


def until(happened: Callable[[], bool]) -> None:
    """Waits, a minute at most."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """The processes that a process has begun."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> str:
    """Its command line."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


@pytest.mark.parametrize(
    ("names", "after", "jobs", "words"),
    [
        (("a", "a"), None, 1, "two runs of a sweep have the same name"),
        (("a", "b"), "c", 1, "run 'b' waits for 'c', which is no run of the sweep"),
        (("a", "b"), None, 0, "jobs = 0: must be at least 1"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(names: tuple[str, str], after: str | None, jobs: int, words: str) -> None:
    one, other = names
    runs = [
        Planned(name=one, config=SMALL, out=Path("nowhere")),
        Planned(name=other, config=SMALL, out=Path("nowhere"), after=after),
    ]
    with pytest.raises(ConfigError, match=words):
        sweep(runs, work, jobs=jobs, display=SweepDisplay(2, quiet=True))
    assert not Path("nowhere").exists()
