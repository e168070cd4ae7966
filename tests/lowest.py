"""Prints the lower bounds of pyproject.toml as exact versions, one a line: what ``make lowest`` installs.

Of the development tools only those count here that the tests import; they have no exact version, the newest will do.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

TOOLS = (
    "pytest",
    "pytest-xdist",
    "hypothesis",
    "build",
    "setuptools",
    "stable-baselines3",
    "selenium",
    "nwbinspector",
    "pynapple",
)


def lowest(pyproject: dict[str, Any]) -> Iterator[str]:
    """``name==bound`` for each dependency of sabsim and of its extras, those of ``dev`` alone left out."""
    project = pyproject["project"]
    extras = (line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines)
    for line in (*project["dependencies"], *extras):
        wanted = Requirement(line)
        (bound,) = wanted.specifier
        yield f"{line.split('>=')[0]}=={bound.version}"


if __name__ == "__main__":
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    print(*lowest(tomllib.loads(text)), *TOOLS, sep="\n")
