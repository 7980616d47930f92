"""Lines to a server that takes them, refuses them, hangs, redirects, and never ends."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from multires_edge.runtime.ecg.sinks import http_receiver
from multires_edge.runtime.ecg.sinks.protocol import DeliveryError, RefusedLinesError, Sink
from tests.ports import free_port
from tests.runtime.ecg.sinks.receivers import WebServer, decision, line, opened, web
from tests.waiting import ends

__all__ = ["web"]

LINES = [line(decision(1.0), "aa-0"), line(decision(2.0), "aa-1")]


def hook(port: int, options: str = "", path: str = "/hook?ward=7") -> Sink:
    return opened(f"http://127.0.0.1:{port}{path}{options}")


def test_a_request_has_the_lines(web: WebServer) -> None:
    sink = hook(web.port)
    sink.send(LINES)
    sink.send(LINES[:1])
    (path, headers, body), _ = web.requests
    assert path == "/hook?ward=7" and headers["Content-Type"] == "application/json"
    assert json.loads(body) == [{"id": each.id, **each.entry} for each in LINES]
    assert web.connections == 1, "the connection is kept"
    sink.close()


def test_an_idle_connection_that_the_server_closed(web: WebServer) -> None:
    def once(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        handler.close_connection = True

    web.answers = [once]
    sink = hook(web.port)
    sink.send(LINES)
    time.sleep(0.05)
    sink.send(LINES)
    assert len(web.requests) == 2 and web.connections == 2
    sink.close()


def test_a_signature(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "a key")
    hook(web.port, "#secret=env:HOOK_SECRET").send(LINES)
    _, headers, body = web.requests[0]
    parts = dict(part.split("=") for part in headers["X-Multires-Signature"].split(","))
    expected = hmac.new(b"a key", parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert parts["v1"] == expected and abs(int(parts["t"]) - time.time()) < 60


def test_credentials(web: WebServer, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s\u00e4cret\n")
    opened(f"http://ann@127.0.0.1:{web.port}/#password=file:{tmp_path}/secret").send(LINES)
    (tmp_path / "token").write_text("abc\n")
    hook(web.port, f"#token=file:{tmp_path}/token").send(LINES)
    basic, bearer = (headers["Authorization"] for _, headers, _ in web.requests)
    assert base64.b64decode(basic.removeprefix("Basic ")).decode() == "ann:s\u00e4cret"
    assert bearer == "Bearer abc"


@pytest.mark.parametrize(
    ("answer", "error", "message", "wait"),
    [
        (500, DeliveryError, "answered 500 Internal Server Error", None),
        ((503, {"Retry-After": "7"}), DeliveryError, "answered 503", 7.0),
        ((429, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}), DeliveryError, "answered 429", None),
        (401, DeliveryError, "answered 401 Unauthorized: check the address and the credentials", None),
        (404, DeliveryError, "answered 404 Not Found: check the address", None),
        ((301, {"Location": "http://127.0.0.1:1/"}), DeliveryError, "redirects are not followed", None),
        (400, RefusedLinesError, "answered 400 Bad Request", None),
        (413, RefusedLinesError, "answered 413", None),
    ],
)
def test_answers(
    web: WebServer, answer: Any, error: type[DeliveryError], message: str, wait: float | None
) -> None:
    web.answers = [answer]
    sink = hook(web.port)
    with pytest.raises(DeliveryError, match=message) as raised:
        sink.send(LINES)
    assert type(raised.value) is error and raised.value.wait == wait
    assert len(web.requests) == 1
    sink.send(LINES)
    sink.close()


@contextlib.contextmanager
def raw(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """A server's port; ``behave`` gets each connection after its request, and when the test is over."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with contextlib.suppress(OSError), client:
                        client.recv(1 << 16)
                        behave(client, over)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def drip(start: bytes, piece: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Sends pieces for ever."""

    def behave(client: socket.socket, over: threading.Event) -> None:
        client.sendall(start)
        while not over.wait(0.02):
            client.sendall(piece)

    return behave


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", b""),
        (b"HTTP/1.1 20", b""),
        (b"HTTP/1.1 200 OK\r\n", b"a"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"SSH-2.0-OpenSSH\r\n", b""),
        (b"\0" * 100_000, b""),
    ],
)
def test_an_answer_that_never_comes(start: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come now and then do not make it wait longer."""
    monkeypatch.setattr(http_receiver, "_EXCHANGE_SECONDS", 0.3)
    late = pytest.raises(DeliveryError, match=r"did not answer within 0\.3 s|is not HTTP")
    with raw(drip(start, piece)) as port, late:
        ends(lambda: hook(port).send(LINES))


@pytest.mark.parametrize(
    "head", [b"Content-Length: 100000000000", b"Transfer-Encoding: chunked", b"Connection: close"]
)
def test_a_body_that_never_ends(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head says that the lines were taken."""
    monkeypatch.setattr(http_receiver, "_BODY_SECONDS", 0.1)
    with raw(drip(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", b"1\r\nx\r\n" * 1000)) as port:
        sink = hook(port)
        ends(lambda: sink.send(LINES))
        sink.close()


def test_a_server_that_takes_no_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_receiver, "_EXCHANGE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # nobody accepts
        many = [line(decision(1.0, more="x" * 200_000), f"aa-{i}") for i in range(100)]
        with pytest.raises(DeliveryError, match="did not answer within"):
            hook(listener.getsockname()[1]).send(many)


def test_no_server() -> None:
    with pytest.raises(DeliveryError, match=r"cannot be reached \(Connection refused\)"):
        hook(free_port()).send(LINES)
    with pytest.raises(DeliveryError, match="cannot be reached"):
        opened("http://no..such/").send(LINES)
