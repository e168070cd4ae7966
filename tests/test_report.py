"""The page of a report: what it holds, what is embedded, what is escaped; made of plain data."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from sabsim.analysis.report import Answer, Arc, Missing, Moments, NumberTable, Panel, Reading, Series, Story, write_report
from sabsim.analysis.report.explorer import arc_line, credit_colours, explorer_data
from sabsim.analysis.report.pictures import embedded_frames

from sabsim.errors import StorageError

HURT = "<script>alert(1)</script>"


def moments(**changes: Any) -> Moments:
    """Ten steps, two arcs, one reading, a picture of each step."""
    arc = {"weight": 0.5, "length": 2, "begin": 5, "end": 9}
    return Moments(
        **{
            "title": "made up",
            "notes": ["A note."],
            "first": 0,
            "steps": 10,
            "frames": [np.full((20, 30, 3), 20 * t, dtype=np.uint8) for t in range(10)],
            "actions": [f"act {t}" for t in range(10)],
            "series": [Series(name="reward", values=np.arange(10.0), kind="bar")],
            "readings": [Reading(step=4, source=1, weight=0.9)],
            "arcs": [Arc(step=9, source=2, credit=3.0, **arc), Arc(step=8, source=7, credit=0.03, **arc)],
            "replays": True,
            **changes,
        }
    )


@pytest.fixture
def written(read_page: Callable[[Path], Any]) -> Callable[..., Any]:
    """Writes a page with one of everything, or with changes, and reads it."""

    def written(path: Path, *, episode: Moments | str = "none was recorded", **changes: Any) -> Any:
        figure = Figure(figsize=(2, 1))
        figure.add_subplot().plot([1, 2])
        panel = Panel(title="A panel", figure=figure, alt="a line", caption="It rises.", caveat="It means nothing.")
        answer = Answer(question="Q?", verdict="V", sentences=["W."])
        given = {
            "story": Story(title="T", subtitle="S", answers=[answer], picture=panel, made_by="me"),
            "panels": [panel],
            "tables": [NumberTable(title="Numbers", columns=["measure", "seed 0"], rows=[["lag", "3"]], note="In steps.")],
            "missing": [Missing(what="laps", run="r", why="there is no track")],
            **changes,
        }
        return read_page(write_report(path, **given, episode=episode))

    return written


# A page by hand


def test_a_page_holds_what_it_was_given(written: Callable[..., Any], tmp_path: Path) -> None:
    page = written(tmp_path / "out" / "report.html", episode=moments())
    for words in (
        "Q? V W.",
        "A panel",
        "It rises.",
        "It means nothing.",
        "lag 3",
        "In steps.",
        "laps",
        "there is no track",
    ):
        assert words in page.text
    assert "made up. A note." in page.text
    data = page.explored
    assert (data["steps"], len(data["frames"]), data["frameOf"]) == (10, 10, list(range(10)))
    assert [(arc["step"], arc["source"]) for arc in data["arcs"]] == [(9, 2), (8, 7)]
    assert data["readings"] == [[4, 1, 0.9]]


def test_nothing_is_loaded_from_elsewhere(written: Callable[..., Any], tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", episode=moments())
    assert [url for url in page.loads if not url.startswith(("data:", "#"))] == []
    assert len([url for url in page.loads if url.startswith("data:image/svg+xml;base64,")]) == 2
    policy = (tmp_path / "report.html").read_text().split('Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_without_an_episode_the_page_says_why_and_is_small(written: Callable[..., Any], tmp_path: Path) -> None:
    page = written(tmp_path / "report.html")
    assert "There is no episode to explore: none was recorded." in page.text
    assert page.scripts == []
    assert (tmp_path / "report.html").stat().st_size < 100_000


def test_all_text_is_escaped(written: Callable[..., Any], tmp_path: Path) -> None:
    panel = Panel(title=HURT, figure=_svg(tmp_path), alt=f'"{HURT}', caption=HURT, caveat=HURT)
    answer = Answer(question=HURT, verdict=HURT, sentences=[HURT])
    page = written(
        tmp_path / "report.html",
        story=Story(title=HURT, subtitle=HURT, answers=[answer], picture=panel, made_by=HURT),
        panels=[panel],
        tables=[NumberTable(title=f'"{HURT}', columns=[HURT], rows=[[HURT]], note=HURT)],
        missing=[Missing(what=HURT, run=HURT, why=HURT)],
        episode=moments(title=HURT, notes=[HURT], actions=[HURT] * 10, series=[Series(name=HURT, values=np.zeros(10))]),
    )
    assert len(page.scripts) == 3
    assert page.text.count(HURT) >= 15
    assert HURT not in (tmp_path / "report.html").read_text()
    assert page.explored["actions"] == [HURT] * 10
    assert "<script" not in json.dumps(page.explored["figure"])


def _svg(folder: Path) -> Path:
    path = folder / "figure.svg"
    path.write_text(f"<svg xmlns='http://www.w3.org/2000/svg'>{HURT}</svg>")
    return path


def test_a_table_must_be_one() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells for 2 columns"):
        NumberTable(title="t", columns=["a", "b"], rows=[["x"]])


def test_a_disk_that_refuses_is_one_line(written: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="give another --out"):
        written(tmp_path / "file" / "report.html")


# What is embedded


def test_frames_are_embedded_once_and_fit() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (120, 160, 3), dtype=np.uint8) for _ in range(6)]
    urls, which = embedded_frames([noise[0], noise[1], noise[0], *noise[2:]])
    assert (len(urls), which) == (6, [0, 1, 0, 2, 3, 4, 5])
    assert base64.b64decode(urls[0].removeprefix("data:image/webp;base64,"))[8:12] == b"WEBP"
    large = sum(map(len, urls))
    small, _ = embedded_frames(noise, most=large // 3)
    assert sum(map(len, small)) <= large // 3


def test_arcs_go_from_the_step_to_its_source_and_on() -> None:
    x, y = arc_line(Arc(step=12, source=3, weight=1.0, credit=1.0, length=3, begin=10, end=14))
    assert (x[0], x[-2], x[-1]) == pytest.approx((12, 3, 1))
    assert (y[0], y[-2], y[-1]) == pytest.approx((0, 0, 0))
    assert y.min() == pytest.approx(-3)
    assert all(math.hypot((a - 7.5) / 4.5, b / 3) == pytest.approx(1) for a, b in zip(x[:-1], y[:-1], strict=True))


def test_more_credit_stands_out_more() -> None:
    def brightness(colour: str) -> int:
        return sum(int(colour[place : place + 2], 16) for place in (1, 3, 5))

    arcs = [moments().arcs[0], *(Arc(step=9, source=1, weight=1, credit=c, length=1, begin=5, end=9) for c in (1.0, 1e-9))]
    light, dark = (list(map(brightness, credit_colours(arcs, theme))) for theme in ("light", "dark"))
    assert light == sorted(light)
    assert dark == sorted(dark, reverse=True)


def test_values_that_are_not_finite_are_none() -> None:
    data = explorer_data(moments(series=[Series(name="TD error", values=np.array([np.nan, np.inf, *[1.0] * 8]))]))
    assert data["series"][0]["values"][:3] == [None, None, 1.0]
    json.dumps(data, allow_nan=False)
