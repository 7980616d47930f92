"""The page in a real browser: it shows what the JSON lines say, and says what is wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.export import export_bundle
from multires_edge.runtime import Bundle
from multires_edge.runtime.monitor.access import Gate
from multires_edge.runtime.monitor.hub import Hub
from multires_edge.runtime.monitor.patient import Identity
from multires_edge.runtime.monitor.server import MonitorServer
from tests.runtime.conftest import CARD, beats, opened, twelve_leads, two_leads
from tests.runtime.monitor.browser import Browser, find_chromium
from tests.waiting import PATIENCE, until

__all__ = ["opened", "twelve_leads", "two_leads"]

HIGH_PASS = {"kind": "butterworth", "order": 1, "corner": 0.25}

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium: Debian's package chromium")

# Everything that the decision of a patient ever shows, from the moment this runs.
RECORD = """(() => {
  window.shown = [];
  for (const patient of document.querySelectorAll(".patient")) {
    const decision = patient.querySelector(".decision");
    const note = () => decision.dataset.time && shown.push({
      source: patient.dataset.source,
      time: Number(decision.dataset.time),
      probabilities: Object.fromEntries([...decision.querySelectorAll("li")].map(
        (row) => [row.dataset.label, Number(row.dataset.probability)])),
      text: [...decision.querySelectorAll("li .value")].map((value) => value.textContent),
      signal: decision.querySelector(".signal").textContent,
    });
    note();
    new MutationObserver(note).observe(decision, {attributes: true, attributeFilter: ["data-time"]});
  }
  return true;
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@contextmanager
def monitor(*arguments: object, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a user starts it, and the address it says."""
    line = [
        sys.executable,
        "-m",
        "multires_edge",
        "monitor",
        *map(str, arguments),
        "--port",
        str(port),
    ]
    process = subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.stderr.read()
        yield process, address
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def recording(path: Path, seconds: float, **changes: Any) -> Path:
    arrays: dict[str, Any] = {"samples": beats(seconds, 250), "leads": ["I", "II"], "rate": 250, "unit": "mV"}
    np.savez(path, **(arrays | changes))
    return path


class Device:
    """A device on a socket, which sends as many seconds as it is told."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._client: socket.socket | None = None
        self._ready = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        self._client, _ = self._listener.accept()
        self._client.sendall(b'{"leads": ["I", "II"], "rate": 250, "unit": "mV"}\n')
        self._ready.set()

    def send(self, seconds: float) -> None:
        assert self._ready.wait(PATIENCE) and self._client is not None
        rows = [json.dumps({"samples": [row]}) for row in beats(seconds, 250).round(4).tolist()]
        self._client.sendall("".join(f"{row}\n" for row in rows).encode())

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._listener.close()


def test_shows_the_decisions_of_the_lines(browser: Browser, two_leads: Path, tmp_path: Path) -> None:
    """Two patients, one of whom loses a lead."""
    x = beats(5, 250)
    x[500:, 1] = np.nan
    sources = [recording(tmp_path / "a.npz", 5), recording(tmp_path / "b.npz", 5, samples=x)]
    out = tmp_path / "out.jsonl"
    names = ("--name", "Bed 1", "--name", "Bed 2")
    with monitor(two_leads, *sources, *names, "--output", out, "--every", "0.25s") as (_, address):
        browser.open(address)
        browser.wait_for("document.querySelector('.patient') && true")
        browser.evaluate(RECORD)
        browser.wait_for("document.querySelectorAll('[data-feed=ended]').length === 2")
        shown = browser.evaluate("shown")
        assert browser.complaints() == []
        assert all(url.split("/")[2] == address.split("/")[2] for url in browser.requests())
        alerts = browser.evaluate("[...document.querySelectorAll('.alarm')].map((a) => a.textContent)")
        headings = browser.evaluate(
            "[...document.querySelectorAll('.patient .name')].map((h) => h.textContent)"
        )
        marked = browser.evaluate("[...document.querySelectorAll('.lead.faulty')].map((p) => p.textContent)")
    assert alerts == ["The recording has ended: the display is out of date"] * 2
    assert headings == ["Bed 1", "Bed 2"]
    assert marked == ["II no value"]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    for source in map(str, sources):
        decided = [e for e in lines if e["type"] == "decision" and e["source"] == source]
        mine = [e for e in shown if e["source"] == source]
        assert len(decided) == 20 and mine  # the page took a moment to be there
        decided = decided[-len(mine) :]
        assert [(e["time"], e["probabilities"]) for e in mine] == [
            (e["time"], e["probabilities"]) for e in decided
        ]
        assert all(
            text == [f"{round(100 * p)} %" for p in e["probabilities"].values()]
            for e, text in ((e, e["text"]) for e in mine)
        )
        faulty = ["II" in e["quality"] for e in decided]
        assert ["Check leads: II no value" in e["signal"] for e in mine] == faulty
        assert any(faulty) == (source == str(sources[1]))


# For each patient and lead: the mean height of what is drawn, and the widest gap in it, in CSS pixels.
DRAWN = """[...document.querySelectorAll(".u-over canvas")].map((canvas) => {
  const { width, height } = canvas, lanes = 2;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  return Array.from({ length: lanes }, (_, lane) => {
    let [sum, count, last, gap] = [0, 0, 0, 0];
    for (let x = 0; x < width; x++) {
      for (let y = Math.floor((lane * height) / lanes); y < Math.floor(((lane + 1) * height) / lanes); y++) {
        if (pixels[4 * (y * width + x) + 3] < 128) continue;
        [sum, count, gap, last] = [sum + y, count + 1, Math.max(gap, x - last), x];
      }
    }
    return [sum / count, gap];
  });
})"""


def test_traces_are_drawn_behind_the_cards_filter(browser: Browser, two_leads: Path, tmp_path: Path) -> None:
    """Two patients with the same heart: one has offsets of volts, and a lead that is off for a second."""
    card = CARD | {"preprocessing": CARD["preprocessing"] | {"high_pass": HIGH_PASS}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    checkpoint = two_leads.parent / "ckpt.pth"
    bundle = export_bundle(checkpoint, tmp_path / "a.bundle", card=tmp_path / "card.json").path
    x = beats(4, 250) + np.array([0.3, -0.2])
    x[500:750, 1] = np.nan
    sources = [recording(tmp_path / "a.npz", 4), recording(tmp_path / "b.npz", 4, samples=x)]
    with monitor(bundle, *sources) as (_, address):
        browser.open(address)
        browser.wait_for("document.querySelectorAll('[data-feed=ended]').length === 2")
        browser.wait_for("[...document.querySelectorAll('.record .value')].every((v) => v.textContent)")
        browser.wait_for(f"{DRAWN}.every((lanes) => lanes.every(([mean]) => mean))")
        told = browser.evaluate("document.getElementById('scale').textContent")
        assert "as the network sees it: butterworth with order 1, 0.25 Hz" in told
        pixels_per_second = 25 * 96 / 25.4

        def is_drawn() -> bool:  # the last samples are not there at once
            (good, _), (moved, off) = browser.evaluate(DRAWN)
            whole = max(good[1], moved[1]) < 0.2 * pixels_per_second
            missing = bool(off[1] == pytest.approx(pixels_per_second, rel=0.05))
            return whole and missing and bool(moved[0] == pytest.approx(good[0], abs=1))

        until(is_drawn)


def test_keyboard(browser: Browser, two_leads: Path, tmp_path: Path) -> None:
    sources = [recording(tmp_path / f"{name}.npz", 60) for name in "ab"]
    with monitor(two_leads, *sources, "--threshold", "A=0.01") as (_, address):
        browser.open(address)
        browser.wait_for("document.querySelectorAll('.acknowledge:not([hidden])').length === 2")
        stops = []
        for _ in range(13):
            browser.press("Tab")
            stops.append(
                browser.evaluate(
                    "document.activeElement.id || document.activeElement.className.split(' ')[0]"
                )
            )
        card = ["patient", "acknowledge", "past", "enlarge"]
        assert stops[:12] == ["speed", "gain", "leads", "freeze", *card, *card]
        browser.evaluate("document.querySelector('.patient').focus()")
        browser.press("ArrowRight")
        focused = "[...document.querySelectorAll('.patient')].indexOf(document.activeElement)"
        assert browser.evaluate(focused) == 1
        visible = "[...document.querySelectorAll('.patient')].map((p) => !p.hidden)"
        browser.press("Enter")
        assert browser.evaluate(visible) == [False, True]
        others = "document.getElementById('others')"
        warning = browser.wait_for(f"!{others}.hidden && {others}.textContent")
        assert warning == f"{sources[0]}A"
        browser.press("Escape")
        assert browser.evaluate(visible) == [True, True] and browser.evaluate(focused) == 1
        browser.wait_for(f"{others}.hidden")
        browser.evaluate("document.getElementById('freeze').focus()")
        browser.press(" ")
        assert browser.evaluate("document.getElementById('freeze').getAttribute('aria-pressed')") == "true"
        browser.press(" ")
        assert browser.evaluate("document.getElementById('freeze').getAttribute('aria-pressed')") == "false"


def test_reduced_motion_moves_once_a_second(browser: Browser, two_leads: Path, tmp_path: Path) -> None:
    changes = """new Promise((resolve) => {
      const prototype = CanvasRenderingContext2D.prototype, stroke = prototype.stroke;
      let drawn = 0;
      prototype.stroke = function (...path) {
        drawn += this.canvas.parentElement?.className === "u-over";
        return stroke.apply(this, path);
      };
      setTimeout(() => {
        prototype.stroke = stroke;
        resolve(drawn);
      }, 1500);
    })"""
    with monitor(two_leads, recording(tmp_path / "a.npz", 60)) as (_, address):
        browser.open(address)
        browser.wait_for("document.querySelector('[data-feed=live]') && true")
        browser.wait_for("document.querySelector('.u-over canvas') && true")
        moving = browser.evaluate(changes)
        reduced = [{"name": "prefers-reduced-motion", "value": "reduce"}]
        browser.command("Emulation.setEmulatedMedia", features=reduced)
        calm = browser.evaluate(changes)
        browser.command("Emulation.setEmulatedMedia", features=[])
    assert calm <= 3 < moving


def test_a_device_that_stalls_and_leaves(browser: Browser, two_leads: Path) -> None:
    device = Device()
    alarm = "document.querySelector('.alarm')"
    try:
        with monitor(two_leads, device.address) as (_, address):
            browser.open(address)
            browser.wait_for("document.querySelector('.patient') && true")
            device.send(2)
            browser.wait_for("document.querySelector('[data-feed=stalled]') && true")
            assert browser.evaluate(f"[{alarm}.getAttribute('role'), {alarm}.hidden]") == ["alert", False]
            assert (
                browser.evaluate(f"{alarm}.textContent")
                == "No samples since 0:02.0: the display is out of date"
            )
            assert browser.wait_for("document.querySelector('.patient.old') && true")
            colours = "['.signal', '.when'].map((c) => getComputedStyle(document.querySelector(c)).color)"
            signal, quiet = browser.evaluate(colours)
            assert signal == quiet  # what was good once is old too

            def is_live() -> Any:
                device.send(0.1)
                return browser.evaluate(f"!!document.querySelector('[data-feed=live]') && {alarm}.hidden")

            until(is_live)
            device.close()
            browser.wait_for("document.querySelector('[data-feed=ended]') && true")
            told = browser.evaluate(f"!{alarm}.hidden && {alarm}.textContent")
            assert told == "The device has closed the connection: the display is out of date"
    finally:
        device.close()


def test_finds_the_server_again(browser: Browser, two_leads: Path, tmp_path: Path) -> None:
    source = recording(tmp_path / "a.npz", 60)
    link = "document.getElementById('link').dataset.state"
    banner = "document.getElementById('banner')"
    with monitor(two_leads, source) as (_, address):
        browser.open(address)
        browser.wait_for(f"{link} === 'open'")
    browser.wait_for(f"{link} === 'lost'")
    assert browser.evaluate(f"[{banner}.getAttribute('role'), {banner}.hidden]") == ["alert", False]
    assert "The display is out of date" in browser.evaluate(f"{banner}.textContent")
    browser.evaluate("window.same = true")
    with monitor(two_leads, source, "--name", "Back", port=int(address.split(":")[2].strip("/"))):
        browser.wait_for("document.querySelector('h2')?.textContent === 'Back'")
        assert browser.evaluate(f"[{link}, {banner}.hidden, window.same]") == ["open", True, True]


def test_acknowledge_and_review(browser: Browser, two_leads: Path, tmp_path: Path) -> None:
    """By the keyboard, on one page; the other learns of it. The alarm stays on the screen until it ends."""
    source, out = recording(tmp_path / "a.npz", 60), tmp_path / "out.jsonl"
    options = ("--threshold", "A=0.01", "--alarm-after", "0.5s", "--output", out)
    with monitor(two_leads, source, *options) as (_, address):
        browser.open(address)
        button = "document.querySelector('.acknowledge')"
        browser.wait_for(f"!{button}.hidden")
        told = browser.evaluate("document.querySelector('.alarm').textContent")
        assert told == "A alarm since 0:00.5"
        browser.evaluate(f"({button}.focus(), 0)")
        browser.press("Enter")
        browser.wait_for(f"{button}.hidden")
        assert browser.evaluate("document.querySelector('.alarm .acknowledged').textContent") == f"✓ {told}"
        assert browser.evaluate("[...document.querySelector('.patient').classList]") == ["patient"]
        browser.open(address)
        browser.wait_for("document.querySelector('.alarm .acknowledged') && true")
        kinds = {json.loads(line).get("event") for line in out.read_text().splitlines()}
        assert kinds == {None, "onset"}, "the output has what `stream` writes"

        browser.evaluate("document.querySelector('.past').click()")
        browser.wait_for("document.querySelectorAll('#review-events li').length === 1")
        browser.wait_for("document.querySelector('#review-trend canvas') && true")
        heard = browser.evaluate("document.getElementById('review-events').textContent")
        assert heard.startswith("0:00.5 A above its threshold, ")
        assert "the highest probability of every" in browser.evaluate(
            "document.getElementById('review-note').textContent"
        )
        others = "document.getElementById('others').textContent"
        assert browser.wait_for(others) == f"{source}✓ A", "a review hides no warning"
        browser.press("Escape")
        browser.wait_for("document.getElementById('review').hidden && !document.querySelector('main').hidden")
        assert browser.complaints() == []


def test_frame_rate(
    browser: Browser, twelve_leads: Bundle, tmp_path: Path, record_property: Any, capsys: Any
) -> None:
    """Twelve leads at 500 Hz; reported, because it is the machine's."""
    leads = twelve_leads.manifest.preprocessing.channels  # type: ignore[union-attr]
    path = recording(tmp_path / "a.npz", 30, samples=beats(30, 500, leads=12), leads=leads, rate=500)
    with monitor(twelve_leads.path, path) as (_, address):
        browser.open(address)
        browser.wait_for("document.querySelector('[data-feed=live]') && true")
        time.sleep(1.5)
        frames = browser.wait_for("document.getElementById('frames').textContent")
        browser.wait_for(
            "[...document.querySelectorAll('.u-over canvas')].every((c) => "
            "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((byte) => byte))"
        )
    record_property("frames", frames)
    with capsys.disabled():
        print(f"[12 leads at 500 Hz: {frames}] ", end="")


def test_the_token_is_asked_for_once(browser: Browser, two_leads: Path, tmp_path: Path) -> None:
    source = recording(tmp_path / "a.npz", 60)
    with monitor(two_leads, source, "--token", "correct horse") as (_, address):
        browser.open(address)
        browser.wait_for("document.querySelector('form') && true")
        assert "Give the token" in browser.evaluate("document.body.textContent")
        browser.evaluate("(document.querySelector('input').value = 'correct horse', 0)")
        browser.evaluate("document.querySelector('button').click()")
        browser.wait_for("document.querySelector('[data-feed=live]') && true")
        assert browser.evaluate("[location.search, document.cookie]") == ["", ""]


def test_a_display_that_is_too_slow_says_so(browser: Browser) -> None:
    about = {"labels": ["X"], "descriptions": {}, "thresholds": {}, "every": 0.5}
    hub = Hub([Identity("a", "Bed 1", 500.0)], ["I"], about)
    with MonitorServer(hub, Gate("127.0.0.1", None), "127.0.0.1", 0) as server:
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.wait_for("document.querySelector('.patient') && true")
        notice = "document.getElementById('notice')"
        assert browser.evaluate(f"{notice}.hidden")
        for _ in range(2):
            server.call(hub._put, '{"type": "dropped", "samples": 600, "lines": 2}')
        told = browser.wait_for(
            f"!{notice}.hidden && {notice}.textContent.includes('1200') && {notice}.textContent"
        )
        assert told.startswith("This display is too slow: 1200 samples and 4 decisions or events")
