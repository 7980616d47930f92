"""The page in a real browser, from a file server that serves nothing else."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from multires_edge.runtime import Bundle
from tests.conftest import ROOT
from tests.export.web.test_page import Recording, by_command, differences
from tests.runtime.conftest import LUDB
from tests.runtime.monitor.browser import Browser, find_chromium

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium: Debian's package chromium")

# The decisions that the page offers to save.
KEEP = """(() => {
  const made = URL.createObjectURL;
  URL.createObjectURL = (blob) => (blob.text().then((text) => (window.saved = text)), made.call(URL, blob));
  return true;
})()"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def address(demo_page: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(demo_page))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


def opened(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.wait_for("document.querySelector('#figures').dataset.passed === 'true'")
    browser.evaluate(KEEP)


def drop(browser: Browser, files: dict[str, bytes]) -> None:
    """Let files fall onto the page."""
    contents = json.dumps({name: list(content) for name, content in files.items()})
    browser.evaluate(
        f"""(() => {{
          window.saved = null;
          const dataTransfer = new DataTransfer();
          for (const [name, bytes] of Object.entries({contents}))
            dataTransfer.items.add(new File([new Uint8Array(bytes)], name));
          const event = {{bubbles: true, cancelable: true, dataTransfer}};
          document.body.dispatchEvent(new DragEvent("drop", event));
          return true;
        }})()"""
    )


def saved(browser: Browser) -> list[dict[str, Any]]:
    text: str = browser.wait_for("window.saved")
    return [json.loads(line) for line in text.splitlines()]


def test_a_dropped_record(browser: Browser, address: str, twelve_leads: Bundle) -> None:
    opened(browser, address)
    browser.evaluate("document.querySelector('#times').value = '16'")
    files = [LUDB.with_suffix(".hea"), LUDB.with_suffix(".dat")]
    drop(browser, {path.name: path.read_bytes() for path in files})
    wanted = by_command(twelve_leads, Recording(LUDB, files, False, 500, "mV"))
    assert max(differences(saved(browser), [dict(each) for each in wanted])) <= 1e-5
    # It plays to the end, and then shows the last decision.
    browser.wait_for("document.querySelector('.feed').textContent === 'End of the record'")
    rows = """[...document.querySelectorAll(".labels li")].map(
      (row) => [row.dataset.label, Number(row.dataset.probability)])"""
    assert dict(browser.evaluate(rows)) == pytest.approx(wanted[-1]["probabilities"], abs=1e-5)
    assert browser.evaluate("document.querySelectorAll('.lead').length") > 0
    drawn = """(() => { const canvas = document.querySelector(".u-over canvas");
      const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.some((value) => value > 0) })()"""
    assert browser.evaluate(drawn)
    # No request leaves for another place, and nothing is refused by the policy.
    assert browser.complaints() == []
    assert [
        each for each in browser.requests() if not each.startswith((address, "blob:" + address[:-1]))
    ] == []


def test_the_example_and_a_wrong_file(browser: Browser, address: str, twelve_leads: Bundle) -> None:
    opened(browser, address)
    drop(browser, {"a.dcm": b"DICM"})
    browser.wait_for(
        "document.querySelector('#message').textContent.includes('this page reads a WFDB header')"
    )
    browser.evaluate("document.querySelector('#example').click()")
    shipped = ROOT / "examples" / "ecg.csv"
    wanted = by_command(twelve_leads, Recording(shipped, [shipped], True, 100, "mV"))
    assert max(differences(saved(browser), wanted)) <= 1e-5
    assert browser.evaluate("document.querySelector('#message').hidden")


@pytest.mark.parametrize("width", [360, 768, 1280, 3840])
def test_every_width(browser: Browser, address: str, width: int) -> None:
    browser.resize(width, max(640, width * 9 // 16))
    opened(browser, address)
    for playing in (False, True):
        if playing:
            browser.evaluate("document.querySelector('#example').click()")
            saved(browser)
        outside = """[...document.querySelectorAll("button, select, input, dd, .labels li, .traces, #save")]
          .filter((each) => each.checkVisibility()).filter((each) => {
            const { left, right, width } = each.getBoundingClientRect();
            return left < 0 || right > innerWidth + 1 || !width;
          }).map((each) => each.id || each.className)"""
        assert browser.evaluate(outside) == []
        assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_it_can_be_used_by_names(browser: Browser, address: str) -> None:
    """Every control has a name, for those who do not see it."""
    opened(browser, address)
    nodes = browser.command("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "combobox", "spinbutton", "checkbox")
    controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
    assert len(controls) >= 7
    assert all(node["name"]["value"] for node in controls)
