"""The server as any program meets it: files, headers, refusals, and a socket."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.cookiejar import CookieJar
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from multires_edge.base.errors import InputError
from multires_edge.runtime.monitor.access import Gate
from multires_edge.runtime.monitor.assets import load_page
from multires_edge.runtime.monitor.hub import Hub
from multires_edge.runtime.monitor.patient import Identity
from multires_edge.runtime.monitor.server import MonitorServer
from tests.waiting import PATIENCE, until

TOKEN = "correct horse"


def make_hub() -> Hub:
    return Hub([Identity("a", "Bed 1", 500.0)], ["I", "II"], {"labels": ["X"]})


@pytest.fixture
def open_server() -> Iterator[MonitorServer]:
    with MonitorServer(make_hub(), Gate("127.0.0.1", None), "127.0.0.1", 0) as server:
        yield server


@pytest.fixture
def guarded() -> Iterator[MonitorServer]:
    with MonitorServer(make_hub(), Gate("127.0.0.1", TOKEN), "127.0.0.1", 0) as server:
        yield server


def get(
    server: MonitorServer, path: str = "/", method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


class TestFiles:
    def test_every_one_has_its_type_and_the_policy(self, open_server: MonitorServer) -> None:
        for path, asset in load_page().items():
            status, headers, body = get(open_server, path)
            assert (status, headers["Content-Type"], body) == (200, asset.content_type, asset.body)
            policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
            assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'"
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"

    def test_the_page_names_only_files_that_are_there(self) -> None:
        page = load_page()
        index = page["/"].body.decode()
        named = re.findall(r'(?:src|href)="([^"]+)"', index)
        assert len(named) == 6 and all(f"/{name}" in page for name in named)
        for path, asset in page.items():
            if path.endswith(".js") and "/uplot/" not in path:
                for name in re.findall(r'from "\./([^"]+)"', asset.body.decode()):
                    assert f"/{name}" in page

    def test_the_library_comes_with_its_licence(self) -> None:
        page = load_page()
        assert b"MIT License" in page["/uplot/LICENSE"].body
        version = re.search(rb"uPlot ([0-9.]+),", page["/uplot/NOTICE"].body)
        assert version is not None and b"v" + version[1] in page["/uplot/uPlot.iife.min.js"].body[:300]

    @pytest.mark.parametrize(
        "path", ["/nothing", "/../server.py", "/%2e%2e/server.py", "//etc/passwd", "/stream"]
    )
    def test_there_are_no_others(self, open_server: MonitorServer, path: str) -> None:
        status, headers, body = get(open_server, path)
        assert status == 404 and b"has no file" in body and "Content-Security-Policy" in headers

    def test_what_a_path_says_is_no_markup(self, open_server: MonitorServer) -> None:
        assert b"<script>" not in get(open_server, "/<script>alert(1)</script>")[2]


class TestRefusals:
    def test_another_name(self, open_server: MonitorServer) -> None:
        status, _, body = get(open_server, Host="evil.example")
        assert status == 421 and b"--allow-name" in body

    def test_another_site(self, open_server: MonitorServer) -> None:
        assert get(open_server, Origin="http://evil.example")[0] == 403
        evil = Origin("http://evil.example")
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{open_server.port}/stream", origin=evil, proxy=None)
        assert refused.value.response.status_code == 403

    @pytest.mark.slow
    def test_no_token(self, guarded: MonitorServer) -> None:
        for path in ("/", "/main.js", "/nothing"):
            status, _, body = get(guarded, path)
            assert status == 401 and b"Give the token" in body and b"<form" in body
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{guarded.port}/stream", proxy=None)
        assert refused.value.response.status_code == 401

    def test_a_wrong_token(self, guarded: MonitorServer) -> None:
        status, headers, body = get(guarded, "/?token=wrong")
        assert status == 401 and b"not the token" in body and "Set-Cookie" not in headers

    def test_the_token_leaves_the_address_bar(self, guarded: MonitorServer) -> None:
        status, headers, _ = get(guarded, "/?token=correct+horse")
        assert (status, headers["Location"]) == (303, "/")
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert get(guarded, "/", Cookie=cookie)[0] == 200
        with connect(
            f"ws://127.0.0.1:{guarded.port}/stream", additional_headers={"Cookie": cookie}, proxy=None
        ) as page:
            assert json.loads(page.recv(timeout=PATIENCE))["type"] == "hello"

    def test_two_monitors_on_one_host_keep_their_sessions(self) -> None:
        """A browser has one jar of cookies for all ports of a host."""
        tokens = ["first-token-1", "second-token-2"]
        with ExitStack() as stack:
            servers = [
                stack.enter_context(MonitorServer(make_hub(), Gate("127.0.0.1", token), "127.0.0.1", 0))
                for token in tokens
            ]
            direct = urllib.request.ProxyHandler({})
            jar = CookieJar()
            browser = urllib.request.build_opener(direct, urllib.request.HTTPCookieProcessor(jar))
            for query in ("?token={}", "?token={}", ""):  # to each in turn, and again
                for server, token in zip(servers, tokens, strict=True):
                    address = f"http://127.0.0.1:{server.port}/{query.format(token)}"
                    with browser.open(address, timeout=PATIENCE) as page:
                        assert page.status == 200
            assert len(jar) == 2

    def test_a_port_that_is_taken(self, open_server: MonitorServer) -> None:
        gate = Gate("127.0.0.1", None)
        with (
            pytest.raises(InputError, match=r"cannot listen there .*--port"),
            MonitorServer(make_hub(), gate, "127.0.0.1", open_server.port),
        ):
            pass


def test_a_page_gets_what_there_is_and_what_comes(open_server: MonitorServer) -> None:
    with connect(f"ws://127.0.0.1:{open_server.port}/stream", proxy=None) as page:
        kinds = [json.loads(page.recv(timeout=PATIENCE))["type"] for _ in range(3)]
        assert kinds == ["hello", "status", "now"]
        line = '{"type": "event", "source": "a", "time": 1.0, "event": "gap", "seconds": 2}'
        open_server.call(open_server._hub.line, line)
        while (message := page.recv(timeout=PATIENCE)) == '{"type": "tick"}':
            pass
        assert message == line
        while page.recv(timeout=PATIENCE) != '{"type": "tick"}':
            pass


def test_a_page_that_reads_nothing_holds_nobody_up(open_server: MonitorServer) -> None:
    hub = open_server._hub
    slow = socket.create_connection(("127.0.0.1", open_server.port))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.sendall(
        b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    assert slow.recv(12) == b"HTTP/1.1 101"
    with connect(f"ws://127.0.0.1:{open_server.port}/stream", proxy=None, max_queue=None) as quick:
        spent = 0.0
        for second in range(400):
            started = time.thread_time()
            open_server.call(hub.samples, 0, 500 * second, np.zeros((500, 2)))
            spent += time.thread_time() - started
            while isinstance(quick.recv(timeout=PATIENCE), str):
                pass
        queues = sorted(client._bytes for client in hub._clients)
        lost = sorted(client._lost_samples for client in hub._clients)
    # The slow one's queue is full and has lost most; the quick one's is empty and has lost nothing.
    assert (queues[0], lost[0]) == (0, 0)
    assert 0 < queues[1] <= hub._room and lost[1] > 0
    assert spent < 1.0
    slow.close()


@pytest.mark.parametrize(("message", "code"), [("x" * 5000, 1009), ("{}", 1008), (b"x", 1008)])
def test_a_page_has_nothing_else_to_say(open_server: MonitorServer, message: str | bytes, code: int) -> None:
    with connect(f"ws://127.0.0.1:{open_server.port}/stream", proxy=None) as page:
        page.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(100):
                page.recv(timeout=PATIENCE)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == code


def test_an_alarm_that_one_page_acknowledges_is_acknowledged_on_all(open_server: MonitorServer) -> None:
    onset = '{"type": "event", "source": "a", "time": 3.5, "event": "onset", "label": "X", "probability": 1}'
    open_server.call(open_server._hub.line, onset)
    address = f"ws://127.0.0.1:{open_server.port}/stream"
    with connect(address, proxy=None) as mine, connect(address, proxy=None) as other:
        seen = {"type": "acknowledge", "source": "a", "label": "X", "since": 3.5}
        for _ in range(3):  # again and again changes nothing
            mine.send(json.dumps(seen))
        for page in (mine, other):
            acknowledged: list[str] = []
            while not acknowledged:
                acknowledged = json.loads(page.recv(timeout=PATIENCE)).get("acknowledged", [])
            assert acknowledged == ["X"]


class TestReviews:
    @pytest.fixture
    def output(self, tmp_path: Path) -> Path:
        lines = [
            {"type": "decision", "source": "a", "time": t, "probabilities": {"X": 0.001 * t}}
            for t in range(60)
        ]
        (tmp_path / "out").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return tmp_path / "out"

    @pytest.fixture
    def server(self, output: Path) -> Iterator[MonitorServer]:
        hub = make_hub()
        hub.line('{"type": "decision", "source": "a", "time": 59, "probabilities": {"X": 0.059}}')
        with MonitorServer(hub, Gate("127.0.0.1", TOKEN), "127.0.0.1", 0, output) as server:
            yield server

    def ask(self, server: MonitorServer, query: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        return get(server, f"/review?{query}", Authorization=f"Bearer {TOKEN}")

    def test_are_of_the_file(self, server: MonitorServer) -> None:
        status, headers, body = self.ask(server, "patient=0&hours=1")
        found = json.loads(body)
        assert status == 200 and headers["Content-Type"] == "application/json"
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
        assert found["file"] and found["complete"] and found["end"] == 59
        assert [p for p in found["highest"]["X"] if p is not None] == [0.001 * t for t in range(60)]

    @pytest.mark.parametrize(
        ("query", "status"), [("patient=1&hours=1", 400), ("patient=-1&hours=1", 400), ("patient=0", 400)]
    )
    def test_of_nobody(self, server: MonitorServer, query: str, status: int) -> None:
        assert self.ask(server, query)[0] == status

    def test_need_the_token(self, server: MonitorServer) -> None:
        assert get(server, "/review?patient=0&hours=1")[0] == 401

    def test_one_at_a_time(self, server: MonitorServer) -> None:
        server._reviewing = True
        status, _, body = self.ask(server, "patient=0&hours=1")
        assert status == 503 and b"Ask again" in body


def test_it_leaves_nothing_behind() -> None:
    before = threading.active_count()
    server = MonitorServer(make_hub(), Gate("127.0.0.1", None), "127.0.0.1", 0)
    with server, connect(f"ws://127.0.0.1:{server.port}/stream", proxy=None) as page:
        server.__exit__()
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(100):
                page.recv(timeout=PATIENCE)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
    server.call(print)  # after the end nothing happens
    # The page's own thread ends when it gets around to it.
    until(lambda: threading.active_count() <= before)
