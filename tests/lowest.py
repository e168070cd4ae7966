"""Prints the dependencies at their lower bounds, and the development tools as they come, for ``make lowest``."""

from __future__ import annotations

import tomllib
from itertools import chain
from pathlib import Path
from typing import Any


def lowest(pyproject: dict[str, Any]) -> list[str]:
    """``name==bound`` for what sabsim and its extras depend on, then the lines of the extra ``dev``."""
    project = pyproject["project"]
    extras = dict(project["optional-dependencies"])
    tools = extras.pop("dev")
    return [line.replace(">=", "==") for line in chain(project["dependencies"], *extras.values())] + tools


if __name__ == "__main__":
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    print(*lowest(tomllib.loads(text)), sep="\n")
