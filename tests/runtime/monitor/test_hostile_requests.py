"""The page's server among clients that mean harm: it answers or closes, and everybody else's page goes on."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from multires_edge.runtime.monitor.access import Gate
from multires_edge.runtime.monitor.assets import security_headers
from multires_edge.runtime.monitor.connection import MOST_STRANGERS
from tests.hostile import COUNT
from tests.runtime.conftest import beats, two_leads
from tests.runtime.monitor.hostile_requests import Attack, hostile_requests
from tests.waiting import PATIENCE, until

__all__ = ["two_leads"]

TOKEN = "correct horse"
COOKIE = f"Cookie: {(Gate('0.0.0.0', TOKEN).cookie_for('/?token=correct+horse') or '').partition(';')[0]}"
BEARER = f"Authorization: Bearer {TOKEN}"
_AT_ONCE = 16


class Monitor:
    """The command in a process of its own."""

    def __init__(self, bundle: Path, source: Path) -> None:
        command = [sys.executable, "-m", "multires_edge", "monitor", bundle, source, "--port", "0"]
        self.process = subprocess.Popen(
            [*map(str, command), "--token", TOKEN], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1].strip("/\n"))
        self._folder = Path(f"/proc/{self.process.pid}")

    @property
    def files(self) -> int:
        return len(list((self._folder / "fd").iterdir()))

    @property
    def megabytes(self) -> float:
        (line,) = [x for x in (self._folder / "status").read_text().splitlines() if x.startswith("VmRSS")]
        return int(line.split()[1]) / 1024

    def page(self) -> ClientConnection:
        name, _, value = COOKIE.partition(": ")
        return connect(
            f"ws://127.0.0.1:{self.port}/stream", additional_headers={name: value}, proxy=None, max_queue=None
        )

    def end(self) -> str:
        """What it has said on standard error until Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=PATIENCE)[1]


@pytest.fixture
def monitor(two_leads: Path, tmp_path: Path) -> Iterator[Monitor]:
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    source = tmp_path / "a.npz"
    np.savez(source, samples=beats(900, 250), leads=["I", "II"], rate=250, unit="mV")
    monitor = Monitor(two_leads, source)
    try:
        yield monitor
    finally:
        monitor.process.kill()
        monitor.process.communicate()


@contextmanager
def watching(monitor: Monitor) -> Iterator[list[float]]:
    """Times at which a well-behaved page gets a sign of life, until the end."""
    ticks: list[float] = []
    with monitor.page() as page:

        def watch() -> None:
            ticks.extend(time.monotonic() for message in page if message == '{"type": "tick"}')

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        yield ticks
    thread.join(PATIENCE)


def attack(port: int, how: Attack) -> str | None:
    """Returns what is wrong with the server's reaction: it must answer properly, or close the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        try:
            for number, part in enumerate(how.parts):
                connection.sendall(part)
                while how.shakes and number == 0 and b"\r\n\r\n" not in received:
                    more = connection.recv(65536)
                    if not more:
                        return f"{how.what}: no answer to a proper handshake"
                    received += more
                if how.paused:
                    time.sleep(0.05)
            if not how.paused:
                connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65536):
                received += more
        except (ConnectionResetError, BrokenPipeError):
            pass  # it is closed
        except TimeoutError:
            return f"{how.what}: the connection stays open"
    head, _, body = received.partition(b"\r\n\r\n")
    if not received:
        return None
    status, *lines = head.decode("latin-1").split("\r\n")
    if not status.startswith("HTTP/1.1 ") or status.startswith("HTTP/1.1 500"):
        return f"{how.what}: {status!r}"
    given = dict(line.split(": ", 1) for line in lines)
    missing = security_headers("").keys() - given.keys()
    if missing or (not status.startswith("HTTP/1.1 101") and (b"Traceback" in body or b"<script>al" in body)):
        return f"{how.what}: {status}, without {', '.join(missing)}: {body!r:.200}"
    return None


@pytest.mark.slow
def test_no_request_does_harm(monitor: Monitor) -> None:
    attacks = list(hostile_requests(COUNT, [COOKIE, BEARER]))
    with monitor.page() as page:
        assert json.loads(page.recv(timeout=PATIENCE))["type"] == "hello"
    for each in attacks[:20]:  # what is loaded at first use is no leak
        attack(monitor.port, each)
    files, megabytes = monitor.files, monitor.megabytes
    with watching(monitor) as ticks, ThreadPoolExecutor(_AT_ONCE) as pool:
        wrong = [fault for fault in pool.map(lambda each: attack(monitor.port, each), attacks) if fault]
        seen = len(ticks)
        until(lambda: len(ticks) >= seen + 2, of=monitor.process)  # the page of a bystander goes on
    with monitor.page() as page:
        assert json.loads(page.recv(timeout=PATIENCE))["type"] == "hello"
    assert wrong == []
    until(lambda: monitor.files <= files, of=monitor.process)
    # The page's history of 30 s fills up meanwhile: 60 kB.
    assert monitor.megabytes < megabytes + 16 + COUNT / 200
    assert monitor.process.poll() is None
    assert monitor.end() == ""


@pytest.mark.slow
def test_very_many_connections_leave_room(monitor: Monitor) -> None:
    """Each would hold a file of the process until its request is late."""
    files = monitor.files
    with watching(monitor) as ticks:
        idle = [socket.create_connection(("127.0.0.1", monitor.port)) for _ in range(5 * MOST_STRANGERS)]
        with monitor.page() as page:
            assert json.loads(page.recv(timeout=PATIENCE))["type"] == "hello"
            until(lambda: monitor.files <= files + MOST_STRANGERS + 4, of=monitor.process)
            seen = len(ticks)
            until(lambda: len(ticks) > seen, of=monitor.process)
        for connection in idle:
            connection.close()
    assert monitor.end() == ""
