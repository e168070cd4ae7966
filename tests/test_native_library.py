"""Where the native library cannot be compiled, loaded or kept, and torch computes instead."""

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sabsim import SAB, SGD, ConfigError, Network, StreamingLearner
from sabsim.native import compiler, library_or_none
from sabsim.retention import Novelty

compiled = pytest.mark.skipif(library_or_none(torch.float64) is None, reason="no C compiler here")


def learner(backend: str) -> StreamingLearner:
    network = Network(d_in=5, d_out=4, hidden=19)
    rule, kept = SAB(k_top=3), Novelty(slots=7)
    return StreamingLearner(network, credit=rule, retention=kept, optimizer=SGD(), backend=backend, streams=3)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process that has compiled nothing yet, with an empty cache and no compiler; its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiler, "_load", compiler._load.__wrapped__)
    compiler._say_once.cache_clear()
    return folder


def test_without_a_compiler_torch_computes_and_one_line_says_so(no_library: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sabsim"):
        for _ in range(3):
            left_to_torch = learner("auto")
            for _ in range(10):
                left_to_torch.learn(left_to_torch.step(torch.ones(3, 5)))
            assert left_to_torch.backend == "torch"
    assert [record.getMessage() for record in caplog.records] == [
        "the native kernel is not used, torch computes instead (several times slower): "
        "no C compiler (cc, gcc or clang) was found"
    ]
    with pytest.raises(ConfigError, match=r"backend = 'native' cannot be compiled: no C compiler"):
        learner("native")


def test_a_compiler_that_refuses_is_quoted(no_library: Path, caplog: pytest.LogCaptureFixture) -> None:
    compiler = no_library / "cc"
    script = ["#!/bin/sh", '[ "$1" = --version ] && exit 0', "echo 'x.c:1: error: bad day' >&2", "exit 1", ""]
    compiler.write_text("\n".join(script))
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    with caplog.at_level(logging.WARNING, logger="sabsim"):
        assert learner("auto").backend == "torch"
    (record,) = caplog.records
    assert "refused: x.c:1: error: bad day" in record.getMessage()


@compiled
def test_processes_that_compile_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    program = "import torch; from sabsim.native import load_library; load_library(torch.float32)"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    running = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(3)]
    assert [process.wait(timeout=300) for process in running] == [0, 0, 0]
    (left,) = (tmp_path / "sabsim" / "native").iterdir()
    assert left.name.endswith(f"-{compiler.instruction_set()}.so")


@compiled
@pytest.mark.parametrize("fault", ["damaged", "unwritable"])
def test_a_cache_that_does_not_serve_is_done_without(fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(cache: Path) -> object:
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        return compiler._load.__wrapped__(torch.float32, "baseline", os.environ.get("CC"), os.environ["PATH"])

    load(tmp_path / "good")
    (made,) = (tmp_path / "good" / "sabsim" / "native").iterdir()
    other = tmp_path / "bad"
    if fault == "unwritable":
        other.write_text("a file where a folder should be")
    else:
        folder = other / "sabsim" / "native"
        folder.mkdir(parents=True)
        (folder / made.name).write_bytes(b"half a library")
    assert load(other) is not None
    assert not list(other.glob("**/*.so")), "a damaged library stays for the next process"


@pytest.mark.parametrize("wanted", ["avx1024", "AVX2"])
def test_an_unknown_instruction_set_is_refused(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiler.FORCE, wanted)
    with pytest.raises(ConfigError, match=f"{compiler.FORCE} = '{wanted}': this machine has baseline"):
        compiler.instruction_set()
