"""A server for `/metrics` and `/healthz` alone, for runs without a page. It needs no library."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from multires_edge.base.errors import InputError
from multires_edge.runtime.ecg.exposition import OPENMETRICS, TEXT, Exposed, accepts_openmetrics
from multires_edge.runtime.monitor.access import Gate, Refused

METRICS, HEALTH = "/metrics", "/healthz"
# Connections at a time, and seconds for a whole request: nobody can use up threads and files.
_MOST_CONNECTIONS, _REQUEST_SECONDS = 8, 5.0
_WRONG_TOKEN_SECONDS = 0.5


def answer(metrics: Exposed, path: str, accept: str) -> tuple[int, str, bytes] | None:
    """Status, type and body for a path, or None for another path."""
    if path == METRICS:
        openmetrics = accepts_openmetrics(accept)
        return 200, OPENMETRICS if openmetrics else TEXT, metrics.render(openmetrics=openmetrics)
    if path == HEALTH:
        status, body = metrics.health()
        return status, "application/json", body
    return None


class MetricsServer:
    """Serves ``metrics`` at ``host`` and ``port``, in threads of its own. Port 0 selects a free port."""

    def __init__(self, metrics: Exposed, gate: Gate, host: str, port: int) -> None:
        self._metrics, self._gate, self._host, self.port = metrics, gate, host, port
        self._server: _Server | None = None

    def __enter__(self) -> MetricsServer:
        """Listen. Raises InputError if the address cannot be used."""
        try:
            self._server = _Server(self._host, self.port, self._metrics, self._gate)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"{self._host}:{self.port}: cannot listen there ({reason}); give another port, or 0 "
                "for a free one"
            ) from error
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, host: str, port: int, metrics: Exposed, gate: Gate) -> None:
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self.metrics, self.gate = metrics, gate
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without the question for the host's name, for which a name server may take its time."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # A client that sends a byte now and then would keep its thread for hours.
        timer = threading.Timer(_REQUEST_SECONDS, _hang_up, (request,))
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: port scans and clients that hang up are not the user's business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "multires-edge", ""
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:
        try:
            headers = {"Host": self.headers.get("Host", "")}
            if (given := self.headers.get("Authorization")) is not None:
                headers["Authorization"] = given
            self.server.gate.check_program(headers)
            path = self.path.partition("?")[0]
            found = answer(self.server.metrics, path, self.headers.get("Accept", ""))
            if found is None:
                raise Refused(404, f"There are only {METRICS} and {HEALTH} here.")
        except Refused as refused:
            message = refused.message
            if refused.status == 401:
                time.sleep(_WRONG_TOKEN_SECONDS)
            elif refused.status == 421:
                message = "Ask for an IP address or localhost."
            found = refused.status, "text/plain; charset=utf-8", f"{message}\n".encode()
        status, kind, body = found
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *_: Any) -> None:
        """Write nothing to standard error, which is for people."""


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
