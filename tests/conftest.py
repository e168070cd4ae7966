"""What several test files need: a death at a chosen moment, the line that a mistake gets, data, a page as it is read."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sabsim.agents import summary as agents_summary

from sabsim.cli import main
from sabsim.data import DATA_SETS, DataFile, DataSet, Version
from sabsim.data.images import read_images
from sabsim.data.text import read_text
from sabsim.native import compiler
from sabsim.runs import Display, RunFolder, load_checkpoint, read_rows
from sabsim.runs import summary as runs_summary
from sabsim.runs.folder import read_json

_REAL_DATA = os.environ.get("SABSIM_DATA")
"""Before any test changes it."""


class Killed(BaseException):
    """Stands for a kill: nothing may catch it and tidy up."""


@pytest.fixture
def killed_at() -> Callable[[Any, str, int], AbstractContextManager[None]]:
    """`with killed_at(owner, name, calls)`: call number `calls` of that function dies before it does anything."""

    @contextmanager
    def killed_at(owner: Any, name: str, calls: int) -> Iterator[None]:
        original, count = getattr(owner, name), iter(range(1, 1_000_000))

        def dying(*arguments: Any, **options: Any) -> Any:
            if next(count) == calls:
                raise Killed
            return original(*arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, dying)
            with pytest.raises(Killed):
                yield

    return killed_at


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The native backend uses this instruction set; each of those that the machine has in turn."""
    names, name = list(compiler.INSTRUCTION_SETS), request.param
    if names.index(name) > names.index(compiler.instruction_set()):
        pytest.skip(f"this machine has no {name}")
    monkeypatch.setenv(compiler.FORCE, name)
    return name


@pytest.fixture
def generators_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no device there is no generator for it either: whatever one is asked for, it is the host's."""

    class HostGenerator(torch.Generator):
        def __new__(cls, device: Any = None) -> HostGenerator:
            return super().__new__(cls)

    monkeypatch.setattr(torch, "Generator", HostGenerator)


@pytest.fixture
def killed_twice() -> Callable[[str, Path, float], None]:
    """`killed_twice(arguments, folder, seconds)`: a run in a process of its own dies, goes on and dies again.

    SIGKILL comes at random within so many seconds after there is a checkpoint.
    """

    def killed_twice(arguments: str, folder: Path, seconds: float) -> None:
        command = [sys.executable, "-m", "sabsim", *arguments.split(), "--quiet", "--resume", "--out", str(folder)]
        for _ in range(2):
            process = subprocess.Popen(command)
            while process.poll() is None and not (folder / "checkpoint.safetensors").exists():
                time.sleep(0.01)
            time.sleep(random.uniform(0, seconds))
            process.send_signal(signal.SIGKILL)
            process.wait()

    return killed_twice


TABLES = ("events", "steps", "episodes", "metrics", "hidden")
TIMED = {"training_seconds", *runs_summary.TIMED, *agents_summary.TIMED}


def same_run(one: Path, other: Path, *, empty: Collection[str] = ()) -> None:
    """Two run folders hold the same tables, checkpoint and summary, but for what the clock decides.

    ``empty``: the tables in which there is nothing to compare. All others must have rows.
    """
    for table in TABLES:
        if table == "hidden" and table in empty:
            continue  # it is not even there
        query = f"SELECT * FROM {table} ORDER BY id"
        rows = read_rows(one / "run.sqlite", query)
        assert bool(rows) == (table not in empty), table
        assert rows == read_rows(other / "run.sqlite", query), table
    mine, theirs = (load_checkpoint(RunFolder(path)) for path in (one, other))
    assert mine.states.keys() == theirs.states.keys()
    for part, state in mine.states.items():
        assert state.keys() == theirs.states[part].keys(), part
        for name, value in state.items():
            again = theirs.states[part][name]
            if isinstance(value, torch.Tensor):
                assert isinstance(again, torch.Tensor)
                assert torch.equal(value, again), (part, name)
            else:
                assert value == again, (part, name)
    summaries = [read_json(path / "summary.json") for path in (one, other)]
    for numbers in ([mine.numbers, theirs.numbers], summaries):
        first, second = ({key: value for key, value in some.items() if key not in TIMED} for some in numbers)
        assert first
        assert first == second


@pytest.fixture(name="same_run")
def _same_run() -> Callable[..., None]:
    """`same_run(one, other, empty=())`: the two folders may differ in nothing but time."""
    return same_run


class Notes(Display):
    """Keeps what the user is told, in ``said``."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def notes() -> Notes:
    """A display that keeps what the user is told."""
    return Notes()


@pytest.fixture
def waiting_is_an_error() -> Callable[[], AbstractContextManager[None]]:
    """`with waiting_is_an_error():` what makes the host wait for the CUDA device raises RuntimeError."""

    @contextmanager
    def waiting_is_an_error() -> Iterator[None]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "a prototype feature": as an error it would leave the mode switched on
                torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return waiting_is_an_error


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that a mistake gets."""

    def mistake(*arguments: str) -> str:
        assert main(arguments) == 2
        shown = capsys.readouterr()
        assert shown.err.count("\n") == 1, shown.err
        assert shown.err.startswith("sabsim: ")
        return shown.err.removeprefix("sabsim: ").rstrip("\n")

    return mistake


@pytest.fixture
def real_data() -> str:
    """The folder of real data sets; tests that need it are skipped where there is none."""
    if not _REAL_DATA:
        pytest.skip("needs real data: set SABSIM_DATA to a folder that holds ptb, text8 and mnist")
    return _REAL_DATA


def data_file(name: str, content: bytes, *mirrors: str, algorithm: str = "sha256") -> DataFile:
    """What the catalogue knows of a file of this content."""
    return DataFile(name, len(content), f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}", mirrors)


@pytest.fixture(name="data_file")
def _data_file() -> Callable[..., DataFile]:
    return data_file


@pytest.fixture
def put() -> Callable[[Path, dict[str, bytes]], Path]:
    """`put(folder, contents)` writes the files into `folder` and returns the folder above."""

    def put(folder: Path, contents: dict[str, bytes]) -> Path:
        folder.mkdir(parents=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return folder.parent

    return put


@pytest.fixture
def no_data_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Neither SABSIM_DATA nor the user's cache decides anything, nor what an earlier test has read."""
    monkeypatch.delenv("SABSIM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for cached in (read_text, read_images):
        cached.cache_clear()
    yield
    for cached in (read_text, read_images):
        cached.cache_clear()


@pytest.fixture
def small_ptb(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Contents of a Penn Treebank of a few lines; the catalogue knows it in place of the real one."""
    lines = " the cat sat \n on the mat \n"
    contents = {f"ptb.{part}.txt": f" {part} \n{lines}".encode() for part in ("train", "valid", "test")}
    files = tuple(data_file(name, content) for name, content in contents.items())
    monkeypatch.setitem(DATA_SETS, "ptb", DataSet("ptb", "small", (Version("ptb", files),)))
    return contents


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder with an MNIST of 36 and 20 images of 4x3 pixels, which the catalogue knows, and its arrays by file."""
    rng = np.random.default_rng(1)
    arrays, files = {}, []
    folder = tmp_path / "small" / "mnist"
    folder.mkdir(parents=True)
    for file in DATA_SETS["mnist"].versions[0].files:
        count = 36 if file.name.startswith("train") else 20
        shape, most = ((count, 4, 3), 256) if "images" in file.name else ((count,), 10)
        array = arrays[file.name] = rng.integers(0, most, shape, dtype=np.uint8)
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *shape)
        content = gzip.compress(header + array.tobytes())
        (folder / file.name).write_bytes(content)
        files.append(data_file(file.name, content))
    monkeypatch.setitem(DATA_SETS, "mnist", DataSet("mnist", "small", (Version("mnist", tuple(files)),)))
    return folder.parent, arrays


class Page(HTMLParser):
    """What a page loads, its scripts and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._inside.append(tag)
            self.scripts += [""] if tag == "script" else []
        self.loads += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action", "poster")
        ]

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1:] = [self.scripts[-1] + data] if self._inside[-1] == "script" else self.scripts[-1:]
        else:
            self.text += data + " "

    @property
    def explored(self) -> dict[str, Any]:
        """The explorer's data."""
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found


@pytest.fixture
def read_page() -> Callable[[Path], Page]:
    """Reads a page of HTML."""
    return Page


WORDS = "the cat sat on the mat and saw a rat that ate the oats "


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 2,000 characters: 1,800 to train with, 100 and 100."""
    path = tmp_path_factory.mktemp("text") / "story.txt"
    rng = np.random.default_rng(0)
    path.write_text(" ".join(rng.choice(WORDS.split(), 800).tolist())[:2000])
    return path
