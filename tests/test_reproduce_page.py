"""The page of results: rendered parts between markers, and all else as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sabsim.cli import main
from sabsim.errors import ConfigError
from sabsim.reproduce import TABLES, Figures, figures_of, render_page, write_table
from sabsim.reproduce.transfer import Transfer, write_transfers

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


def row(table: str = "table1", name: str = "SAB (5, 5)", score: float = 0.5) -> Figures:
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
        TABLES[table].task.metric: score,
        "sequences": 8,
        "seconds": 1.0,
        "stopped_early": False,
        "macrostate_bytes": 4_000,
        "config": {},
        **made,
    }
    (found,) = figures_of(table, {f"{table}/{name}/seed {seed}": run for seed in (0, 1)}, {}, command="sabsim x")
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


def glance(results: Path) -> list[str]:
    return render_page("<!-- glance -->\n<!-- end -->\n", results).splitlines()


def test_rows_with_a_published_figure_at_a_glance(results: Path) -> None:
    others = [row(name=name, score=score) for name, score in (("no replay", 0.2), ("LSTM, BPTT", 0.3), ("SAB (1, 1)", 0.4))]
    write_table("table1", [row(), *others, row(name="LSTM, TBPTT (5)", score=0.1)], results, quick=False)
    write_table(
        "table4",
        [row("table4", *one) for one in (("SAB (5, 5)", 0.1), ("no replay", 0.3), ("LSTM, BPTT", 0.4))],
        results,
        quick=False,
    )
    # A row that an earlier version had is none of these.
    write_table("table8", [row("table8", "SAB (14, 5, 14)"), replace(row(), row="gone")], results, quick=False)
    lines = glance(results)
    # The best of those that do not replay: not SAB (1, 1), which scores more; of an error, the least.
    assert (
        "| table1 | copying, T = 100 | SAB (5, 5) | 0.996 | 0.5000 after 8 | worse | LSTM, BPTT: 0.3000 after 8 |" in lines
    )
    assert "| table1 | copying, T = 100 | LSTM, TBPTT (5) | 0.31 | 0.1000 after 8 | worse |  |" in lines
    assert (
        "| table4 | adding, T = 200 | SAB (5, 5) | 0.0001\\* | 0.1000 after 8 | worse | no replay: 0.3000 after 8 |"
        in lines
    )
    assert (
        "| table8 | MNIST pixel by pixel, reduced size | SAB (14, 5, 14) | 0.911\\* | 0.5000 after 8 | worse | not run |"
        in lines
    )
    assert len([line for line in lines if line.startswith("| table")]) == 1 + 4


def test_transfer_at_a_glance_is_at_the_longest(results: Path) -> None:
    def played(name: str, T: int, mean: float) -> Transfer:
        return Transfer(row=name, T=T, sequences=100, scores={0: mean, 1: mean}, mean=mean, low=mean, high=mean)

    found = [played("SAB (5, 5)", T, 0.6) for T in (200, 5000)] + [played("no replay", 5000, 0.2)]
    write_transfers("transfer", found, results, quick=False)
    (line,) = [line for line in glance(results) if line.startswith("| transfer")]
    task = "copying learned at T = 100, played at 5,000"
    assert line == f"| transfer | {task} | SAB (5, 5) | 0.41 | 0.6000 | better | no replay: 0.2000 |"


def test_nothing_at_a_glance(tmp_path: Path) -> None:
    assert "Not run yet: `sabsim reproduce all`." in glance(tmp_path)


def test_which_rows_replay() -> None:
    """All that are called SAB, and no other."""
    for table in TABLES.values():
        for one in table.rows:
            assert one.replays is one.name.startswith("SAB"), one.name


def test_a_mistake_is_one_line(results: Path, mistake: Callable[..., str]) -> None:
    missing = str(results / "none.md")
    assert f"render = '{missing}': No such file or directory" in mistake("reproduce", "--render", missing)
    page = results / "page.md"
    page.write_text("<!-- table9 -->\n")
    assert f"render = '{page}': line 1: <!-- table9 --> is no part" in mistake("reproduce", "--render", str(page))
    assert "table = 'figure3': must be one of table1" in mistake("reproduce", "figure3", "--render", str(page))
