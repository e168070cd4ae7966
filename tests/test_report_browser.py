"""The report in a browser: nothing in its console, and the slider, the keys and a click change what is shown."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sabsim.analysis.report import Answer, Arc, Moments, Panel, Reading, Series, Story, write_report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="no chromium and chromedriver (Debian: apt install chromium chromium-driver)"
)

STEPS = 20
LONG = Arc(step=18, source=2, weight=0.9, credit=3.0, length=3, begin=15, end=19)
SHORT = Arc(step=7, source=5, weight=0.3, credit=0.1, length=2, begin=5, end=9)
HURT = "<img src=x onerror=window.hurt=1>"
_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of an episode of 20 steps with two replays and a reading; its words would do harm if they were HTML."""
    picture = tmp_path_factory.mktemp("figure") / "figure.svg"
    picture.write_text("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>window.hurt=1</script></svg>")
    panel = Panel(title=HURT, figure=picture, alt=HURT, caption=HURT)
    answer = Answer(question=HURT, verdict=HURT, sentences=[HURT])
    episode = Moments(
        title=HURT,
        notes=[HURT],
        first=0,
        steps=STEPS,
        frames=[np.full((20, 30, 3), 10 * t, dtype=np.uint8) for t in range(STEPS)],
        actions=[f"{HURT} {t}" for t in range(STEPS)],
        series=[Series(name="reward", values=np.arange(20.0), kind="bar"), Series(name=HURT, values=np.ones(20))],
        readings=[Reading(step=12, source=3, weight=0.8)],
        arcs=[SHORT, LONG],
        replays=True,
    )
    return write_report(
        tmp_path_factory.mktemp("report") / "report.html",
        story=Story(title=HURT, subtitle="", answers=[answer], picture=panel, made_by=""),
        panels=[panel],
        tables=[],
        missing=[],
        episode=episode,
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*_FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1280,1400"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    """The browser with the page, ready, and with nothing said to the console."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(page.as_uri())
    WebDriverWait(browser, 120).until(lambda found: found.execute_script("return plot.dataset.ready") == "true")
    return browser


def text(browser: Any, name: str) -> str:
    found: str = browser.find_element("id", name).text
    return found


def source(browser: Any, name: str) -> str:
    """What an image shows."""
    found: str = browser.execute_script("return document.getElementById(arguments[0]).src", name)
    return found


def move(browser: Any, step: int) -> None:
    """The slider, as a hand would move it."""
    browser.execute_script(
        "const s = document.getElementById('step'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))", step
    )


def test_the_page_loads_alone_and_says_nothing_to_the_console(opened: Any) -> None:
    loaded = opened.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [url for url in loaded if not url.startswith("data:")] == []
    assert opened.execute_script("return window.hurt === undefined")
    assert [line for line in opened.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []


def test_it_begins_where_the_greatest_credit_came_from(opened: Any) -> None:
    assert text(opened, "now-title") == "Now: step 18"
    assert text(opened, "then-title") == "Then: step 2, 16 before"
    assert text(opened, "now-facts").startswith(f"action\n{HURT} 18\nreward\n18")


def test_the_slider_changes_what_is_shown(opened: Any) -> None:
    before = source(opened, "now-frame")
    move(opened, 12)
    assert text(opened, "now-title") == "Now: step 12"
    assert source(opened, "now-frame") not in ("", before)
    assert text(opened, "then-title") == "Then: step 3, 9 before"
    assert text(opened, "events") == "reads step 3, weight 0.8"
    assert text(opened, "where") == "12 of 0 to 19"
    assert opened.execute_script("return plot.layout.shapes[0].x0") == 12
    move(opened, 1)
    assert text(opened, "then-title") == "Then"
    assert text(opened, "events-title") == "Nothing is recalled or replayed here"


def test_arrow_keys_move_by_a_step(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    slider = opened.find_element("id", "step")
    slider.send_keys(Keys.ARROW_LEFT)
    assert text(opened, "now-title") == "Now: step 17"
    opened.find_element("id", "play").send_keys(Keys.ARROW_RIGHT)
    assert text(opened, "now-title") == "Now: step 18"


def test_a_click_on_an_arc_shows_both_of_its_moments(opened: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    move(opened, 12)
    then = source(opened, "then-frame")
    opened.execute_script("plot.scrollIntoView({block: 'center'})")
    x, y = opened.execute_script(
        "const f = plot._fullLayout, r = plot.getBoundingClientRect(), t = plot.data[1];"
        "return [r.left + f.xaxis._offset + f.xaxis.l2p(t.x[20]), r.top + f.yaxis._offset + f.yaxis.l2p(t.y[20])]"
    )
    hand = ActionChains(opened)
    hand.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    hand.perform()
    WebDriverWait(opened, 60).until(lambda found: f"step {LONG.step} replays step" in text(found, "plot"))
    hand = ActionChains(opened)
    hand.w3c_actions.pointer_action.click()
    hand.perform()
    WebDriverWait(opened, 60).until(lambda found: text(found, "now-title") == f"Now: step {LONG.step}")
    assert text(opened, "then-title") == f"Then: step {LONG.source}, 16 before"
    assert source(opened, "then-frame") not in ("", then)
    assert opened.find_element("css selector", "#events [aria-pressed=true]").text.startswith("step 18 replayed step 2")


def test_the_list_is_as_good_as_a_click(opened: Any) -> None:
    move(opened, 9)
    opened.find_element("css selector", "#events button").click()
    assert text(opened, "now-title") == f"Now: step {SHORT.step}"
    assert text(opened, "then-title") == f"Then: step {SHORT.source}, 2 before"


def test_play_goes_on_by_itself_and_stops(opened: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    move(opened, STEPS - 2)
    button = opened.find_element("id", "play")
    button.click()
    WebDriverWait(opened, 60).until(lambda found: text(found, "where") == "19 of 0 to 19" and button.text == "Play")


def test_a_dark_page_has_arcs_that_can_be_seen_on_it(opened: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    def colours() -> tuple[str, str]:
        script = "return [plot.data[1].line.color, getComputedStyle(document.body).backgroundColor]"
        arc, background = opened.execute_script(script)
        return arc, background

    light = colours()
    try:
        feature = {"name": "prefers-color-scheme", "value": "dark"}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        WebDriverWait(opened, 60).until(lambda _: colours()[0] != light[0])
        dark = colours()
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert dark[1] != light[1]
