"""`/metrics` and `/healthz` as programs meet them, and clients that behave badly."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from multires_edge.base.errors import InputError
from multires_edge.runtime.monitor import metrics_server
from multires_edge.runtime.monitor.access import Gate
from multires_edge.runtime.monitor.metrics_server import MetricsServer
from multires_edge.runtime.monitor.server import MonitorServer
from tests.runtime.monitor.test_server import make_hub
from tests.waiting import PATIENCE, ends, until

TOKEN = "correct horse"


class Told:
    """Stands for the metrics of a session."""

    status = 200

    def render(self, *, openmetrics: bool = False) -> bytes:
        return b"# EOF\n" if openmetrics else b"multires_a 1.0\n"

    def health(self) -> tuple[int, bytes]:
        return self.status, json.dumps({"status": self.status}).encode()


@pytest.fixture
def told() -> Any:
    return Told()


@pytest.fixture(params=["alone", "page"])
def port(request: pytest.FixtureRequest, told: Any) -> Iterator[int]:
    """The port of each of the two servers."""
    server: MetricsServer | MonitorServer
    if request.param == "alone":
        server = MetricsServer(told, Gate("127.0.0.1", None), "127.0.0.1", 0)
    else:
        server = MonitorServer(make_hub(), Gate("127.0.0.1", None), "127.0.0.1", 0, metrics=told)
    with server:
        yield server.port


def get(
    port: int, path: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_the_formats(port: int) -> None:
    status, headers, body = get(port, "/metrics")
    assert (status, body) == (200, b"multires_a 1.0\n") and headers["Content-Type"].startswith(
        "text/plain; version=0.0.4"
    )
    status, headers, body = get(
        port, "/metrics?name[]=a", Accept="application/openmetrics-text; version=1.0.0"
    )
    assert (status, body) == (200, b"# EOF\n")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")


def test_the_health(port: int, told: Any) -> None:
    for told.status in (200, 503):
        status, headers, body = get(port, "/healthz")
        assert status == told.status == json.loads(body)["status"]
        assert headers["Content-Type"] == "application/json"


def test_refusals(port: int) -> None:
    assert get(port, "/metrics", Host="evil.example")[0] == 421
    assert get(port, "/metricsx")[0] == 404
    # Older releases of websockets close the connection without an answer.
    with contextlib.suppress(http.client.RemoteDisconnected):
        assert get(port, "/metrics", method="POST")[0] in (405, 501)


@pytest.mark.parametrize("page", [False, True])
def test_a_token(told: Any, page: bool) -> None:
    gate = Gate("0.0.0.0", TOKEN)
    server: MetricsServer | MonitorServer
    server = (
        MonitorServer(make_hub(), gate, "0.0.0.0", 0, metrics=told)
        if page
        else MetricsServer(told, gate, "0.0.0.0", 0)
    )
    with server:
        assert get(server.port, "/metrics")[0] == 401
        assert get(server.port, "/healthz", Authorization="Bearer wrong")[0] == 401
        assert get(server.port, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_a_name_that_prometheus_has_for_it(told: Any) -> None:
    """With a token no page of another site can ask, whatever the name."""
    with MetricsServer(told, Gate("0.0.0.0", TOKEN), "0.0.0.0", 0) as server:
        answer = get(server.port, "/metrics", Host="ward3.example:9464", Authorization=f"Bearer {TOKEN}")
        assert answer[0] == 200


def test_head(told: Any) -> None:
    with MetricsServer(told, Gate("127.0.0.1", None), "127.0.0.1", 0) as server:
        status, headers, body = get(server.port, "/healthz", method="HEAD")
        assert (status, body) == (200, b"") and int(headers["Content-Length"]) > 0


def test_a_port_that_is_taken(told: Any) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(InputError, match="cannot listen there"),
    ):
        MetricsServer(told, Gate("127.0.0.1", None), "127.0.0.1", taken.getsockname()[1]).__enter__()
    with pytest.raises(InputError, match="cannot listen there"):
        MetricsServer(told, Gate("a..b", TOKEN), "a..b", 0).__enter__()


def test_clients_that_say_nothing_or_a_byte_now_and_then(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are cut off, their number is bounded, and others are answered again."""
    monkeypatch.setattr(metrics_server, "_REQUEST_SECONDS", 0.3)
    with ExitStack() as stack:
        server = stack.enter_context(MetricsServer(told, Gate("127.0.0.1", None), "127.0.0.1", 0))
        before = threading.active_count()
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(30)]
        for client in slow:
            client.setblocking(False)

        def are_cut_off() -> bool:
            # Each connection has a thread and a clock.
            assert threading.active_count() <= before + 2 * metrics_server._MOST_CONNECTIONS
            return sum(map(is_cut_off, slow)) == len(slow)

        until(are_cut_off)
        until(lambda: threading.active_count() <= before)
        monkeypatch.setattr(metrics_server, "_REQUEST_SECONDS", PATIENCE)
        assert get(server.port, "/metrics")[0] == 200


def is_cut_off(client: socket.socket) -> bool:
    """Whether the server has hung up on a client, which sends another byte."""
    try:
        client.sendall(b"G")
        return client.recv(100) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_an_end_does_not_wait_for_clients(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "_REQUEST_SECONDS", 10 * PATIENCE)
    monkeypatch.setattr(metrics_server._Handler, "timeout", 10 * PATIENCE)
    server = MetricsServer(told, Gate("127.0.0.1", None), "127.0.0.1", 0).__enter__()
    with socket.create_connection(("127.0.0.1", server.port)):
        ends(server.__exit__)
