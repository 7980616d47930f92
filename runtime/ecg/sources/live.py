"""Sources that do not wait: a thread takes in what comes, and what finds no room is counted."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from multires_edge.runtime.ecg.sources import Format, Missing, Note, Piece, Samples
from multires_edge.runtime.ecg.sources.text import LONGEST_LINE, LineParser
from multires_edge.runtime.ecg.streams import Electrodes
from multires_edge.runtime.errors import DataError

# Seconds of samples that wait for the network at most, and that a first line may take.
_BUFFER_SECONDS = 20.0
_PATIENCE = 10.0
_READ_BYTES = 1 << 16


class LiveSource:
    """Lines from a file descriptor or a socket, taken in by a thread of its own.

    ``receive`` gives some bytes, b"" at the end. When the network falls behind by more than the buffer,
    what comes is dropped: it counts as missing, and an event says how much it was.
    """

    live = True

    def __init__(
        self,
        name: str,
        receive: Callable[[], bytes],
        close: Callable[[], None],
        given: Format,
        buffer_seconds: float = _BUFFER_SECONDS,
    ) -> None:
        self._receive, self._close = receive, close
        self.ended = False
        self._given, self._name = given, name
        self._parsers: list[LineParser] = []  # none before the first line
        self._rest = b""
        self._overlong = False
        self._room = threading.Lock()
        self._queue: deque[tuple[list[Piece], dict[str, Any]]] = deque()
        self._waiting = self._dropped = 0
        self._buffer_seconds = buffer_seconds
        self._error: str | None = None
        # The thread reads the first line, and no other before the first read(): a saved state comes between.
        self._opened, self._wanted, self._finished = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._take_in, name=f"samples of {name}", daemon=True)
        self._thread.start()
        if not self._opened.wait(_PATIENCE):
            close()
            raise DataError(f"{name}: no line within {_PATIENCE:.0f} s; expected a header, then samples")
        if not self._parsers:
            close()
            raise DataError(self._error or f"{name}: ended before its first line")
        self.electrodes: Electrodes = self._parsers[0].electrodes
        self._saved: dict[str, Any] = self._parsers[0].save()

    def read(self, count: int) -> list[Piece]:
        self._wanted.set()
        pieces: list[Piece] = []
        finished = self._finished.is_set()
        taken = 0
        while taken < count:
            with self._room:
                if not self._queue:
                    break
                some, self._saved = self._queue.popleft()
                size = _samples(some)
                self._waiting -= size
            taken += size
            pieces += some
        if finished and not self._queue:
            self.ended = True
            if self._error:
                pieces.append(Note("lost", {"message": self._error}, fault=True))
        return pieces

    def _take_in(self) -> None:
        try:
            while data := self._receive():
                self._lines(data, time.monotonic())
            if self._rest:
                self._lines(b"\n", time.monotonic())
        except DataError as error:
            self._error = str(error)
        except (OSError, ValueError) as error:
            self._error = f"{self._name}: {getattr(error, 'strerror', None) or error}"
        finally:
            if self._dropped and self._parsers:
                self._put([])
            self._finished.set()
            self._opened.set()

    def _lines(self, data: bytes, arrived: float) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._overlong and lines:  # the end of a line that was given up
            lines[0], self._overlong = b"?", False
        if len(self._rest) > LONGEST_LINE:
            self._rest, self._overlong = b"", True
        if not lines:
            return
        if not self._parsers:
            self._parsers.append(LineParser(self._name, lines[0], self._given))
            lines = lines[self._parsers[0].header_lines :]
            self._opened.set()
            self._wanted.wait()
        pieces = self._parsers[0].parse(lines, arrived)
        if pieces:
            self._put(pieces)

    def _put(self, pieces: list[Piece]) -> None:
        parser = self._parsers[0]
        size = _samples(pieces)
        with self._room:
            room = self._buffer_seconds * parser.electrodes.rate
            if self._waiting and self._waiting + size > room:
                self._dropped += size
                return
            if self._dropped:
                # In the place of what found no room, so that the record's time goes on.
                lost: list[Piece] = [Note("dropped", {"samples": self._dropped}), Missing(self._dropped)]
                self._dropped, pieces = 0, lost + pieces
            self._waiting += size
            self._queue.append((pieces, parser.save()))

    def identity(self) -> dict[str, Any]:
        electrodes = self.electrodes
        return {
            "source": electrodes.name,
            "leads": list(electrodes.leads),
            "rate": electrodes.rate,
            "unit": electrodes.unit,
        }

    def save(self) -> dict[str, Any]:
        return {"parser": self._saved}

    def load(self, saved: dict[str, Any]) -> None:
        """Before the first read. Lines whose time the saved state has seen already are late, and dropped."""
        self._parsers[0].load(saved["parser"])
        self._saved = saved["parser"]

    def close(self) -> None:
        self._close()
        self._wanted.set()


def open_stdin(given: Format) -> LiveSource:
    """Lines on standard input."""
    descriptor = sys.stdin.fileno()
    return LiveSource("-", lambda: os.read(descriptor, _READ_BYTES), lambda: None, given)


def open_tcp(address: str, given: Format) -> LiveSource:
    """Lines from a device's server, as tcp://HOST:PORT. Raises DataError."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise DataError(f"{address}: expected tcp://HOST:PORT")
    try:
        connection = socket.create_connection((host, port), timeout=_PATIENCE)
    except OSError as error:
        raise DataError(f"{address}: cannot be reached ({error.strerror or error})") from error
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def close() -> None:
        # Wakes the thread that waits for the socket, which closing alone does not.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    return LiveSource(address, lambda: connection.recv(_READ_BYTES), close, given)


def _samples(pieces: list[Piece]) -> int:
    return sum(
        len(piece.values) if isinstance(piece, Samples) else piece.count if isinstance(piece, Missing) else 0
        for piece in pieces
    )
