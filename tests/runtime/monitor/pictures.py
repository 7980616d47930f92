"""Make the pictures of docs/monitor.md: ``python -m tests.runtime.monitor.pictures BUNDLE``.

The patients are the records of the demonstration, repeated; leads are taken off some of them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import DEMO, ROOT
from tests.runtime.monitor.browser import Browser

IMAGES = ROOT / "docs" / "images"
OPTIONS = ("--pool", "window:10s", "--threshold", "MI=0.6:0.5", "--threshold", "STTC=0.6:0.5")


def repeated(*records: int, seconds: int) -> NDArray[np.float32]:
    """Records of PTB-XL by their ecg_id, one after the other, each for ``seconds``; (n, leads) in mV."""
    archive = np.load(DEMO / "records.npz")
    numbers = [list(archive["ecg_id"]).index(record) for record in records]
    samples = archive["x_uv"][numbers].transpose(0, 2, 1).astype(np.float32) / 1000
    return np.concatenate([np.tile(each, (seconds // 10, 1)) for each in samples])


@contextmanager
def monitor(bundle: Path, patients: Mapping[str, NDArray[np.float32]], *options: str) -> Iterator[str]:
    """The command's page of patients by name, and its address."""
    archive = np.load(DEMO / "records.npz")
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*OPTIONS, "--output", f"{folder}/out.jsonl", *options]
        for number, (name, samples) in enumerate(patients.items()):
            path = Path(folder, f"{number}.npz")
            np.savez(path, samples=samples, leads=archive["leads"], rate=100, unit="mV")
            arguments += [str(path), "--name", name]
        command = [sys.executable, "-m", "multires_edge", "monitor", str(bundle), "--port", "0", *arguments]
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait()


def take(browser: Browser, name: str, width: int, height: int, *, scheme: str = "dark") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.command("Emulation.setEmulatedMedia", features=features)
    browser.resize(width, height)
    browser.evaluate("(document.activeElement.blur(), 0)")
    time.sleep(2)
    path = IMAGES / f"monitor-{name}.png"
    browser.screenshot(path)
    with Image.open(path) as image:
        smaller = image.convert("RGB").quantize(256)  # a third of the size
    smaller.save(path, optimize=True)


def main(bundle: Path) -> None:
    """Take every picture."""
    browser = Browser()
    well = repeated(9, seconds=60)
    alarm = repeated(116, seconds=60)
    lead_off = alarm.copy()
    lead_off[2500:, 8] = np.nan
    off = repeated(1219, seconds=60)
    off[2600:] = np.nan

    with monitor(
        bundle, {"Bed 1": well, "Bed 2": lead_off, "Bed 3": repeated(175, seconds=60), "Bed 4": off}
    ) as address:
        browser.open(address)
        browser.wait_for("document.querySelector('.alarm .trouble') && true")
        take(browser, "four", 1600, 900)
        take(browser, "tablet", 820, 1180, scheme="light")
        browser.evaluate("document.querySelectorAll('.enlarge')[1].click()")
        take(browser, "lead-off", 1600, 900)
    with monitor(bundle, {"Bed 3": alarm}) as address:
        browser.open(address)
        browser.wait_for("document.querySelector('.alarm .onset') && true")
        take(browser, "phone", 360, 640)
    with monitor(bundle, {"Bed 1": well}) as address:
        browser.open(address)
        browser.wait_for("document.querySelector('.record .value').textContent >= '0:30'")
        take(browser, "one", 1600, 900)
    hour = repeated(9, 175, 9, 116, 157, 9, seconds=600)
    hour[200_000:215_000] = np.nan
    with monitor(bundle, {"Bed 3": hour}, "--speed", "max") as address:
        time.sleep(30)  # no browser keeps up with an hour in seconds
        browser.open(address)
        browser.wait_for("document.querySelector('[data-feed=ended]') && true")
        browser.evaluate("document.querySelector('.past').click()")
        browser.wait_for("document.querySelector('#review-trend canvas') && true")
        take(browser, "review", 1000, 700)
    browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
