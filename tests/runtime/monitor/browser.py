"""A headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

_FLAGS = [
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--mute-audio",
]
_PATIENCE = 60.0
_HEARD = (
    "Runtime.exceptionThrown",
    "Log.entryAdded",
    "Network.requestWillBeSent",
    "Network.webSocketCreated",
)


def find_chromium() -> str | None:
    """The browser's path, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page of a browser of our own. Commands are those of the DevTools protocol."""

    def __init__(self, width: int = 1600, height: int = 900) -> None:
        program = find_chromium()
        assert program is not None
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        flags = [*_FLAGS, f"--user-data-dir={self._profile}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            flags.append("--no-sandbox")  # its sandbox refuses to work for root
        self._process = subprocess.Popen(
            [program, *flags, "about:blank"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._opened = ExitStack()
        self._socket = self._opened.enter_context(
            connect(
                self._address(),
                max_size=1 << 26,
                compression=None,
                ping_interval=None,
                close_timeout=1,
                proxy=None,
            )
        )
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")
        self.resize(width, height)

    def _address(self) -> str:
        told = Path(self._profile, "DevToolsActivePort")
        until = time.monotonic() + _PATIENCE
        while not told.exists() or len(told.read_text().splitlines()) < 2:
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("chromium does not start")
            time.sleep(0.02)
        port, path = told.read_text().splitlines()
        return f"ws://127.0.0.1:{port}{path}"

    def close(self) -> None:
        self._session = None
        self._opened.close()
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self._profile, ignore_errors=True)

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        request: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        self._socket.send(json.dumps(request))
        while True:
            answer = json.loads(self._socket.recv(timeout=_PATIENCE))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            if answer.get("method") in _HEARD:
                self.events.append(answer)

    def resize(self, width: int, height: int) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, url: str) -> None:
        self.events.clear()
        self.command("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of an expression, once it is true of the page."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                value = self.evaluate(f"document.readyState === 'complete' && ({expression})")
            except RuntimeError:
                value = None  # between two documents
            if value:
                return value
            if time.monotonic() > until:
                raise AssertionError(f"not within {_PATIENCE:.0f} s: {expression}")
            time.sleep(0.03)

    def press(self, key: str, text: str = "") -> None:
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, " ": 32}
        shared = {"key": key, "windowsVirtualKeyCode": codes[key]}
        text = text or {"Enter": "\r", " ": " "}.get(key, "")
        self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
        self.command("Input.dispatchKeyEvent", type="keyUp", **shared)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))

    def complaints(self) -> list[str]:
        """What the console has to say: errors, refused requests, violations of the policy."""
        self.evaluate("0")
        found = []
        for event in self.events:
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                found.append(details.get("exception", {}).get("description", details["text"]))
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(parameters["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """The addresses of all that the page has asked for."""
        self.evaluate("0")
        addresses = [
            e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"
        ]
        return addresses + [
            e["params"]["url"] for e in self.events if e["method"] == "Network.webSocketCreated"
        ]
