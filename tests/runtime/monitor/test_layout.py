"""The page at every size, in light and dark: nothing is cut off, covered, out of reach or hard to read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.monitor.browser import Browser, find_chromium
from tests.runtime.monitor.ward import LONG_NAME, Ward, served

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium: Debian's package chromium")

SIZES = [
    (360, 640),
    (640, 360),
    (768, 1024),
    (1024, 768),
    (1366, 768),
    (1920, 1080),
    (2560, 1440),
    (3840, 2160),
]
COUNTS = [1, 2, 3, 4, 8, 16]
SMALLEST_TRACE = (150, 60)  # CSS pixels: two seconds at 25 mm/s, and more than 15 mm

FAULTS = Path(__file__).with_name("faults.js").read_text()
SETTLED = """new Promise((resolve) => {
  let frames = 0;
  const next = () => (++frames > 6 ? resolve(true) : requestAnimationFrame(next));
  requestAnimationFrame(next);
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


def scheme(browser: Browser, name: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": name}]
    browser.command("Emulation.setEmulatedMedia", features=features)


def faults(browser: Browser, **allowed: bool) -> list[str]:
    """What is wrong. ``allowed``: labels that are scrolled to ("scroll"), or shortened ("cut")."""
    browser.evaluate(SETTLED)
    found: list[str] = browser.evaluate(f"({FAULTS})({list(SMALLEST_TRACE)}, {json.dumps(allowed)})")
    return found


def opened(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.wait_for("document.querySelectorAll('.patient[data-feed] .u-over canvas').length")


@pytest.mark.slow
@pytest.mark.parametrize("bad", [False, True], ids=["well", "alarms"])
@pytest.mark.parametrize("count", COUNTS)
def test_everything_is_legible(browser: Browser, count: int, bad: bool) -> None:
    ward = Ward(count)
    ward.fill()
    if bad:
        ward.worst()
    found: dict[str, Any] = {}
    with served(ward) as address:
        opened(browser, address)
        for i, (width, height) in enumerate(SIZES):
            scheme(browser, ("light", "dark")[(i + count) % 2])
            browser.resize(width, height)
            if wrong := faults(browser):
                found[f"{width} x {height}"] = wrong
    assert found == {}


LONG_LABELS = [
    f"{kind} bundle branch block of the {where} ventricle"
    for kind in ("left", "right")
    for where in ("a", "b")
]


@pytest.mark.parametrize(
    ("labels", "allowed"),
    [([f"L{i}" for i in range(71)], "scroll"), (LONG_LABELS, "cut"), (["A"], "")],
    ids=["many", "long", "one"],
)
def test_labels_of_other_networks(browser: Browser, labels: list[str], allowed: str) -> None:
    """Many labels can be scrolled, by the keyboard too; long ones are cut in the middle."""
    ward = Ward(2, labels, {labels[0]: "What it means"})
    ward.fill()
    found = {}
    with served(ward) as address:
        opened(browser, address)
        for width, height in ((360, 640), (1366, 768)):
            browser.resize(width, height)
            if wrong := faults(browser, **{allowed: True}):
                found[width] = wrong
        titles = browser.evaluate("[...document.querySelectorAll('.labels .label')].map((l) => l.title)")
    assert found == {} and titles == labels * 2


def test_a_long_name_keeps_its_end(browser: Browser) -> None:
    with served(Ward(2)) as address:
        browser.resize(360, 640)
        opened(browser, address)
        name = "document.querySelectorAll('.name')[1]"
        text, title = browser.evaluate(f"[{name}.textContent, {name}.title]")
        start, end = browser.evaluate(f"[...{name}.children].map((p) => [p.scrollWidth, p.clientWidth])")
    assert text == title == LONG_NAME
    assert start[0] > start[1] > 60 and end[0] == end[1] > 30


class TestOthers:
    """What is not on the screen is named on the screen."""

    def test_a_warning_below_the_screen_leads_there(self, browser: Browser) -> None:
        ward = Ward(8)
        ward.fill()
        ward.worst()
        with served(ward) as address:
            browser.resize(360, 640)
            opened(browser, address)
            names = "[...document.querySelectorAll('#others button')].map((b) => b.textContent)"
            told = browser.wait_for(f"({names}).length === 7 && {names}")
            assert told[5] == "Bed 7Source lost"
            browser.evaluate("document.querySelectorAll('#others button')[5].click()")
            browser.wait_for("document.activeElement.dataset.source === 's6'")
            browser.wait_for(f"!({names}).includes('Bed 7Source lost')")

    def test_one_patient_alone(self, browser: Browser) -> None:
        ward = Ward(3)
        ward.fill()
        ward.worst()
        with served(ward) as address:
            browser.resize(1366, 768)
            opened(browser, address)
            browser.evaluate("document.querySelectorAll('.enlarge')[0].click()")
            names = "[...document.querySelectorAll('#others button')].map((b) => b.textContent)"
            told = browser.wait_for(f"({names}).length === 2 && {names}")
            assert told == [f"{LONG_NAME}No signal, CD", "Bed 3Source lost"]
            browser.evaluate("document.querySelectorAll('#others button')[1].click()")
            shown = "[...document.querySelectorAll('.patient')].map((p) => !p.hidden)"
            assert browser.evaluate(shown) == [False, False, True]
            pressed = "[...document.querySelectorAll('.enlarge')].map((b) => b.ariaPressed)"
            assert browser.evaluate(pressed) == ["false", "false", "true"]


def test_descriptions_of_labels_on_hover_and_focus(browser: Browser) -> None:
    ward = Ward(1, descriptions={"MI": "Myocardial infarction", "CD": "Conduction disturbance"})
    ward.fill()
    tip = "document.getElementById('tip')"
    shown = f"!{tip}.hidden && {tip}.textContent"
    with served(ward) as address:
        browser.resize(1366, 768)
        opened(browser, address)
        browser.evaluate("document.querySelector('.labels li').focus()")
        assert browser.evaluate(shown) == "Conduction disturbance"
        browser.press("ArrowRight")
        assert browser.evaluate(shown) == "Myocardial infarction"
        browser.press("Escape")
        assert not browser.evaluate(shown)
        x, y = browser.evaluate(
            "(({ left, top }) => [left + 5, top + 5])"
            "(document.querySelector('[data-label=CD]').getBoundingClientRect())"
        )
        browser.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        assert browser.wait_for(shown) == "Conduction disturbance"
        left, right = browser.evaluate(f"(({{left, right}}) => [left, right])({tip}.getBoundingClientRect())")
        assert 0 <= left < right <= 1366
        browser.command("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
        browser.wait_for(f"{tip}.hidden")
        described = (
            "[...document.querySelectorAll('.labels li')].map((l) => l.getAttribute('aria-description'))"
        )
        assert browser.evaluate(described) == [
            "Conduction disturbance",
            None,
            "Myocardial infarction",
            None,
            None,
        ]
        stops = "[...document.querySelectorAll('.labels li')].map((l) => l.tabIndex)"
        assert browser.evaluate(stops).count(0) == 1


@pytest.mark.parametrize("size", [SIZES[0], SIZES[1], SIZES[-1]])
def test_a_review_is_legible(browser: Browser, size: tuple[int, int]) -> None:
    ward = Ward(2)
    ward.fill()
    ward.worst()
    for time in range(30):
        ward.event(1, 20.0 + time, "gap", seconds=0.5)
    heights = "['review-trend', 'review-events'].map((id) => document.getElementById(id).clientHeight)"
    with served(ward) as address:
        scheme(browser, "light" if size == SIZES[0] else "dark")
        browser.resize(*size)
        opened(browser, address)
        browser.evaluate("document.querySelectorAll('.past')[1].click()")
        browser.wait_for("document.querySelector('#review-trend canvas') && true")
        found, (trend, events) = faults(browser), browser.evaluate(heights)
        close = browser.evaluate("document.getElementById('review-close').getBoundingClientRect().right")
    assert found == [] and trend >= 100 and events >= 50 and close <= size[0]
