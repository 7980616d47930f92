"""Connections that bring the lines of a device: standard input, and a device's server."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from multires_edge.base.errors import DataError

_READ_BYTES = 1 << 16
# A device that lost its power sends no end. The system asks after so many seconds of silence, and again; it
# gives up after so many questions, or when nothing was answered for so many milliseconds.
_KEEPALIVE = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 8000}


@dataclass(frozen=True)
class Connection:
    """``receive`` waits for bytes and returns b"" at the end; ``close`` wakes it up.

    ``ready`` waits for so many seconds at most, and returns whether ``receive`` would return at once.
    """

    receive: Callable[[], bytes]
    close: Callable[[], None] = lambda: None
    ready: Callable[[float], bool] = lambda _: True


def _is_ready(file: int | socket.socket, seconds: float) -> bool:
    # select() takes no descriptor from 1024 on, and not every system has poll().
    kind = getattr(selectors, "PollSelector", selectors.SelectSelector)
    with kind() as selector:
        try:
            selector.register(file, selectors.EVENT_READ)
        except ValueError:  # closed; receive() says so
            return True
        return bool(selector.select(seconds))


def standard_input() -> Connection:
    """Raises DataError if it is closed."""
    if sys.stdin is None:
        raise DataError("-: standard input is closed, expected a header, then samples")
    descriptor = sys.stdin.fileno()
    return Connection(
        lambda: os.read(descriptor, _READ_BYTES), ready=lambda seconds: _is_ready(descriptor, seconds)
    )


class TcpAddress:
    """The address of a device's server, as tcp://HOST:PORT. Raises DataError."""

    def __init__(self, address: str) -> None:
        self._address = address
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or not port:
            raise DataError(f"{address}: expected tcp://HOST:PORT")
        self._host, self._port = host, port

    def connect(self, silence: float | None, patience: float) -> Connection:
        """Connect within ``patience`` seconds. A silence of ``silence`` seconds ends the connection.

        Raises DataError.
        """
        try:
            connection = socket.create_connection((self._host, self._port), timeout=patience)
        except (OSError, UnicodeError) as error:  # UnicodeError: an invalid host name
            raise DataError(
                f"{self._address}: cannot be reached ({getattr(error, 'strerror', None) or error})"
            ) from error
        connection.settimeout(silence)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # not every system has them
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

        def receive() -> bytes:
            try:
                return connection.recv(_READ_BYTES)
            except TimeoutError as error:
                if error.errno is not None:  # the system gave up
                    raise
                raise TimeoutError(f"sent nothing for {silence:g} s") from error

        def close() -> None:
            # shutdown() wakes the thread that waits for the socket; close() does not.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

        return Connection(receive, close, lambda seconds: _is_ready(connection, seconds))
