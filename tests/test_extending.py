"""The examples of docs/extending.md: all of them together are applied to a copy, and tests that the page names are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
TESTS = ("keystone", "reference", "retention", "tasks")
"""Files of tests that the page changes; new ones it brings along."""
MARKED = re.compile(r"<!-- (\S+): (new|above (\w+):) -->\n```python\n(.*?)```", re.DOTALL)
CHANGED = re.compile(r"```diff\n--- (\S+)\n(.*?)```", re.DOTALL)


def apply(page: str, copy: Path) -> None:
    """New files, classes above a line that begins with a name, and changes, whose context must be there once."""
    for name, where, above, code in MARKED.findall(page):
        path = copy / name
        if where == "new":
            path.write_text(code)
            continue
        text = path.read_text()
        assert text.count(f"\n{above}: ") == 1, (name, above)
        path.write_text(text.replace(f"\n{above}: ", f"\n{code}\n\n{above}: "))
    for name, change in CHANGED.findall(page):
        path = copy / name
        lines = change.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        text = path.read_text()
        assert text.count(before) == 1, f"{name} has {text.count(before)} times:\n{before}"
        path.write_text(text.replace(before, after))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with all examples of the page."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("sabsim", "envs", "agents", "analysis"):
        target = folder / name if name == "sabsim" else folder / "sabsim" / name
        shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    for name in ("conftest", *(f"test_{name}" for name in TESTS)):
        shutil.copy(ROOT / "tests" / f"{name}.py", folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    apply(PAGE.read_text(), folder)
    return folder


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        ("test_keystone.py test_reference.py", "(leaky or near or sigmoid) and (dot or mlp or finite)"),
        ("test_keystone.py test_fading.py test_retention.py", "fading or every_policy"),
        ("test_readout_only.py test_tasks.py", "readout or Hold"),
    ],
)
def test_the_examples_pass_the_tests_of_the_page(copy: Path, files: str, chosen: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", chosen]
    done = subprocess.run(
        [*command, *(f"tests/{name}" for name in files.split())],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(r"\b\d+ passed", done.stdout)
