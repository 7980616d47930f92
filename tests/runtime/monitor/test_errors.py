"""Every answer of the page's server has the page's headers, whoever wrote it: the server or its library."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from websockets.version import version

from multires_edge.runtime.monitor.access import Gate
from multires_edge.runtime.monitor.assets import security_headers
from multires_edge.runtime.monitor.server import MonitorServer
from tests.runtime.monitor.test_server import TOKEN, make_hub

HOST = "Host: 127.0.0.1\r\n"
BEARER = f"Authorization: Bearer {TOKEN}\r\n"
KEY = "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
VERSION = "Sec-WebSocket-Version: 13\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
SHAKE = HOST + BEARER + UPGRADE


@pytest.fixture(scope="module")
def server() -> Iterator[MonitorServer]:
    with MonitorServer(make_hub(), Gate("127.0.0.1", TOKEN), "127.0.0.1", 0) as server:
        yield server


def answer(server: MonitorServer, request: str) -> tuple[int, dict[str, str]]:
    """The status and the headers that a request is answered with; 0 if the connection is just closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request.encode("latin-1"))
        head = b""
        while b"\r\n\r\n" not in head and (more := connection.recv(65536)):
            head += more
    if not head:
        return 0, {}
    status, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    return int(status.split(" ")[1]), dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize(
    ("expected", "request_text"),
    [
        (200, f"GET / HTTP/1.1\r\n{HOST}{BEARER}\r\n"),
        (303, f"GET /?token=correct+horse HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}{HOST}\r\n"),
        (400, f"GET /?{'a=1&' * 50} HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}{BEARER}{BEARER}\r\n"),
        (400, f"GET /stream HTTP/1.1\r\n{SHAKE}{VERSION}\r\n"),
        (400, f"GET /stream HTTP/1.1\r\n{SHAKE}{VERSION}Sec-WebSocket-Key: x\r\n\r\n"),
        (400, f"GET /stream HTTP/1.1\r\n{SHAKE}{KEY}Sec-WebSocket-Version: 8\r\n\r\n"),
        (401, f"GET / HTTP/1.1\r\n{HOST}\r\n"),
        (401, f"GET /?token=wrong HTTP/1.1\r\n{HOST}\r\n"),
        (403, f"GET / HTTP/1.1\r\n{HOST}Origin: http://evil.example\r\n\r\n"),
        (404, f"GET /nothing HTTP/1.1\r\n{HOST}{BEARER}\r\n"),
        (404, f"GET //[ HTTP/1.1\r\n{HOST}{BEARER}\r\n"),
        (404, f"GET /stream HTTP/1.1\r\n{HOST}{BEARER}\r\n"),
        (421, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        (421, "GET / HTTP/1.1\r\n\r\n"),
        (426, f"GET /stream HTTP/1.1\r\n{HOST}{BEARER}Upgrade: websocket\r\n{KEY}{VERSION}\r\n"),
        (101, f"GET /stream HTTP/1.1\r\n{SHAKE}{KEY}{VERSION}\r\n"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_every_answer(server: MonitorServer, expected: int, request_text: str) -> None:
    status, headers = answer(server, request_text)
    assert status == expected
    assert_page_headers(headers)


@pytest.mark.parametrize(
    ("expected", "request_text"),
    [
        (405, f"POST / HTTP/1.1\r\n{HOST}\r\n"),
        (414, f"GET /{'x' * 9000} HTTP/1.1\r\n{HOST}\r\n"),
        (431, f"GET / HTTP/1.1\r\n{HOST}Cookie: {'x' * 9000}\r\n\r\n"),
        (431, "GET / HTTP/1.1\r\n" + "A: 1\r\n" * 200),
        (505, f"GET /stream HTTP/1.0\r\n{SHAKE}{KEY}{VERSION}\r\n"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_answers_of_the_library(server: MonitorServer, expected: int, request_text: str) -> None:
    """Its older versions, which Python 3.10 has, close the connection in place of some of these answers."""
    status, headers = answer(server, request_text)
    if not status and int(version.split(".")[0]) < 17:
        return
    assert status == expected
    assert_page_headers(headers)


def test_a_fault_of_our_own(server: MonitorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._gate, "check_token", lambda _: 1 / 0)
    status, headers = answer(server, f"GET / HTTP/1.1\r\n{HOST}\r\n")
    assert status == 500
    assert_page_headers(headers)


def assert_page_headers(headers: dict[str, str]) -> None:
    expected = security_headers("127.0.0.1")
    policy = expected.pop("Content-Security-Policy")
    without_sockets = policy.partition("connect-src")[0]
    assert headers["Content-Security-Policy"].startswith(without_sockets)
    assert expected == {name: headers[name] for name in expected}
    assert "Server" not in headers
