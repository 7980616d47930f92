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
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.signal import SignalSpec
from multires_edge.runtime.ecg.sources.protocol import Format, Missing, Note, Piece, Samples
from multires_edge.runtime.ecg.sources.text import LONGEST_LINE, LineParser

# Seconds of samples that wait for the network at most, and that a first line may take.
_BUFFER_SECONDS = 20.0
_CONNECT_SECONDS = 10.0
_RETRY = 0.5
_READ_BYTES = 1 << 16
_TOO_FAST = 2  # times the rate of the electrodes
_LINGER, _FAR = 0.01, 0.05  # seconds


@dataclass(frozen=True)
class Connection:
    """``receive`` waits for some bytes, b"" at the end; ``close`` wakes it up."""

    receive: Callable[[], bytes]
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class _Packet:
    """What came at once: ``saved`` is the parser behind it, ``came`` the source's own time."""

    pieces: list[Piece]
    size: int
    saved: dict[str, Any]
    came: float


class LiveSource:
    """Lines from a file descriptor or a socket, taken in by a thread of its own.

    ``connect`` gives a connection, a second time when the first has ended and ``given`` allows the device
    to be away. When the network falls behind by more than the buffer, what comes is dropped: it counts as
    missing, and an event says how much it was. Only what comes faster than anything is sampled, such as a
    recording through a pipe, waits for room.
    """

    live = True
    length: int | None = None

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
        self.ended = False
        self._given, self._name = given, name
        self._parsers: list[LineParser] = []  # none before the first line
        self._rest = b""
        self._overlong = False
        self._room = threading.Condition()
        self._queue: deque[_Packet] = deque()
        self._waiting = self._dropped = 0
        self._held = 0.0  # seconds for which the source had to wait
        self._expected: tuple[int, Callable[[], None]] | None = None
        self._buffer_seconds = buffer_seconds
        self._error: str | None = None
        # The thread reads the first line, and no other before the first read(): a saved state comes between.
        self._opened, self._wanted, self._finished = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._take_in, name=f"samples of {name}", daemon=True)
        self._thread.start()
        if not self._opened.wait(_CONNECT_SECONDS):
            self.close()
            raise DataError(
                f"{name}: no line within {_CONNECT_SECONDS:.0f} s; expected a header, then samples"
            )
        if not self._parsers:
            self.close()
            raise DataError(self._error or f"{name}: ended before its first line")
        self.signal: SignalSpec = self._parsers[0].signal
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
        """Keep the promise of :meth:`expect`; with the lock held."""
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
            # A thread that dies must not look like a device that has ended in order.
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
        """Take in what comes until it ends; why, unless it ended in order."""
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
        """Let some more come, while there is enough to do, or the sample that is waited for is not due yet.

        A device that sends each sample alone would wake the thread and take the interpreter's lock for each.
        """
        if not self._parsers:
            return
        with self._room:
            waiting = self._waiting
            samples = waiting if self._expected is None else self._expected[0] - waiting
        if samples / self._parsers[0].signal.rate >= _FAR:
            self._closed.wait(_LINGER)

    def _connected_again(self) -> bool:
        """Try for as long as the device may be away; a device that is expected back has no orderly end."""
        if not self._given.reconnect or not self._parsers or self._closed.is_set():
            return False
        if (
            self._away_since is None
        ):  # else it was never really back, as through a tunnel whose far end is closed
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
        self._error = f"{self._name}: away for more than {self._given.reconnect:g} s"
        return False

    def _greet(self, first: bytes, away_since: float) -> int:
        """The first line of a device that is back; returns how many lines were no samples."""
        known, parser = self._parsers[0], LineParser(self._name, first, self._given)
        if parser.signal != known.signal:
            raise DataError(f"{self._name}: came back as another device, with other leads, rate or unit")
        away = time.monotonic() - away_since
        pieces: list[Piece] = [Note("connected", {"seconds": round(away, 3)})]
        if not known.timed:  # else the next time says it better
            pieces.append(Missing(round(away * known.signal.rate)))
        self._put(pieces)
        return parser.header_lines

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
        elif self._away_since is not None:
            lines = lines[self._greet(lines[0], self._away_since) :]
            self._away_since = None
        pieces = self._parsers[0].parse(lines, arrived)
        if pieces:
            self._put(pieces)

    def _put(self, pieces: list[Piece], *, last: bool = False) -> None:
        parser = self._parsers[0]
        size, rate = _samples(pieces), parser.signal.rate
        with self._room:
            if self._full(size) and not last:
                since = time.monotonic() - self._held - self._queue[0].came
                if since > self._waiting / rate / _TOO_FAST:
                    self._dropped += size
                    return
                self._hold(size)
            if self._dropped:
                # In the place of what found no room, so that the record's time goes on.
                lost: list[Piece] = [Note("dropped", {"samples": self._dropped}), Missing(self._dropped)]
                self._dropped, pieces = 0, lost + pieces
            self._waiting += size
            self._queue.append(_Packet(pieces, size, parser.save(), time.monotonic() - self._held))
            self._wake_if_due()

    def _full(self, more: int) -> bool:
        room = self._buffer_seconds * self._parsers[0].signal.rate
        return self._waiting > 0 and self._waiting + more > room

    def _hold(self, size: int) -> None:
        """Wait for room, with the lock held, and leave this time out of the source's own."""
        started = time.monotonic()
        self._room.wait_for(lambda: self._closed.is_set() or not self._full(size))
        self._held += time.monotonic() - started

    def identity(self) -> dict[str, Any]:
        return self.signal.identity() | {"unit": self.signal.unit}

    def save(self) -> dict[str, Any]:
        return {"parser": self._saved}

    def load(self, saved: dict[str, Any]) -> None:
        """Before the first read. Lines whose time the saved state has seen already are late, and dropped."""
        self._parsers[0].load(saved["parser"])
        self._saved = saved["parser"]

    def close(self) -> None:
        with self._room:
            self._closed.set()
            self._room.notify()
        self._connection.close()
        self._wanted.set()


def open_stdin(given: Format) -> LiveSource:
    """Lines on standard input. Raises DataError where there is none."""
    if sys.stdin is None:
        raise DataError("-: standard input is closed; expected a header, then samples")
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
        except (OSError, UnicodeError) as error:  # the latter for a name that is none
            raise DataError(
                f"{address}: cannot be reached ({getattr(error, 'strerror', None) or error})"
            ) from error
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

        def close() -> None:
            # Wakes the thread that waits for the socket, which closing alone does not.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

        return Connection(lambda: connection.recv(_READ_BYTES), close)

    return LiveSource(address, connect, given)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Samples that follow each other as one piece, which arrived when the last of them did.

    A device that sends each sample alone brings hundreds of pieces a second, and what is done with a piece
    costs much more than what is done with a sample.
    """
    joined: list[Piece] = []
    for are_samples, group in groupby(pieces, lambda piece: isinstance(piece, Samples)):
        some = list(group)
        if are_samples and len(some) > 1:
            runs = [piece for piece in some if isinstance(piece, Samples)]
            some = [Samples(np.concatenate([run.values for run in runs]), runs[-1].arrived)]
        joined += some
    return joined


def _samples(pieces: list[Piece]) -> int:
    return sum(
        len(piece.values) if isinstance(piece, Samples) else piece.count if isinstance(piece, Missing) else 0
        for piece in pieces
    )
