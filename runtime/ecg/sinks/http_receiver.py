"""A server that takes documents by HTTP, in bounded time, over one connection that is kept."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import re
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from multires_edge.base.errors import InputError
from multires_edge.runtime.ecg.sinks.address import SinkAddress
from multires_edge.runtime.ecg.sinks.protocol import DeliveryError, RefusedLinesError

HTTP_OPTIONS = ("password", "token", "ca", "cert", "key")
_PORTS = {"http": 80, "https": 443}
# Seconds for a whole exchange, and for what follows the head of an answer.
_EXCHANGE_SECONDS, _BODY_SECONDS = 10.0, 1.0
_LONGEST_ANSWER = 1 << 16
# Status, its reason, and the seconds that the server asks to wait.
_Answer = tuple[int, str, float | None]
# Another attempt may succeed after these.
_LATER = (408, 425, 429)
# The address or the credentials are wrong, so no line is taken until somebody changes them.
_MISCONFIGURED = (401, 403, 404, 405, 407, 410)


class HttpReceiver:
    """Posts to ``address``, whose scheme is http or https, perhaps after a +. Raises InputError."""

    def __init__(self, address: SinkAddress) -> None:
        self._scheme = address.scheme.rpartition("+")[2]
        parts, self._host, self._port = address.url("a server", _PORTS[self._scheme])
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not re.fullmatch(r"[!-~]+", self.target):
            raise InputError(f"{address.name}: has blanks or other characters that an address spells as %20")
        self._user = None if parts.username is None else unquote(parts.username)
        self._password, self._token = address.secret("password"), address.secret("token")
        self._tls = address.tls() if self._scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Post a document. Raises DeliveryError, RefusedLinesError, OSError."""
        until = time.monotonic() + _EXCHANGE_SECONDS
        reused = self._connection is not None
        try:
            status, reason, wait = self._exchange(body, headers, until)
        except ConnectionError:
            if not reused:
                raise
            # The server may have closed a connection that was idle.
            status, reason, wait = self._exchange(body, headers, until)
        if 200 <= status < 300:
            return
        what = f"the server answered {status} {reason}".rstrip()
        if 300 <= status < 400:
            raise DeliveryError(f"{what}: redirects are not followed, give the address where it is now", wait)
        if status in _LATER or status >= 500 or status < 200:
            raise DeliveryError(what, wait)
        if status in _MISCONFIGURED:
            raise DeliveryError(f"{what}: check the address and the credentials", wait)
        raise RefusedLinesError(what)

    def _exchange(self, body: bytes, headers: Mapping[str, str], until: float) -> _Answer:
        all_headers = {"User-Agent": "multires-edge", **headers, **self._credentials()}
        connection = self._connection or self._connect()
        self._connection = None  # until it is known to be in order
        try:
            assert connection.sock is not None
            connection.sock.settimeout(max(0.1, until - time.monotonic()))
            clock = _Clock(connection.sock, until)
            connection.response_class = clock.response  # type: ignore[assignment]
            connection.request("POST", self.target, body, all_headers)
            answer = connection.getresponse()
            wait = _seconds(answer.headers.get("Retry-After"))
            result = answer.status, _printable(answer.reason), wait
            clock.until = min(until, time.monotonic() + _BODY_SECONDS)
            with contextlib.suppress(OSError, http.client.HTTPException):
                whole = len(answer.read(_LONGEST_ANSWER + 1)) <= _LONGEST_ANSWER
                if whole and not answer.will_close:
                    self._connection = connection
        except http.client.HTTPException as error:
            if isinstance(error, ConnectionError):  # RemoteDisconnected is both
                raise
            raise DeliveryError(f"the server's answer is not HTTP ({type(error).__name__})") from error
        except TimeoutError as error:
            raise DeliveryError(f"the server did not answer within {_EXCHANGE_SECONDS:g} s") from error
        finally:
            if self._connection is None:
                connection.close()
        return result

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=_EXCHANGE_SECONDS)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=_EXCHANGE_SECONDS, context=self._tls
            )
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:  # UnicodeError: an invalid host name
            connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DeliveryError(f"the server cannot be reached ({reason})") from error
        return connection

    def _credentials(self) -> dict[str, str]:
        if self._token is not None:
            return {"Authorization": f"Bearer {self._token()}"}
        if self._user is not None:
            password = "" if self._password is None else self._password()
            pair = base64.b64encode(f"{self._user}:{password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {}

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Clock(io.RawIOBase):
    """Reads a socket until a time. A socket's own timeout begins anew with every byte."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock, self.until = sock, until

    def response(self, sock: socket.socket, *arguments: Any, **keywords: Any) -> http.client.HTTPResponse:
        """As http.client.HTTPResponse."""
        return http.client.HTTPResponse(self, *arguments, **keywords)  # type: ignore[arg-type]

    def makefile(self, *_: Any) -> io.BufferedReader:
        """As that of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)


def _seconds(text: str | None) -> float | None:
    """A number of seconds; dates, which depend on two clocks, are left out."""
    return float(text) if text is not None and text.strip().isdecimal() and len(text) < 10 else None


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:60]
