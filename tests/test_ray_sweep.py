"""A sweep on Ray: the figures of the local one, on one node and on two of which one dies; and what is refused."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sabsim.agents import AgentConfig, AgentLearnerOptions, AgentRunOptions, train_agent

from sabsim.errors import ConfigError, RunFolderError
from sabsim.runs import Display, RunConfig, RunOptions
from sabsim.runs.interrupts import Interrupted
from sabsim.runs.ray_sweep import connected, gpus_of, sweep_on_ray
from sabsim.runs.ray_task import Ground, alone, do, locked, unfit, versions
from sabsim.runs.sweep import Planned, SweepDisplay, sweep
from sabsim.tasks import Copying

SMALL = AgentConfig(
    env="sabsim/MemoryChain-v0",
    env_args={"memory_length": 3},
    learner=AgentLearnerOptions(hidden=4, slots=4, k_top=2),
    run=AgentRunOptions(streams=2, steps=40, eval_every=40, eval_episodes=2, final_episodes=2, record_streams=0),
)
TIMED = ("seconds", "steps_per_second", "peak_rss_mb", "made_by")
"""What differs from run to run."""
SECRET = secrets.token_hex(32)


class Noting(Display):
    """Writes what it is told into a file, a line each; half way a run waits until the file ``dead`` is beside it."""

    def __init__(self, to: Display, log: Path, half: int) -> None:
        self._to, self._log, self._half = to, log, half
        self._waited = False

    def due(self) -> bool:
        return True

    def update(self, status: Any) -> None:
        if self._to.due():
            self._to.update(status)
        if status.done >= self._half and not self._waited:
            self._waited = True
            note(self._log, "half")
            until((self._log.parent / "dead").exists)

    def note(self, text: str) -> None:
        note(self._log, text)


def note(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text + "\n")


def counted(config: AgentConfig, *, out: Path, resume: bool, display: Display) -> dict[str, Any]:
    """Trains, and leaves a line in a file beside the runs for every beginning and every end."""
    log = out.parent / "log.txt"
    note(log, f"begun {out.name}")
    there = (out / "summary.json").exists()
    summary = train_agent(config, out=out, resume=resume, display=Noting(display, log, config.run.steps // 2))
    note(log, f"{'read' if there else 'ended'} {out.name}")
    return summary


def figures(summaries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """All that must be the same, wherever a run was done; the folder from which it began is another one."""
    return {
        name: {key: value for key, value in json.loads(json.dumps(summary)).items() if key not in (*TIMED, "run")}
        for name, summary in summaries.items()
    }


def plan_of(out: Path, *, seeds: int, steps: int, threads: int = 1) -> list[Planned]:
    """So many seeds, and a run that begins as the first."""
    config = replace(SMALL, run=replace(SMALL.run, steps=steps, eval_every=steps, checkpoint_every=2_000, threads=threads))
    runs = [
        Planned(name=f"seed {seed}", config=replace(config, run=replace(config.run, seed=seed)), out=out / str(seed))
        for seed in range(seeds)
    ]
    then = replace(config, run=replace(config.run, begin_from=str(runs[0].out)))
    return [Planned(name="then", config=then, out=out / "then", after="seed 0"), *runs]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ray, and what tests pass to its workers by value, as these cannot import a test."""
    # Clusters of tests have a secret of their own; without one Ray would leave it in the user's home.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'sabsim[ray]'")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield ray
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to find a node's processes")
def test_one_of_two_nodes_dies(ray: Any, tmp_path: Path) -> None:
    """At once and with its workers: its runs go on elsewhere, the table is that of this machine, nothing is done twice."""
    from ray.cluster_utils import Cluster

    steps = 8_000
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        doomed = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        out = tmp_path / "ray"
        dead = threading.Thread(target=power_off, args=(doomed, out))
        dead.start()
        runs = plan_of(out, seeds=3, steps=steps)
        display = SweepDisplay(len(runs), quiet=True)
        found = sweep_on_ray(runs, counted, address=cluster.address, display=display)
        dead.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert not found.failures
    here = plan_of(tmp_path / "here", seeds=3, steps=steps)
    there = sweep(here, train_agent, jobs=2, display=SweepDisplay(len(here), quiet=True))
    assert figures(found.summaries) == figures(there.summaries)
    told = (out / "log.txt").read_text().splitlines()
    ended = sorted(line for line in told if line.startswith("ended"))
    assert ended == ["ended 0", "ended 1", "ended 2", "ended then"], told
    assert not any(line.startswith("read") for line in told)
    # A run was begun twice, and the second time it did not begin at its beginning.
    assert sum(line.startswith("begun") for line in told) == 5, told
    assert sum("goes on from" in line for line in told) == 1, told


def power_off(node: Any, out: Path) -> None:
    """Kills a node and its workers once two runs have come half way."""
    until(lambda: (out / "log.txt").exists() and (out / "log.txt").read_text().count("half") == 2)
    raylet = next(info.process.pid for kind, all in node.all_processes.items() if kind == "raylet" for info in all)
    pids = [raylet, *(int(pid) for pid in Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split())]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    (out / "dead").touch()


def until(happened: Any) -> None:
    """Waits, two minutes at most."""
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_a_cluster_of_this_machine(ray: Any, tmp_path: Path) -> None:
    """The figures of the sweep without Ray; failures are told, not tried again; threads that nobody has are refused."""
    broken = Planned(name="broken", config=replace(SMALL, env="sabsim/Nowhere-v0"), out=tmp_path / "ray" / "broken")
    hopeless = Planned(name="hopeless", config=SMALL, out=tmp_path / "ray" / "hopeless", after="broken")
    runs = [*plan_of(tmp_path / "ray", seeds=1, steps=40, threads=2), broken, hopeless]
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "dead").touch()
    with connected("local", 2):
        found = sweep_on_ray(runs, counted, address="local", display=SweepDisplay(len(runs), quiet=True))
        many = plan_of(tmp_path / "many", seeds=1, steps=40, threads=3)
        with pytest.raises(ConfigError, match="threads = 3: no machine of the cluster has more than 2 CPUs"):
            sweep_on_ray(many, counted, address="local", display=SweepDisplay(len(many), quiet=True))
    here = {
        run.name: train_agent(run.config, out=run.out)
        for run in reversed(plan_of(tmp_path / "here", seeds=1, steps=40, threads=2))
    }
    assert figures(found.summaries) == figures(here)
    assert "no environment of this name is registered" in found.failures["broken"]
    assert found.failures["hopeless"] == "waited for broken, which failed"
    told = (tmp_path / "ray" / "log.txt").read_text().splitlines()
    assert sorted(line for line in told if line.startswith(("begun", "ended"))) == [
        *("begun 0", "begun broken", "begun then", "ended 0", "ended then")
    ]
    assert not list(tmp_path.glob("**/.sweep-*"))


def test_what_is_refused_before_ray_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs, display = plan_of(tmp_path, seeds=1, steps=40), SweepDisplay(2, quiet=True)
    if find_spec("ray") is not None:
        with pytest.raises(ConfigError, match="ray = 'somewhere': must be auto, local, HOST:PORT or ray://HOST:PORT"):
            sweep_on_ray(runs, train_agent, address="somewhere", display=display)
        with pytest.raises(ConfigError, match=r"ray = 'ray://127.0.0.1:1': no cluster of Ray there"):
            sweep_on_ray(runs, train_agent, address="ray://127.0.0.1:1", display=display)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"ray: is not installed; pip install 'sabsim\[ray\]'"):
        sweep_on_ray(runs, train_agent, address="auto", display=display)


def test_the_share_of_a_gpu() -> None:
    """By the run's device: what may be on the CPU takes a GPU only if told."""
    shares = {}
    for device in ("cpu", "auto", "cuda"):
        run = RunConfig(task=Copying(T=10), run=RunOptions(device=device))
        planned = Planned(name=device, config=run, out=Path("nowhere"))
        shares[device] = (gpus_of(planned, None), gpus_of(planned, 0.25))
    assert shares == {"cpu": (0, 0), "auto": (0, 0.25), "cuda": (1, 0.25)}
    assert gpus_of(Planned(name="agent", config=SMALL, out=Path("nowhere")), 0.25) == 0


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """What a sweep holds."""
    with (tmp_path / "marker").open("wb") as file:
        file.write(b"token")
        file.flush()
        assert locked(file)
        yield Ground(None, str(tmp_path / "marker"), "token", versions(), {})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"marker": "/nowhere/marker"}, "does not see '/nowhere/marker' (No such file or directory)"),
        ({"token": "other"}, "sees another "),
        ({"versions": ("0", *versions()[1:])}, f"has sabsim {versions()[0]}, not 0; install the same on all nodes"),
    ],
)
def test_a_node_that_is_not_fit_says_why(ground: Ground, changes: dict[str, Any], words: str | None) -> None:
    why = unfit(replace(ground, **changes))
    assert why is None if words is None else words in (why or "")


def test_sources_may_change_while_a_sweep_goes_on(ground: Ground) -> None:
    changed = replace(ground, versions=(versions()[0], "another", versions()[2]))
    assert "has revision " in (unfit(changed) or "")
    assert unfit(changed, begun=True) is None


def test_a_node_that_does_not_see_the_lock_is_not_fit(tmp_path: Path) -> None:
    (tmp_path / "marker").write_text("token")
    why = unfit(Ground(None, str(tmp_path / "marker"), "token", versions(), {}))
    assert "does not see that" in (why or "")


def test_nobody_else_is_in_a_run_folder_meanwhile(tmp_path: Path) -> None:
    with alone(tmp_path / "run"):
        with (
            pytest.raises(RunFolderError, match="another process is writing this run"),
            alone(tmp_path / "run", patience=0),
        ):
            pass
        with alone(tmp_path / "other", patience=0):
            pass
    with alone(tmp_path / "run", patience=0):
        pass


def test_how_a_task_ends(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is a result; a node that is shut down is a death, which Ray makes good; a cancelled run is interrupted."""
    run = Planned(name="run", config=SMALL, out=tmp_path / "run")

    def ending(error: BaseException) -> Any:
        def work(config: Any, **_: Any) -> dict[str, Any]:
            raise error

        return work

    assert do(run, ending(RunFolderError("damaged")), ground, None) == (None, "damaged")
    assert do(run, ending(RunFolderError("damaged")), replace(ground, token=""), None)[1].startswith("a node sees another")
    with pytest.raises(Interrupted):
        do(run, ending(Interrupted("saved", signal.SIGINT)), ground, None)

    def die(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", die)
    with pytest.raises(SystemExit, match="143"):
        do(run, ending(Interrupted("saved", signal.SIGTERM)), ground, None)
