"""Where the runs of a sweep are done: here, some at a time, or on a cluster of Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

from tyro.conf import arg

from sabsim.errors import ConfigError

if TYPE_CHECKING:
    from sabsim.runs.sweep import Planned, Swept, Work

Ray = Annotated[str | None, arg(metavar="ADDRESS", help_behavior_hint="(default: this machine, without Ray)")]
"""The option --ray."""
Gpus = Annotated[float | None, arg(metavar="SHARE", help_behavior_hint="(default: none)")]
"""The option --gpus."""


class Where(Protocol):
    """The options that say it."""

    @property
    def jobs(self) -> int:
        """Runs at once on this machine."""

    @property
    def ray(self) -> str | None:
        """Address of a cluster of Ray."""

    @property
    def quiet(self) -> bool:
        """Whether nothing is shown."""


def require_share(gpus: float | None, ray: str | None) -> None:
    """Raises ConfigError: for `gpus` out of range or without `ray`."""
    if gpus is None:
        return
    if ray is None:
        raise ConfigError(f"gpus = {gpus}: only for --ray")
    if not 0 < gpus <= 1:
        raise ConfigError(f"gpus = {gpus}: must be above 0 and at most 1, the share of a GPU that a run takes")


@contextmanager
def joined(where: Where, *, threads: int = 1) -> Iterator[None]:
    """Keeps the cluster, if there is to be one, for all sweeps inside, whose runs have so many threads.

    Raises:
        ConfigError: no Ray, or no cluster
    """
    if where.ray is None:
        yield
        return
    from sabsim.runs.ray_sweep import connected

    with connected(where.ray, where.jobs * threads):
        yield


def do_all(runs: Sequence[Planned], work: Work, where: Where, *, gpus: float | None = None) -> Swept:
    """Does the runs of a sweep and shows how far they are; `gpus`: the share of one that each takes on Ray.

    Raises:
        SabsimError: the plan, the machine or the cluster is not fit
        KeyboardInterrupt: asked to stop; each run at work has saved a checkpoint
    """
    from sabsim.runs.sweep import SweepDisplay, sweep

    display = SweepDisplay(len(runs), quiet=where.quiet)
    if where.ray is None:
        return sweep(runs, work, jobs=where.jobs, display=display)
    from sabsim.runs.ray_sweep import sweep_on_ray

    return sweep_on_ray(runs, work, address=where.ray, jobs=where.jobs, gpus=gpus, display=display)
