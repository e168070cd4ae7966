"""Compiles the C files at first use and keeps the result in the user's cache.

One library serves one number type and one instruction set; which set is chosen when it is loaded, by what torch finds
this processor can do, and the compiler is told that set and not "whatever this machine has": a cache shared between
machines holds several libraries side by side.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from ..errors import ConfigError

FORCE = "SABSIM_NATIVE_ISA"
"""Environment variable that chooses a smaller instruction set than the machine's: baseline, avx2 or avx512."""

_FLAGS = ["-O3", "-std=gnu11", "-shared", "-fPIC", "-pthread"]
_FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
_QUIET = ["-Wno-psabi", "-Wno-unknown-pragmas"]
INSTRUCTION_SETS: dict[str, list[str]] = {
    "baseline": ["-DVECTOR_BYTES=16", "-DMR=4", "-DNV=3"],
    "avx2": ["-DVECTOR_BYTES=32", "-DMR=4", "-DNV=3", "-mavx2", "-mfma"],
    "avx512": ["-DVECTOR_BYTES=64", "-DMR=8", "-DNV=3", "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma"],
}
"""Compiler flags of the instruction sets, from the least to the greatest, with the register tile that suits each."""
_TYPES = {torch.float32: ["-DREAL=float", "-DWIDE=0"], torch.float64: ["-DREAL=double", "-DWIDE=1"]}
_SOURCE = Path(__file__).parent
_log = logging.getLogger("sabsim")


class CannotCompile(Exception):
    """No compiler, or one that refuses; the message is one line."""


def instruction_set() -> str:
    """The greatest instruction set of this machine, or the lesser one that ``SABSIM_NATIVE_ISA`` asks for.

    Raises ConfigError: for a name that is unknown, or a set this machine does not have.
    """
    found = {"AVX512": "avx512", "AVX2": "avx2"}.get(torch.backends.cpu.get_cpu_capability(), "baseline")
    wanted = os.environ.get(FORCE) or found
    names = list(INSTRUCTION_SETS)
    if wanted not in names or names.index(wanted) > names.index(found):
        allowed = ", ".join(names[: names.index(found) + 1])
        raise ConfigError(f"{FORCE} = {wanted!r}: this machine has {allowed}")
    return wanted


def load_library(dtype: torch.dtype) -> ctypes.CDLL:
    """The library for numbers of ``dtype``. Raises CannotCompile."""
    return _load(dtype, instruction_set(), os.environ.get("CC"), os.environ.get("PATH"))


def library_or_none(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The library; None, with one logged line in the life of a process, where it cannot be had."""
    try:
        return load_library(dtype)
    except CannotCompile as error:
        _say_once(str(error))
        return None


@cache
def _say_once(reason: str) -> None:
    _log.warning("the native kernel is not used, torch computes instead (several times slower): %s", reason)


@cache
def _load(dtype: torch.dtype, isa: str, cc: str | None, path: str | None) -> ctypes.CDLL:
    """Compiles unless the cache has it. ``cc``, ``path``: the environment that decides which compiler is found."""
    compiler = cc or shutil.which("cc", path=path) or shutil.which("gcc", path=path) or shutil.which("clang", path=path)
    if not compiler:
        raise CannotCompile("no C compiler (cc, gcc or clang) was found")
    flags = [*_FLAGS, *_QUIET, *_TYPES[dtype], *INSTRUCTION_SETS[isa]]
    sources = sorted([*_SOURCE.glob("*.c"), *_SOURCE.glob("*.h")])
    digest = hashlib.sha256(" ".join([compiler, _version(compiler), *flags]).encode())
    for source in sources:
        digest.update(source.name.encode() + source.read_bytes())
    name = f"{digest.hexdigest()[:24]}-{isa}.so"
    try:
        return _compiled(compiler, flags, _cache_folder() / name)
    except OSError as error:
        _log.debug("no library in the cache: %s", error)
    # A cache that cannot be written, or holds a damaged file: this process compiles for itself.
    try:
        with tempfile.TemporaryDirectory(prefix="sabsim-") as folder:
            return _compiled(compiler, flags, Path(folder) / name)
    except OSError as error:
        raise CannotCompile(f"the library could not be written or loaded: {error}") from error


def _compiled(compiler: str, flags: list[str], target: Path) -> ctypes.CDLL:
    """The library at ``target``, compiled if it is not there. OSError: it cannot be written, or not be loaded."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, flags, target)
    try:
        return ctypes.CDLL(str(target))
    except OSError:
        target.unlink()  # the next process makes it anew
        raise


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sabsim" / "native"


def _version(compiler: str) -> str:
    """First line of ``compiler --version``: an updated compiler compiles anew."""
    try:
        done = subprocess.run([*compiler.split(), "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotCompile(f"{compiler} does not run: {error}") from error
    return (done.stdout.splitlines() or [""])[0]


def _compile(compiler: str, flags: list[str], target: Path) -> None:
    """Compiles under another name and renames, so that no process ever sees half a library."""
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=target.stem, suffix=".draft")
    os.close(handle)
    try:
        command = [*compiler.split(), *flags, str(_SOURCE / "all.c"), "-o", draft, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error" in line), f"exit {done.returncode}")
            raise CannotCompile(f"{compiler} refused: {first}")
        os.replace(draft, target)
    except subprocess.TimeoutExpired as error:
        raise CannotCompile(f"{compiler} did not finish in {error.timeout:.0f} s") from error
    finally:
        Path(draft).unlink(missing_ok=True)
