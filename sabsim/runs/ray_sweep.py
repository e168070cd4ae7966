"""A sweep beyond one machine: the same runs as tasks of Ray, each from its own folder's last checkpoint.

Ray places the tasks and begins one again, elsewhere, whose worker or node died; here they are only described. The run
folders must lie on a file system that all nodes share, which is looked at before anything runs.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sabsim.errors import ConfigError, SabsimError, StorageError
from sabsim.runs.machine import git_revision
from sabsim.runs.ray_task import Board, Ground, do, locked, unfit, versions
from sabsim.runs.sweep import Planned, SweepDisplay, Swept, Work, check, follow

RETRIES = 10
"""How often Ray begins a run again whose worker or node died; each time from the run's last checkpoint."""
_STORE = 80 * 2**20
"""Bytes of the object store of a cluster begun here, nearly the least that Ray takes: summaries are small."""
_ANSWER = 120.0
"""Seconds that a node has to tell what it sees; the first time, it starts a process and loads torch."""
_FAREWELL = 300.0
"""Seconds that runs have to save their checkpoints when the sweep is stopped."""


def sweep_on_ray(
    runs: Sequence[Planned],
    work: Work,
    *,
    address: str,
    display: SweepDisplay,
    jobs: int = 1,
    gpus: float | None = None,
) -> Swept:
    """Does all runs on a cluster of Ray, one task each, a CPU for every thread; one that fails does not stop the others.

    Arguments:
        address: 'auto' for the cluster this machine is part of, HOST:PORT for one of several, ray://HOST:PORT for one it
            is not part of, 'local' for a cluster of this machine alone, which ends with the sweep
        jobs: runs at once, with 'local'; elsewhere the cluster's CPUs decide
        gpus: share of a GPU for each run whose device is not 'cpu'; by default 1 where it is 'cuda', else none

    Raises:
        ConfigError: no Ray, no cluster, a node that is not fit, GPUs or CPUs too few, or a plan as `sweep` refuses it
        KeyboardInterrupt: asked to stop; each run at work has saved a checkpoint
    """
    check(runs)
    if jobs < 1:
        raise ConfigError(f"jobs = {jobs}: must be at least 1")
    if gpus is not None and not 0 < gpus <= 1:
        raise ConfigError(f"gpus = {gpus}: must be above 0 and at most 1, the share of a GPU that a run takes")
    if not runs:
        return Swept()
    threads = max(threads_of(run) for run in runs)
    with connected(address, jobs * threads) as ray, _common(runs) as ground:
        most = max(gpus_of(run, gpus) for run in runs)
        if most > ray.cluster_resources().get("GPU", 0):
            raise ConfigError(f"gpus = {most:g}: the cluster has no GPU; leave it out, or give --ray another cluster")
        if threads > (widest := max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])):
            raise ConfigError(f"threads = {threads}: no machine of the cluster has more than {widest:g} CPUs")
        _look_at_nodes(ray, ground)
        hands = _Cluster(ray, work, ground, _board(ray), gpus)
        try:
            return follow(runs, hands, display)
        finally:
            hands.stop()


def gpus_of(run: Planned, gpus: float | None) -> float:
    """The share of a GPU that a run takes."""
    device = getattr(run.config.run, "device", "cpu")
    if device == "cpu":
        return 0.0
    return gpus or (1.0 if device == "cuda" else 0.0)


def threads_of(run: Planned) -> int:
    """The CPUs that a run takes."""
    threads: int = getattr(run.config.run, "threads", 1)
    return threads


def _ray() -> Any:
    # Ray counts its users by default; a sweep tells nobody that it runs. Read when Ray starts a cluster.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("ray: is not installed; pip install 'sabsim[ray]'") from error
    return ray


@contextmanager
def connected(address: str, cpus: int) -> Iterator[Any]:
    """Joins the cluster of `address` for as long as it is needed, for one sweep or several; gives the module of Ray.

    `cpus`: of a cluster that is begun for it ('local'). One that this process has joined already is used, and kept. Raises
    ConfigError: no Ray, or no cluster.
    """
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _STORE}
    else:
        _require_answer(address)
    try:
        ray.init(address=address, **options)
    except ImportError as error:
        raise ConfigError(f"ray = {address!r}: needs more of Ray ({error}); pip install 'sabsim[ray]'") from error
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(f"ray = {address!r}: {_FORMS} ({_first_line(error)})") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raises ConfigError: nobody listens at HOST:PORT. Ray itself would go on trying for minutes."""
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not host or not colon or not port.isdigit():
        raise ConfigError(f"ray = {address!r}: must be auto, local, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"ray = {address!r}: {_FORMS} ({error})") from error


_FORMS = "no cluster of Ray there; give auto, local, HOST:PORT or ray://HOST:PORT, after 'ray start' on its machines"


@contextmanager
def _common(runs: Sequence[Planned]) -> Iterator[Ground]:
    """What the nodes are to see, for as long as they are: a locked file where the runs are kept."""
    root = Path(os.path.commonpath([run.out.parent for run in runs]))
    token = secrets.token_hex(16)
    marker = root / f".sweep-{token[:8]}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with open(marker, "wb") as file:
            file.write(token.encode())
            file.flush()
            os.fsync(file.fileno())
            if not locked(file):
                raise StorageError(f"'{marker}': is locked by another process; try again")
            absolute = all(run.out.is_absolute() for run in runs)
            environment = {name: value for name, value in os.environ.items() if name.startswith("SABSIM_")}
            yield Ground(None if absolute else str(Path.cwd()), str(marker), token, versions(), environment)
    except OSError as error:
        if isinstance(error, SabsimError):
            raise
        raise StorageError(f"'{marker}': {error.strerror or error}; give another --out") from error
    finally:
        with suppress(OSError):
            marker.unlink(missing_ok=True)


def _look_at_nodes(ray: Any, ground: Ground) -> None:
    """Raises ConfigError: a node that could be given a run is not fit for it."""
    look = ray.remote(num_cpus=0, max_retries=0)(unfit)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    # Of a command's several sweeps, the sources may have been edited since the first.
    edited = git_revision() != ground.versions[1]
    asked = [
        (node, look.options(scheduling_strategy=_on(ray, node["NodeID"])).remote(ground, begun=edited)) for node in nodes
    ]
    for node, answer in asked:
        try:
            why = ray.get(answer, timeout=_ANSWER)
        except (ray.exceptions.RayError, ImportError) as error:
            why = f"cannot run sabsim ({_last_line(error)}); install the same sabsim on all nodes"
        if why is not None:
            raise ConfigError(f"ray: node {node['NodeManagerAddress']} {why}")


def _board(ray: Any) -> Any:
    """The board, where the sweep itself is: whatever node dies, it stays."""
    here = _on(ray, ray.get_runtime_context().get_node_id())
    return ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()


def _on(ray: Any, node: str) -> Any:
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=node, soft=False)


@dataclass(frozen=True)
class _Cluster:
    """Tasks of Ray."""

    ray: Any
    work: Work
    ground: Ground
    board: Any
    gpus: float | None
    open: dict[Future[Any], Any] = field(default_factory=dict)

    def submit(self, run: Planned) -> Future[Any]:
        needs = {"num_cpus": threads_of(run), "num_gpus": gpus_of(run, self.gpus)}
        task = self.ray.remote(**needs, max_retries=RETRIES)(do)
        reference = task.options(name=run.name).remote(run, self.work, self.ground, self.board)
        future: Future[Any] = reference.future()
        self.open[future] = reference
        return future

    def result(self, future: Future[Any]) -> dict[str, Any]:
        del self.open[future]
        try:
            summary, why = future.result()
        except self.ray.exceptions.RayTaskError:
            raise
        except self.ray.exceptions.RayError as error:
            raise SabsimError(f"Ray gave it up after {RETRIES} retries ({_first_line(error)})") from error
        if summary is None:
            raise SabsimError(why)
        found: dict[str, Any] = summary
        return found

    def listen(self, display: SweepDisplay) -> None:
        # Without a board, bars stand still; the runs do not.
        with suppress(self.ray.exceptions.RayError):
            for name, news in self.ray.get(self.board.read.remote()).items():
                display.update(name, *news)

    def stop(self) -> None:
        """Asks what is still at work to save a checkpoint and end, and drops what has not begun."""
        left = list(self.open.values())
        for reference in left:
            self.ray.cancel(reference)
        if left:
            self.ray.wait(left, num_returns=len(left), timeout=_FAREWELL)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")


def _last_line(error: BaseException) -> str:
    return str(error).strip().rsplit("\n", 1)[-1].rstrip(".")
