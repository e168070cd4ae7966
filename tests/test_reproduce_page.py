"""The page of results: rendered parts between markers, and all else as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sabsim.cli import main
from sabsim.errors import ConfigError
from sabsim.reproduce import Figures, figures_of, render_page, write_table

PAGE = """# Results

Before.

<!-- table1 -->
stale
<!-- end -->

Why: because.

<!-- table2 -->
<!-- end -->

After: `<!-- table9 -->` in a sentence is none.
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_table("table1", [row()], tmp_path, quick=False)
    return tmp_path


def row() -> Figures:
    made = {
        "sabsim": "0.1.0",
        "git": "a" * 40,
        "torch": "2",
        "device": "cpu",
        "machine": "m",
        "date": "2026-11-01T00:00:00",
        "config": {},
    }
    run = {
        "accuracy": 0.5,
        "sequences": 8,
        "seconds": 1.0,
        "stopped_early": False,
        "macrostate_bytes": 4_000,
        "config": {},
        **made,
    }
    (found,) = figures_of("table1", {f"table1/SAB (5, 5)/seed {seed}": run for seed in (0, 1)}, {}, command="sabsim x")
    return found


def test_parts_are_rendered_and_words_stay(results: Path) -> None:
    text = render_page(PAGE, results)
    assert "stale" not in text
    assert "| SAB (5, 5) | 0.996 | 0.5000 | 0.5000..0.5000 | 2 | 0 of 2 | 8 | 0:01 | 4 | worse |" in text
    assert "Not run yet: `sabsim reproduce table2`." in text
    for words in ("# Results\n\nBefore.\n\n<!-- table1 -->\n\n|", "<!-- end -->\n\nWhy: because.\n\n<!-- table2 -->"):
        assert words in text
    assert text.endswith("After: `<!-- table9 -->` in a sentence is none.\n")
    assert render_page(text, results) == text


def test_one_part_alone(results: Path) -> None:
    text = render_page(PAGE, results, ["table2"])
    assert "stale" in text
    assert "Not run yet" in text


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("a\n<!-- table9 -->\n<!-- end -->\n", "line 2: <!-- table9 --> is no part; it must be one of table1, "),
        ("<!-- table1 -->\n", "line 1: <!-- table1 --> has no <!-- end --> after it"),
        ("<!-- table1 -->\n<!-- table2 -->\n<!-- end -->\n", "line 1: <!-- table1 --> has no <!-- end --> after it"),
    ],
)
def test_a_wrong_marker_is_told(results: Path, page: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        render_page(page, results)


def test_the_command_renews_the_page(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = results / "page.md"
    page.write_text(PAGE)
    arguments = ["reproduce", "--render", str(page), "--results", str(results)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{page}: tables renewed\n"
    assert page.read_text() == render_page(PAGE, results)
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{page}: up to date\n"


def test_what_was_published_is_on_it_with_its_source(results: Path) -> None:
    text = render_page("<!-- published -->\n<!-- end -->\n<!-- rule -->\n<!-- end -->\n", results)
    assert "| table1 | copying, T = 100 | accuracy over the ten digits | SAB (5, 5) | 0.996 | Ke |" in text
    assert (
        "| table4 | adding, T = 200 | mean squared error (the paper's 'cross entropy') | SAB (10, 10) | 0.0001\\* |" in text
    )
    assert "| transfer | copying learned at T = 100, played at another T | accuracy | SAB, T = 400 | 0.75 | Kerg |" in text
    assert "*Equal*: the paper's figure" in text


def test_a_mistake_is_one_line(results: Path, mistake: Callable[..., str]) -> None:
    missing = str(results / "none.md")
    assert f"render = '{missing}': No such file or directory" in mistake("reproduce", "--render", missing)
    page = results / "page.md"
    page.write_text("<!-- table9 -->\n")
    assert f"render = '{page}': line 1: <!-- table9 --> is no part" in mistake("reproduce", "--render", str(page))
    assert "table = 'figure3': must be one of table1" in mistake("reproduce", "figure3", "--render", str(page))
