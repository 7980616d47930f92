"""Live sources: a thread receives the lines, and counts the samples that do not fit the buffer."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from urllib.parse import urlsplit

import numpy as np

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Note, Piece, Samples, Source
from multires_edge.runtime.ecg.sources.text import LONGEST_LINE, LineParser, ParserState

# Seconds of samples that may wait for the network.
_BUFFER_SECONDS = 20.0
_CONNECT_SECONDS = 10.0  # for a connection, and for the first line
_RETRY = 0.5
_READ_BYTES = 1 << 16
_TOO_FAST = 2  # times the rate of the signal
_LINGER, _FAR = 0.01, 0.05  # seconds


@dataclass(frozen=True)
class Connection:
    """``receive`` waits for bytes and returns b"" at the end; ``close`` wakes it up."""

    receive: Callable[[], bytes]
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class _Packet:
    """The pieces of one read. ``saved``: the parser's state after it; ``came``: its time at the source."""

    pieces: list[Piece]
    size: int
    saved: ParserState
    came: float


@dataclass(frozen=True)
class LivePosition:
    """The lines of the pieces that were read."""

    parser: ParserState


class LiveSource(Source):
    """Receives lines from a file descriptor or a socket in its own thread.

    ``connect`` opens a connection, and opens it again if ``given`` allows the device to be away. Samples that
    do not fit the buffer, because the network is slower than the device, are dropped: they count as missing,
    and an event reports their number. Input that is faster than any device, such as a recording through a
    pipe, waits for room instead.
    """

    Position = LivePosition
    live = waits = True

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connection],
        given: Format,
        buffer_seconds: float = _BUFFER_SECONDS,
    ) -> None:
        self._connect, self._connection = connect, connect()
        self._closed = threading.Event()
        self._away_since: float | None = None
        self._given, self._name = given, name
        self._parsers: list[LineParser] = []  # empty before the first line
        self._rest = b""
        self._overlong = False
        self._room = threading.Condition()
        self._queue: deque[_Packet] = deque()
        self._waiting = self._dropped = 0
        self._held = 0.0  # seconds that the source had to wait
        self._expected: tuple[int, Callable[[], None]] | None = None
        self._buffer_seconds = buffer_seconds
        self._error: str | None = None
        # Before the first read() the thread reads only one line: a saved state may be loaded in between.
        self._opened, self._wanted, self._finished = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._take_in, name=f"samples of {name}", daemon=True)
        self._thread.start()
        if not self._opened.wait(_CONNECT_SECONDS):
            self.close()
            raise DataError(
                f"{name}: no line within {_CONNECT_SECONDS:.0f} s, expected a header, then samples"
            )
        if not self._parsers:
            self.close()
            raise DataError(self._error or f"{name}: ended before its first line")
        self.signal = self._parsers[0].signal
        self._saved = self._parsers[0].save()

    def read(self, count: int) -> list[Piece]:
        self._wanted.set()
        pieces: list[Piece] = []
        finished = self._finished.is_set()
        taken = 0
        while taken < count:
            with self._room:
                if not self._queue:
                    break
                packet = self._queue.popleft()
                self._saved = packet.saved
                self._waiting -= packet.size
                self._room.notify()
            taken += packet.size
            pieces += packet.pieces
        if finished and not self._queue:
            self.ended = True
            if self._error:
                pieces.append(Note("lost", {"message": self._error}, fault=True))
        return _joined(pieces)

    def expect(self, count: int, wake: Callable[[], None]) -> None:
        with self._room:
            self._expected = count, wake
            self._wake_if_due()

    def _wake_if_due(self) -> None:
        """Call ``wake`` of :meth:`expect` if it is time. The caller holds the lock."""
        if self._expected is not None:
            count, wake = self._expected
            if self._waiting >= count or self._finished.is_set():
                self._expected = None
                wake()

    def _take_in(self) -> None:
        try:
            while True:
                self._error = self._receive_all()
                if not self._connected_again():
                    break
        except DataError as error:
            self._error = str(error)
        except Exception as error:
            # Without this, a bug in the thread would look like the normal end of a device.
            self._error = f"{self._name}: {error!r}"
            raise
        finally:
            if self._parsers:
                self._put(self._parsers[0].finish(), last=True)
            self._finished.set()
            self._opened.set()
            with self._room:
                self._wake_if_due()

    def _receive_all(self) -> str | None:
        """Receive until the connection ends. Returns the reason, or None for a normal end."""
        try:
            while data := self._connection.receive():
                self._lines(data, time.monotonic())
                self._linger()
            if self._rest:
                self._lines(b"\n", time.monotonic())
        except DataError:
            raise
        except (OSError, ValueError) as error:
            return f"{self._name}: {getattr(error, 'strerror', None) or error}"
        return None

    def _linger(self) -> None:
        """Wait for more samples while none of them is urgent.

        Otherwise each sample of a device that sends single samples would wake the thread, which takes the
        interpreter's lock.
        """
        if not self._parsers:
            return
        with self._room:
            waiting = self._waiting
            samples = waiting if self._expected is None else self._expected[0] - waiting
        if samples / self._parsers[0].signal.rate >= _FAR:
            self._closed.wait(_LINGER)

    def _connected_again(self) -> bool:
        """Try to connect again as long as the device may be away. Such a device has no normal end."""
        if not self._given.reconnect or not self._parsers or self._closed.is_set():
            return False
        # If it is set, the device never sent a line, as through a tunnel whose other end is closed.
        if self._away_since is None:
            self._put([Note("lost", {"message": self._error or f"{self._name}: closed by the device"})])
            self._away_since = time.monotonic()
        while time.monotonic() < self._away_since + self._given.reconnect:
            if self._closed.wait(_RETRY):
                return False
            try:
                self._connection = self._connect()
            except DataError:
                continue
            self._rest, self._overlong = b"", False
            return True
        self._error = f"{self._name}: was away for more than {self._given.reconnect:g} s"
        return False

    def _greet(self, first: bytes, away_since: float) -> int:
        """Read the first line of a device that is connected again; returns the number of header lines."""
        known, parser = self._parsers[0], LineParser(self._name, first, self._given)
        if parser.signal != known.signal:
            raise DataError(f"{self._name}: connected again with other leads, rate or unit")
        away = time.monotonic() - away_since
        pieces: list[Piece] = [Note("connected", {"seconds": round(away, 3)})]
        if not known.timed:  # otherwise the next time shows the gap
            pieces.append(Missing(round(away * known.signal.rate)))
        self._put(pieces)
        return parser.header_lines

    def _lines(self, data: bytes, arrived: float) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._overlong and lines:  # the end of a line that was too long
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
        elif self._away_since is not None:
            lines = lines[self._greet(lines[0], self._away_since) :]
            self._away_since = None
        pieces = self._parsers[0].parse(lines, arrived)
        if pieces:
            self._put(pieces)

    def _put(self, pieces: list[Piece], *, last: bool = False) -> None:
        parser = self._parsers[0]
        size, rate = sum(piece.count for piece in pieces), parser.signal.rate
        with self._room:
            if self._full(size) and not last:
                since = time.monotonic() - self._held - self._queue[0].came
                if since > self._waiting / rate / _TOO_FAST:
                    self._dropped += size
                    return
                self._hold(size)
            if self._dropped:
                # In the place of the dropped samples, so that the time of the record stays right.
                lost: list[Piece] = [Note("dropped", {"samples": self._dropped}), Missing(self._dropped)]
                self._dropped, pieces = 0, lost + pieces
            self._waiting += size
            self._queue.append(_Packet(pieces, size, parser.save(), time.monotonic() - self._held))
            self._wake_if_due()

    def _full(self, more: int) -> bool:
        room = self._buffer_seconds * self._parsers[0].signal.rate
        return self._waiting > 0 and self._waiting + more > room

    def _hold(self, size: int) -> None:
        """Wait for room, and exclude the wait from the source's time. The caller holds the lock."""
        started = time.monotonic()
        self._room.wait_for(lambda: self._closed.is_set() or not self._full(size))
        self._held += time.monotonic() - started

    def save(self) -> LivePosition:
        return LivePosition(self._saved)

    def load(self, saved: LivePosition) -> None:
        """Continue from a saved state, before the first read. Lines that it has seen are dropped as late."""
        self._saved = saved.parser
        self._parsers[0].load(saved.parser)

    def close(self) -> None:
        with self._room:
            self._closed.set()
            self._room.notify()
        self._connection.close()
        self._wanted.set()


def open_stdin(given: Format) -> LiveSource:
    """Lines on standard input. Raises DataError if it is closed."""
    if sys.stdin is None:
        raise DataError("-: standard input is closed, expected a header, then samples")
    descriptor = sys.stdin.fileno()
    connection = Connection(lambda: os.read(descriptor, _READ_BYTES))
    return LiveSource("-", lambda: connection, replace(given, reconnect=0.0))


def open_tcp(address: str, given: Format) -> LiveSource:
    """Lines from a device's server, as tcp://HOST:PORT. Raises DataError."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise DataError(f"{address}: expected tcp://HOST:PORT")

    def connect() -> Connection:
        try:
            connection = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
        except (OSError, UnicodeError) as error:  # UnicodeError: an invalid host name
            raise DataError(
                f"{address}: cannot be reached ({getattr(error, 'strerror', None) or error})"
            ) from error
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

        def close() -> None:
            # shutdown() wakes the thread that waits for the socket; close() does not.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

        return Connection(lambda: connection.recv(_READ_BYTES), close)

    return LiveSource(address, connect, given)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Join consecutive samples to one piece, with the arrival of its last sample.

    A device that sends single samples causes hundreds of pieces per second, and the cost is per piece.
    """
    joined: list[Piece] = []
    for are_samples, group in groupby(pieces, lambda piece: isinstance(piece, Samples)):
        some = list(group)
        if are_samples and len(some) > 1:
            runs = [piece for piece in some if isinstance(piece, Samples)]
            some = [Samples(np.concatenate([run.values for run in runs]), runs[-1].arrived)]
        joined += some
    return joined
