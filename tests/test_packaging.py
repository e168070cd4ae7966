"""What is installed is what is on the disk, and the pinned environment agrees with the declared bounds."""

from __future__ import annotations

import email
import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "sabsim": "sabsim",
    "envs": "sabsim.envs",
    "agents": "sabsim.agents",
    "analysis": "sabsim.analysis",
}
# What torch depends on differs with the platform and the build (CUDA, CPU): no single machine sees it all.
ACCELERATOR = ("nvidia-", "cuda-", "triton")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    """The parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins() -> dict[str, Version]:
    """constraints.txt as canonical name -> version; anything but ``name==version`` is an error."""
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, version = line.split("==")
            assert name == canonicalize_name(name), f"write {name} as {canonicalize_name(name)}"
            assert name not in pinned, f"{name} is pinned twice"
            pinned[name] = Version(version)
            assert pinned[name].local is None, f"{line} is not a version on PyPI"
    return pinned


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """A wheel built from a copy of the source tree, with the installed setuptools and without a network."""
    source = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def modules_on_disk() -> dict[str, str]:
    """Path inside the installed package -> dotted name of its package, for every .py file that is shipped."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            below = path.relative_to(ROOT / folder)
            dotted = ".".join([package, *below.parts[:-1]])
            found["/".join([*dotted.split("."), path.name])] = dotted
    return found


def metadata_of(archive: zipfile.ZipFile) -> Message:
    """The METADATA file of a wheel."""
    (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(archive.read(name))


def test_the_list_of_packages_equals_the_disk(pyproject: dict[str, Any]) -> None:
    listed = pyproject["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert sorted(listed) == sorted(set(modules_on_disk().values()))


def test_every_package_has_an_init_file() -> None:
    modules = modules_on_disk()
    missing = [p for p in set(modules.values()) if f"{p.replace('.', '/')}/__init__.py" not in modules]
    assert not missing


def test_no_package_is_nested_in_two_folders() -> None:
    """sabsim/envs beside envs/ would give one import name two homes."""
    assert not [f for f in FOLDERS if f != "sabsim" and (ROOT / "sabsim" / f).exists()]


def test_the_wheel_holds_every_module_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    shipped = {n for n in wheel.namelist() if ".dist-info/" not in n}
    native = {f"sabsim/native/{path.name}" for path in (ROOT / "sabsim" / "native").glob("*.[ch]")}
    assert "sabsim/native/learner.h" in native
    page = {f"sabsim/analysis/report/{name}" for name in ("page.html", "page.css", "explorer.js")}
    assert shipped == {*modules_on_disk(), *native, *page, "sabsim/py.typed"}


def test_the_metadata_of_the_wheel(wheel: zipfile.ZipFile, pyproject: dict[str, Any]) -> None:
    project, metadata = pyproject["project"], metadata_of(wheel)
    assert metadata["Name"] == "sabsim"
    assert metadata["Version"] == project["version"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    required = {str(Requirement(r)) for r in metadata.get_all("Requires-Dist") if "extra ==" not in r}
    assert required == {str(Requirement(r)) for r in project["dependencies"]}
    assert metadata.get_payload().strip(), "the README is missing from the description"
    names = [n.split(".dist-info/")[1] for n in wheel.namelist() if ".dist-info/" in n]
    assert "licenses/LICENSE" in names


def test_the_console_script(wheel: zipfile.ZipFile) -> None:
    (name,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    assert wheel.read(name).decode().split() == ["[console_scripts]", "sabsim", "=", "sabsim.cli:main"]


def test_the_pins_satisfy_the_declared_bounds(pyproject: dict[str, Any], pins: dict[str, Version]) -> None:
    project = pyproject["project"]
    for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(line)
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not pinned in constraints.txt"
        assert requirement.specifier.contains(pin), f"{line} excludes the pinned {pin}"


def test_all_that_is_installed_is_pinned(pyproject: dict[str, Any], pins: dict[str, Version]) -> None:
    """Follows the installed requirements from pyproject.toml on; each one met must be in constraints.txt."""
    project = pyproject["project"]
    waiting = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    seen: set[str] = set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if name in seen or name.startswith(ACCELERATOR):
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        seen.add(name)
        waiting += importlib.metadata.requires(name) or []
    assert sorted(seen - pins.keys()) == []


def test_versions_agree(pyproject: dict[str, Any]) -> None:
    version = pyproject["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert importlib.metadata.version("sabsim") == version
