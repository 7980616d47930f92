"""Receivers on this computer: a real broker, and a server that does as it is told."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from multires_edge.runtime.ecg.sinks.protocol import About, Line, Sink
from multires_edge.runtime.ecg.sinks.registry import open_sinks
from tests.ports import free_port
from tests.waiting import PATIENCE, until

ABOUT = About({"a": 250.0, "tcp://10.0.0.7:5000": 500.0}, ["A", "B"], 0.5, "two leads", "multires-edge 1")
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def decision(time_: float, source: str = "a", **more: Any) -> dict[str, Any]:
    """A decision as in a line of output."""
    told = {"type": "decision", "source": source, "time": time_, "seen": min(time_, 10.0)}
    return {**told, "probabilities": {"A": 0.25, "B": 0.5}, "quality": {}, **more}


def event(time_: float | None, kind: str, source: str | None = "a", **details: Any) -> dict[str, Any]:
    """An event as in a line of output."""
    return {"type": "event", "source": source, "time": time_, "event": kind, **details}


def line(entry: dict[str, Any], name: str = "0123456789abcdef-0", at: str | None = None) -> Line:
    return Line(name, json.dumps(entry, ensure_ascii=False), entry, at)


def texts(start: int, end: int) -> list[str]:
    """Lines of output with the times from ``start`` to ``end``."""
    return [json.dumps(decision(float(i))) for i in range(start, end)]


def opened(spec: str, about: About = ABOUT) -> Sink:
    """The sink at an address, which starts."""
    (found,) = open_sinks([spec], about)
    found.sink.load(None)
    return found.sink


class Broker:
    """Mosquitto, which can be killed and started again. ``options`` are lines of its configuration."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._file = folder / "mosquitto.conf"
        given = [f"listener {self.port} 127.0.0.1", *(options or ["allow_anonymous true"])]
        self._file.write_text(
            "\n".join([*given, "user root", "log_type none", "max_queued_messages 0"]) + "\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen([MOSQUITTO, "-c", self._file], stderr=subprocess.DEVNULL)
        until(self._answers, of=self._process)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that lets everybody in."""
    if MOSQUITTO is None:
        pytest.skip("needs mosquitto")
    running = Broker(tmp_path)
    yield running
    running.kill()


class Subscriber:
    """Takes all messages of a broker: pairs of topic and payload, and whether each was retained."""

    def __init__(self, port: int, topic: str = "#") -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages: list[tuple[str, str]] = []
        self.retained: list[bool] = []
        ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.reconnect_delay_set(0.1, 0.1)  # type: ignore[arg-type]
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(PATIENCE)

    def _take(self, _: Any, __: Any, message: Any) -> None:
        self.messages.append((message.topic, message.payload.decode()))
        self.retained.append(message.retain)

    @property
    def times(self) -> list[float]:
        return [json.loads(text)["time"] for _, text in self.messages]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class WebServer:
    """Takes posts, and answers with the next of ``answers``: a status, headers, or a function of the handler.

    After the last of them, with 200.
    """

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.requests.append((self.path, dict(self.headers), body))
                answer = server.answers.pop(0) if server.answers else 200
                if callable(answer):
                    answer(self)
                    return
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The entries of all requests."""
        return [entry for _, _, body in self.requests for entry in json.loads(body)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()
