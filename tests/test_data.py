"""Data sets: where they are found, what is refused, and how they are fetched, from a server on this machine."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sabsim.cli import main
from sabsim.data import DATA_SETS, DataFile, Version, catalogue, fetch, locate, places
from sabsim.errors import DataError

pytestmark = pytest.mark.usefixtures("no_data_of_this_machine")
Put = Callable[[Path, dict[str, bytes]], Path]


# Places


def test_data_are_found_where_told_then_where_the_variable_says_then_in_the_cache(
    small_ptb: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Put
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
    small_ptb: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Put
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


def test_a_file_that_changes_is_read_again(small_ptb: dict[str, bytes], tmp_path: Path, put: Put) -> None:
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
    server: tuple[str, Path, list[str]],
    small_ptb: dict[str, bytes],
    tmp_path: Path,
    put: Put,
    data_file: Callable[..., DataFile],
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
    server: tuple[str, Path, list[str]], small_ptb: dict[str, bytes], tmp_path: Path, put: Put
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
    put: Put,
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
