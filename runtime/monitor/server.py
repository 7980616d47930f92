"""The server: files and one WebSocket, on a separate thread. Samples never wait for this thread.

It uses the websockets library, which is small, has no dependencies, and answers plain requests too. The page
needs binary messages, and a keepalive that detects dead connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from multires_edge.base.errors import InputError
from multires_edge.runtime.monitor.access import Gate, Refused, query_of
from multires_edge.runtime.monitor.assets import load_page, refusal_page, security_headers
from multires_edge.runtime.monitor.hub import Client, Hub
from multires_edge.runtime.monitor.metrics_server import answer
from multires_edge.runtime.monitor.review import question, review

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from multires_edge.runtime.ecg.metrics import Metrics
    from multires_edge.runtime.monitor.connection import Strangers

_STREAM, _REVIEW = "/stream", "/review"
# The kernel's default grows to megabytes: minutes of samples that would be shown late.
_SEND_BUFFER = 1 << 17
_TICK_SECONDS = 1.0
# The delay after a wrong token slows down guessing.
_WRONG_TOKEN_SECONDS = 0.5
# A client that sends its request more slowly is cut off.
_REQUEST_SECONDS = 5.0
# A browser's messages are taken no faster. It sends one when somebody acknowledges an alarm.
_SECONDS_PER_MESSAGE = 0.05
# Headers that a request may have once at most.
_SINGLE_HEADERS = ("Host", "Origin", "Authorization", "Upgrade")


class MonitorServer:
    """Serves the page and the messages of ``hub`` at ``host`` and ``port``. Port 0 selects a free port.

    Reviews of the past read ``output``, the file of the session's lines. ``metrics`` are served too.
    """

    def __init__(
        self,
        hub: Hub,
        gate: Gate,
        host: str,
        port: int,
        output: Path | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._hub, self._gate, self._host, self._output = hub, gate, host, output
        self._metrics = metrics
        self._reviewing = False
        self.port = port
        self._assets = load_page()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._strangers: Strangers = {}
        self._thread = threading.Thread(target=self._run, name="monitor server", daemon=True)

    def __enter__(self) -> MonitorServer:
        """Listen. Raises InputError if the address cannot be used."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise InputError(
                f"{self._host}:{self.port}: cannot listen there ({self._failure}); give another --port, or "
                "--port 0 for a free port"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stopped.set)
        self._thread.join(timeout=5)

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function soon on the server's thread. Never waits."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(function, *arguments)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except (OSError, UnicodeError) as error:  # UnicodeError: the host name is not valid
            self._failure = error
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        from websockets.asyncio.server import serve

        from multires_edge.runtime.monitor.connection import connections_among

        server = serve(
            self._handle,
            self._host,
            self.port,
            process_request=self._answer,
            create_connection=connections_among(self._strangers),
            open_timeout=_REQUEST_SECONDS,
            compression=None,
            server_header=None,
            ping_interval=5,
            ping_timeout=10,
            close_timeout=1,
            max_size=1024,
            max_queue=1,
            logger=_quiet(),
        )
        async with server as listening:
            self.port = next(iter(listening.sockets)).getsockname()[1]
            self._ready.set()
            ticking = asyncio.ensure_future(self._tick())
            await self._stopped.wait()
            ticking.cancel()
            for transport in [*self._strangers.values()]:
                transport.abort()  # the server's end would wait for their requests

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._hub.tick()

    async def _handle(self, connection: ServerConnection) -> None:
        client = self._hub.join()
        if client is None:
            await connection.close(1013, "too many browsers are connected already")
            return
        self._strangers.pop(connection, None)
        connection.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER
        )
        sending = asyncio.ensure_future(_send_all(connection, client))
        try:
            await self._hear(connection)
        finally:
            sending.cancel()
            self._hub.leave(client)

    async def _hear(self, connection: ServerConnection) -> None:
        """Take a browser's messages until it leaves, or sends one that is not valid."""
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                if not self._hub.hear(message):
                    await connection.close(1008, "this monitor takes no such message")
                await asyncio.sleep(_SECONDS_PER_MESSAGE)

    async def _review(self, query: str) -> bytes:
        """The answer to a question for the past, read in another thread. Raises Refused."""
        number, hours = question(query)
        past = self._hub.past(number)
        if past is None:
            raise Refused(400, f"This monitor has no patient {number}.")
        if self._reviewing:
            raise Refused(503, "This monitor reads another review. Ask again in a few seconds.")
        self._reviewing = True
        try:
            return await asyncio.to_thread(review, past, self._output, hours)
        finally:
            self._reviewing = False

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """A file, a page that explains a refusal, or None for the WebSocket."""
        host = ""
        try:
            if getattr(request, "method", "GET") != "GET":  # older websockets accept only GET
                raise Refused(405, "This monitor accepts only GET requests.")
            headers = _single_headers(request)
            host = headers.get("Host", "")
            self._gate.check_address(headers)
            cookie = self._gate.cookie_for(request.path)
            if cookie is not None:
                # Remove the token from the address bar, where others could read it.
                return _response(303, b"", "text/plain", {"Location": "/", "Set-Cookie": cookie}, host)
            self._gate.check_token(headers)
            path = request.path.partition("#")[0].partition("?")[0]
            if path == _STREAM and headers.get("Upgrade", "").casefold() == "websocket":
                return None
            if path == _REVIEW:
                body = await self._review(query_of(request.path))
                return _response(200, body, "application/json", {}, host)
            if self._metrics is not None:
                asked = answer(self._metrics, path, request.headers.get("Accept", ""))
                if asked is not None:
                    return _response(asked[0], asked[2], asked[1], {}, host)
            asset = self._assets.get(path)
            if asset is None:
                raise Refused(404, f"This monitor has no file {path}.")
        except Refused as refused:
            if refused.status == 401:
                await asyncio.sleep(_WRONG_TOKEN_SECONDS)
            title = HTTPStatus(refused.status).phrase
            body = refusal_page(title, refused.message, ask_for_token=refused.status == 401)
            # Status 421: the host is not valid, and must not appear in a header.
            return _response(
                refused.status, body, "text/html; charset=utf-8", {}, "" if refused.status == 421 else host
            )
        return _response(200, asset.body, asset.content_type, {}, host)


async def _send_all(connection: ServerConnection, client: Client) -> None:
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        while True:
            for message in await client.take():
                await connection.send(message)


def _single_headers(request: Request) -> dict[str, str]:
    """The headers that matter. Several cookie headers are one, as proxies may split it. Raises Refused."""
    headers = {"Cookie": "; ".join(request.headers.get_all("Cookie"))}
    for name in _SINGLE_HEADERS:
        values = request.headers.get_all(name)
        if len(values) > 1:
            raise Refused(400, f"This request has several {name} headers.")
        if values:
            headers[name] = values[0]
    return headers


def _response(status: int, body: bytes, content_type: str, more: dict[str, str], host: str) -> Response:
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    headers = Headers(security_headers(host))
    headers.update({"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close"})
    headers.update({"Allow": "GET"} if status == 405 else {})
    headers.update(more)
    return Response(status, HTTPStatus(status).phrase, headers, body)


def _quiet() -> logging.Logger:
    """A logger that keeps port scans and lost browsers off the terminal."""
    logger = logging.getLogger("multires_edge.monitor")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
