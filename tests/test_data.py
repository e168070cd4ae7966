"""Data sets: found, checked, read as a naive reader would, and fetched from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from sabsim.cli import main
from sabsim.data import DATA_SETS, DataFile, DataSet, Version, catalogue, fetch, images, locate, places, text
from sabsim.data.images import read_idx, read_images
from sabsim.data.text import read_text
from sabsim.errors import ConfigError, DataError

LINES = " the cat sat \n on the mat \n"


def data_file(name: str, content: bytes, *mirrors: str, algorithm: str = "sha256") -> DataFile:
    return DataFile(name, len(content), f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}", mirrors)


def as_idx(array: np.ndarray) -> bytes:
    """The idx format, written from its description."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(autouse=True)
def no_data_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Neither SABSIM_DATA nor the user's cache decides anything here, nor what an earlier test has read."""
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
    contents = {f"ptb.{part}.txt": f" {part} \n{LINES}".encode() for part in ("train", "valid", "test")}
    files = tuple(data_file(name, content) for name, content in contents.items())
    monkeypatch.setitem(DATA_SETS, "ptb", DataSet("ptb", "small", (Version("ptb", files),)))
    return contents


def put(folder: Path, contents: dict[str, bytes]) -> Path:
    """Write the files into `folder` and return the folder above."""
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder.parent


# Places


def test_data_are_found_where_told_then_where_the_variable_says_then_in_the_cache(
    small_ptb: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, named, given = (put(tmp_path / where / "ptb", small_ptb) for where in ("cache/sabsim", "named", "given"))
    assert locate("ptb").paths[0].parent.parent == cache
    monkeypatch.setenv("SABSIM_DATA", str(named))
    assert locate("ptb").paths[0].parent.parent == named
    assert [path.name for path in locate("ptb", given).paths] == list(small_ptb)
    assert locate("ptb", given).paths[0].parent.parent == given
    for path in (named / "ptb").iterdir():
        path.unlink()
    assert locate("ptb").paths[0].parent.parent == cache


def test_what_is_wrong_with_a_file_is_said_with_what_to_put_where(
    small_ptb: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"'ptb' is not in .*cache.*'sabsim data fetch ptb' brings it, or put ptb.train"):
        locate("ptb")
    root = put(tmp_path / "data" / "ptb", small_ptb)
    path, whole = root / "ptb" / "ptb.valid.txt", small_ptb["ptb.valid.txt"]
    for content, words in [
        (whole[:-1], rf"truncated \({len(whole) - 1} of {len(whole)} bytes\)"),
        (whole + b"x", "too long"),
        (whole.replace(b"cat", b"dog"), "altered"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"ptb.valid.txt': {words}.*; 'sabsim data fetch ptb' brings it, or put"):
            locate("ptb", root)
    path.unlink()
    with pytest.raises(DataError, match=r"ptb.valid.txt': missing"):
        locate("ptb", root)
    path.write_bytes(whole)
    assert len(locate("ptb", root).paths) == 3
    with pytest.raises(DataError, match=r"data = 'nowhere': no such folder; give one that holds ptb, text8, mnist"):
        locate("ptb", "nowhere")
    monkeypatch.setenv("SABSIM_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"SABSIM_DATA = '.*gone': no such folder"):
        locate("ptb")


def test_a_file_that_changes_is_read_again(small_ptb: dict[str, bytes], tmp_path: Path) -> None:
    root = put(tmp_path / "data" / "ptb", small_ptb)
    locate("ptb", root)
    path = root / "ptb" / "ptb.test.txt"
    path.write_bytes(path.read_bytes().replace(b"cat", b"dog"))
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match=r"altered"):
        locate("ptb", root)


def test_the_catalogue_is_well_formed() -> None:
    for data_set in catalogue.DATA_SETS.values():
        for file in data_set.versions[0].files:
            assert file.mirrors
            assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in file.mirrors)
        for file in (file for version in data_set.versions for file in version.files):
            algorithm, _, digest = file.digest.partition(":")
            assert len(digest) == 2 * hashlib.new(algorithm).digest_size
            assert file.size > 0


# Texts


def literal(parts: list[str]) -> tuple[str, list[list[int]]]:
    """Alphabet and codes, character by character."""
    alphabet = "".join(sorted(set("".join(parts))))
    return alphabet, [[alphabet.index(character) for character in part] for part in parts]


def assert_text(found: text.Text, parts: list[str]) -> None:
    alphabet, codes = literal(parts)
    assert found.alphabet == alphabet
    assert [found.parts[part].tolist() for part in ("train", "validation", "test")] == codes


def test_ptb_keeps_spaces_and_line_ends(small_ptb: dict[str, bytes], tmp_path: Path) -> None:
    root = put(tmp_path / "data" / "ptb", small_ptb)
    tail = "the cat sat\non the mat\n"
    assert_text(read_text("ptb", str(root)), [f"{part}\n{tail}" for part in ("train", "valid", "test")])


def test_text8_is_read_from_every_wrapping_and_a_prefix_is_called_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


# Fetching


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server on this machine: its address, the folder it serves, and the paths asked for."""
    served, asked = tmp_path / "served", []
    served.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served))) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/", served, asked
        listening.shutdown()
        thread.join()


def test_fetch_brings_checks_and_keeps(
    server: tuple[str, Path, list[str]], small_ptb: dict[str, bytes], tmp_path: Path
) -> None:
    address, served, asked = server
    put(served / "a", small_ptb)
    # The first mirror has nothing; one file's digest is an md5.
    mirrors = (f"{address}nothing/", f"{address}a/")
    files = tuple(
        data_file(name, content, *mirrors, algorithm="md5" if "test" in name else "sha256")
        for name, content in small_ptb.items()
    )
    data_set = replace(DATA_SETS["ptb"], versions=(Version("ptb", files),))
    told: list[tuple[str, str]] = []
    paths = fetch(data_set, tmp_path / "data", told=lambda name, what: told.append((name, what)))
    assert [path.read_bytes() for path in paths] == list(small_ptb.values())
    assert told == [(name, f"fetched from {address}a/{name}") for name in small_ptb]
    # Broken off before the last, with one truncated: only these two are asked for again.
    paths[2].unlink()
    paths[1].write_bytes(b"half")
    told.clear()
    asked.clear()
    fetch(data_set, tmp_path / "data", told=lambda name, what: told.append((name, what)))
    assert [what for _, what in told] == ["kept", *(f"fetched from {address}a/{path.name}" for path in paths[1:])]
    assert not [path for path in asked if paths[0].name in path]
    assert [path.read_bytes() for path in paths] == list(small_ptb.values())


def test_what_comes_altered_is_not_kept(
    server: tuple[str, Path, list[str]], small_ptb: dict[str, bytes], tmp_path: Path
) -> None:
    address, served, _ = server
    put(served / "a", small_ptb | {"ptb.valid.txt": b"something else"})
    root = tmp_path / "data"
    with pytest.raises(DataError, match=r"ptb.valid.txt could not be fetched: .* truncated or altered.*; put it into"):
        fetch(DATA_SETS["ptb"], root, mirror=f"{address}a")
    assert sorted(path.name for path in (root / "ptb").iterdir()) == ["ptb.train.txt"]
    with pytest.raises(DataError, match=r"could not be fetched: http://127.0.0.1:9/ptb.valid.txt: "):
        fetch(DATA_SETS["ptb"], root, mirror="http://127.0.0.1:9")


# The command


def test_the_command_fetches_and_lists(
    server: tuple[str, Path, list[str]],
    small_ptb: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    address, served, _ = server
    put(served / "a", small_ptb)
    assert main(["data", "list"]) == 0
    assert "not there: 'sabsim data fetch ptb' puts it into" in capsys.readouterr().out
    assert main(["data", "fetch", "ptb", "--mirror", f"{address}a"]) == 0
    assert capsys.readouterr().out.count("fetched from") == 3
    assert locate("ptb").paths[0].parent == places.roots()[0] / "ptb"
    assert main(["data", "fetch", "ptb", "--data", str(tmp_path / "new"), "--mirror", f"{address}a"]) == 0
    assert locate("ptb", tmp_path / "new")
    capsys.readouterr()
    assert main(["data", "list", "--data", str(tmp_path / "new")]) == 0
    shown = capsys.readouterr().out
    assert f"at hand, as ptb: {tmp_path / 'new' / 'ptb'}" in shown
    assert all(name in shown for name in ("docs", "digits", *DATA_SETS))
    (tmp_path / "new" / "ptb" / "ptb.test.txt").write_bytes(b"")
    assert main(["data", "list", "--data", str(tmp_path / "new")]) == 0
    assert "ptb.test.txt truncated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("data", "which? one of list, fetch; see 'sabsim data --help'"),
        ("data show", "data command = 'show': must be one of list, fetch"),
        ("data fetch", "NAME"),
        ("data fetch pbt", "data set = 'pbt': must be one of ptb, text8, mnist (did you mean ptb?)"),
        ("data list --data nowhere", "data = 'nowhere': no such folder"),
        ("data fetch ptb --mirror http://127.0.0.1:9", "ptb.train.txt could not be fetched: http://127.0.0.1:9/"),
    ],
)
def test_mistakes(arguments: str, words: str, mistake: Callable[..., str]) -> None:
    assert words in mistake(*arguments.split())


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
        assert found.name == "text8" if sum(sizes) == 100_000_000 else f"text8-prefix{sum(sizes)}"
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
