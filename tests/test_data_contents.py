"""Data sets as they are read: texts as codes of characters, images as bytes; and the real ones."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sabsim.data import DATA_SETS, DataFile, DataSet, Version, images, text
from sabsim.data.images import read_idx, read_images
from sabsim.data.text import read_text
from sabsim.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("no_data_of_this_machine")
Put = Callable[[Path, dict[str, bytes]], Path]


# Texts


def literal(parts: list[str]) -> tuple[str, list[list[int]]]:
    """Alphabet and codes, character by character."""
    alphabet = "".join(sorted(set("".join(parts))))
    return alphabet, [[alphabet.index(character) for character in part] for part in parts]


def assert_text(found: text.Text, parts: list[str]) -> None:
    alphabet, codes = literal(parts)
    assert found.alphabet == alphabet
    assert [found.parts[part].tolist() for part in ("train", "validation", "test")] == codes


def test_ptb_keeps_spaces_and_line_ends(small_ptb: dict[str, bytes], tmp_path: Path, put: Put) -> None:
    root = put(tmp_path / "data" / "ptb", small_ptb)
    tail = "the cat sat\non the mat\n"
    assert_text(read_text("ptb", str(root)), [f"{part}\n{tail}" for part in ("train", "valid", "test")])


def test_text8_is_read_from_every_wrapping_and_a_prefix_is_called_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Put, data_file: Callable[..., DataFile]
) -> None:
    whole = ("abcdefghij klmnop" * 40)[:600]
    parts = [whole[:540], whole[540:570], whole[570:]]
    zipped = tmp_path / "text8.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("text8", whole)
    wrappings = {
        "text8.zip": ("text8", zipped.read_bytes()),
        "text8": ("text8", whole.encode()),
        "text8.prefix600.xz": ("text8-prefix600", lzma.compress(whole.encode())),
    }
    versions = tuple(Version(label, (data_file(name, raw),)) for name, (label, raw) in wrappings.items())
    monkeypatch.setitem(DATA_SETS, "text8", DataSet("text8", "small", versions))
    for place, (name, (label, raw)) in enumerate(wrappings.items()):
        root = put(tmp_path / str(place) / "text8", {name: raw})
        found = read_text("text8", str(root))
        assert found.name == label
        assert_text(found, parts)


def test_any_file_of_characters(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    for whole in ("naïve café, 日本語 " * 30, "plain " * 50, "".join(map(chr, range(200, 800)))):
        path.write_text(whole, encoding="utf-8")
        read_text.cache_clear()
        n = len(whole)
        train, valid = n * 90 // 100, n * 5 // 100
        found = read_text(str(path))
        assert found.name == "story.txt"
        assert_text(found, [whole[:train], whole[train : train + valid], whole[train + valid :]])
        assert found.sha256 == hashlib.sha256(whole.encode()).hexdigest()


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"corpus = 'nothing': must be one of docs, ptb, text8, or the path of a UTF-8"):
        read_text("nothing")
    path = tmp_path / "latin.txt"
    path.write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.txt': is not UTF-8 text \(byte 0xe9 at 3\)"):
        read_text(str(path))


def test_the_documentation_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_text("docs")
    assert found.name == "python-docs"
    assert min(len(codes) for codes in found.parts.values()) > 10_000
    whole = "".join(found.alphabet[code] for code in found.parts["train"][:200_000])
    assert 'The "assert" statement' in whole
    read_text.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"without pydoc_data; give --corpus FILE"):
        read_text("docs")


# Images


def as_idx(array: np.ndarray) -> bytes:
    """The idx format, written from its description."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def naive_idx(path: Path) -> np.ndarray:
    """One number after the other."""
    with gzip.open(path) as file:
        raw = file.read()
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.array(list(raw[4 + 4 * len(shape) :]), dtype=np.uint8).reshape(shape)


def test_idx_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for shape in [(7,), (3, 4, 5), (0, 2)]:
        array = rng.integers(0, 256, shape, dtype=np.uint8)
        path = tmp_path / "array.gz"
        path.write_bytes(gzip.compress(as_idx(array)))
        assert np.array_equal(read_idx(path), array)
        assert np.array_equal(naive_idx(path), array)
    raw = as_idx(rng.integers(0, 256, (3, 4), dtype=np.uint8))
    for content, words in [
        (gzip.compress(raw[:-1]), "holds 11 bytes of data, but its header says 12"),
        (gzip.compress(raw + b"."), "holds 13 bytes"),
        (gzip.compress(raw)[:-9], "cannot be unpacked .*; it is truncated or altered"),
        (raw, "cannot be unpacked"),
        (gzip.compress(b"\0\0\x0d" + raw[3:]), "is not an idx file of unsigned bytes"),
        (gzip.compress(raw[:6]), "is not an idx file"),
        (gzip.compress(b""), "is not an idx file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"array.gz': {words}"):
            read_idx(path)


def test_mnist_keeps_its_last_twelfth_for_validation(small_mnist: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, arrays = small_mnist
    found = read_images("mnist", str(root))
    train = arrays["train-images-idx3-ubyte.gz"].reshape(36, -1)
    assert found.name == "mnist"
    assert (found.shape, found.brightest) == ((4, 3), 255)
    assert np.array_equal(found.pixels["train"], train[:33])
    assert np.array_equal(found.pixels["validation"], train[33:])
    assert np.array_equal(found.pixels["test"], arrays["t10k-images-idx3-ubyte.gz"].reshape(20, -1))
    assert np.array_equal(found.labels["train"], arrays["train-labels-idx1-ubyte.gz"][:33])
    assert np.array_equal(found.labels["validation"], arrays["train-labels-idx1-ubyte.gz"][33:])
    assert np.array_equal(found.labels["test"], arrays["t10k-labels-idx1-ubyte.gz"])


def test_digits_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn: pip install 'sabsim[digits]'")
    found, bunch = read_images("digits"), datasets.load_digits()
    assert found.name == "digits-8x8"
    whole = np.concatenate([found.pixels[part] for part in ("train", "validation", "test")])
    assert np.array_equal(whole, bunch.images.reshape(-1, 64))
    assert np.array_equal(np.concatenate(list(found.labels.values())), bunch.target)
    assert [len(labels) for labels in found.labels.values()] == [1197, 300, 300]
    assert whole.max() == found.brightest
    read_images.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'sabsim\[digits\]'"):
        read_images("digits")


# The real files


@pytest.mark.parametrize(
    ("corpus", "label", "characters", "kinds"),
    [
        ("ptb", "ptb", [5_017_482, 393_042, 442_423], 50),
        ("text8", None, None, 27),
    ],
)
def test_real_texts(real_data: str, corpus: str, label: str | None, characters: list[int] | None, kinds: int) -> None:
    found = read_text(corpus, real_data)
    sizes = [len(codes) for codes in found.parts.values()]
    assert len(found.alphabet) == kinds
    if characters is not None:
        assert (found.name, sizes) == (label, characters)
        lines = [line.strip() for line in (Path(real_data) / "ptb" / "ptb.test.txt").read_text().split("\n")[:-1]]
        assert "".join(found.alphabet[code] for code in found.parts["test"]) == "".join(f"{line}\n" for line in lines)
    else:
        assert found.name == ("text8" if sum(sizes) == 100_000_000 else f"text8-prefix{sum(sizes)}")
        assert sizes[0] == pytest.approx(18 * sizes[1], rel=1e-6)


def test_real_images(real_data: str) -> None:
    found = read_images("mnist", real_data)
    assert [len(found.labels[part]) for part in ("train", "validation", "test")] == [55_000, 5_000, 10_000]
    labels = naive_idx(Path(real_data) / "mnist" / "t10k-labels-idx1-ubyte.gz")
    assert np.array_equal(found.labels["test"], labels)
    assert np.bincount(found.labels["test"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_the_names_of_parts_agree() -> None:
    from typing import get_args

    from sabsim.tasks import Part

    assert get_args(Part) == text.PARTS
    assert set(images.SOURCES) == {"digits", "mnist"}
