"""What made a run: versions, source revision, machine; and how much memory this process holds."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

import sabsim

UNKNOWN = "unknown"


def made_by() -> dict[str, str]:
    """Versions, git revision, machine and date (UTC), for `config.json`."""
    return {
        "sabsim": sabsim_version(),
        "git": git_revision(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "date": utc_now(),
    }


def utc_now() -> str:
    """The date and time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def sabsim_version() -> str:
    """The installed version."""
    try:
        return version("sabsim")
    except PackageNotFoundError:
        return UNKNOWN


def git_revision() -> str:
    """Revision of the source tree sabsim was imported from, with `-dirty` if changed; unknown without git."""
    source = Path(sabsim.__file__).resolve()
    try:
        # An installed copy may lie inside another project's tree: only a tracked file has a revision.
        _git(source, "ls-files", "--error-unmatch", source.name)
        dirty = _git(source, "status", "--porcelain", "--untracked-files=no")
        return _git(source, "rev-parse", "HEAD") + ("-dirty" if dirty else "")
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN


def _git(source: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=source.parent, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def cpu_model() -> str:
    """Name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or UNKNOWN


def peak_rss_mb() -> float:
    """Most resident memory this process has held, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def rss_mb() -> float:
    """Resident memory now, in MB; the peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return peak_rss_mb()
    return pages * resource.getpagesize() / 1e6
