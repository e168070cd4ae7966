"""Texts as character codes: Penn Treebank, text8, a file of one's own, or Python's documentation.

A text has three parts, to train with, for validation and for the test, and an alphabet: the characters that
occur in it, in the order of their code points. A character's code is its place there.
"""

from __future__ import annotations

import hashlib
import lzma
import platform
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sabsim.data.places import locate
from sabsim.errors import ConfigError, DataError

CORPORA = ("docs", "ptb", "text8")
"""The texts with a name; anything else is the path of a file."""

PARTS = ("train", "validation", "test")

_PERCENT = {"train": 90, "validation": 5}
"""Of a text that comes in one piece; the rest is the test part (text8's 90, 5 and 5 million characters)."""

_CODE_POINTS = 0x110000


@dataclass(frozen=True)
class Text:
    """A text in three parts.

    `name`: what results call it. `alphabet`: its kinds of characters. `parts`: by name, the codes of its characters,
    `(characters,)` uint8 or uint16. `sha256`: of all of it, as UTF-8.
    """

    name: str
    alphabet: str
    parts: dict[str, NDArray[Any]]
    sha256: str


@lru_cache(maxsize=2)
def read_text(corpus: str, data: str | None = None) -> Text:
    """The text `corpus`: one of `CORPORA`, or the path of a UTF-8 file.

    Arguments:
        data: folder of data sets, as for `roots`

    Raises:
        ConfigError: neither a name nor a file
        DataError: a data set or file that is missing, damaged, or not UTF-8
    """
    if corpus == "docs":
        return _encoded("python-docs", _cut(_documentation()))
    if corpus == "ptb":
        found = locate("ptb", data)
        return _encoded(found.label, [_stripped(_decoded(path, path.read_bytes())) for path in found.paths])
    if corpus == "text8":
        found = locate("text8", data)
        return _encoded(found.label, _cut(_decoded(found.paths[0], _unpacked(found.paths[0]))))
    return _file(corpus)


def _file(corpus: str) -> Text:
    path = Path(corpus)
    if not path.is_file():
        raise ConfigError(f"corpus = {corpus!r}: must be one of {', '.join(CORPORA)}, or the path of a UTF-8 text file")
    try:
        parts = _cut(_decoded(path, path.read_bytes()))
    except OSError as error:
        raise DataError(f"'{path}': cannot be read ({error.strerror})") from error
    # A character is predicted from the one before it.
    if min(map(len, parts)) < 2:
        shares = ", ".join(f"{len(part)} {name}" for name, part in zip(PARTS, parts, strict=True))
        raise DataError(f"'{path}': is too short, with {shares} characters; each part must have at least 2")
    return _encoded(path.name, parts)


def python_version() -> str:
    """The version whose documentation `docs` is: 3.11."""
    return ".".join(platform.python_version_tuple()[:2])


def _documentation() -> str:
    """The topics of Python's `help()`, in the order of their names."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError("corpus = 'docs': this Python comes without pydoc_data; give --corpus FILE") from error
    return "\n\n".join(topics[name].strip() for name in sorted(topics))


def _stripped(text: str) -> str:
    """Each line without the spaces around it; the spaces between words and the line ends stay."""
    return "".join(line.strip() + "\n" for line in text.splitlines())


def _decoded(path: Path, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}': is not UTF-8 text (byte {raw[error.start]:#04x} at {error.start:,})") from error


def _unpacked(path: Path) -> bytes:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(path.stem)
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def _cut(text: str) -> list[str]:
    """The three parts of a text that comes in one piece."""
    ends = np.cumsum([len(text) * percent // 100 for percent in _PERCENT.values()]).tolist()
    return [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def _encoded(name: str, parts: list[str]) -> Text:
    points = [_points(part) for part in parts]
    occurs = np.zeros(_CODE_POINTS, dtype=bool)
    for part in points:
        occurs[part] = True
    kinds = np.flatnonzero(occurs)
    table = np.zeros(_CODE_POINTS, dtype=np.uint8 if len(kinds) <= 256 else np.uint16)
    table[kinds] = np.arange(len(kinds))
    digest = hashlib.sha256()
    for text in parts:
        digest.update(text.encode())
    return Text(
        name=name,
        alphabet="".join(map(chr, kinds)),
        parts={part: table[codes] for part, codes in zip(PARTS, points, strict=True)},
        sha256=digest.hexdigest(),
    )


def _points(text: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """Code points, `(characters,)`; those of plain ASCII in a quarter of the memory."""
    if text.isascii():
        return np.frombuffer(text.encode(), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
