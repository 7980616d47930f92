"""Live sources: a thread receives the lines, and counts the samples that do not fit the buffer."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources.arrivals import Arrivals, ArrivalsState
from multires_edge.runtime.ecg.sources.connections import Connection, standard_input
from multires_edge.runtime.ecg.sources.protocol import (
    Format,
    Missing,
    Note,
    Piece,
    Samples,
    SignalSpec,
    Source,
)
from multires_edge.runtime.ecg.sources.text.head import Head
from multires_edge.runtime.ecg.sources.text.lines import Lines
from multires_edge.runtime.ecg.sources.text.parser import LineParser, ParserState

# Seconds of samples that may wait for the network, and that a line may have.
_BUFFER_SECONDS, _LONGEST_LINE = 20.0, 10.0
# Seconds of samples in a packet for the session, from one read. A piece takes as long as so many samples.
_PACKET_SECONDS, _PIECE = 0.5, 30
_FIRST_LINE_SECONDS = 10.0
# A device that may be away is connected again after a silence.
_SILENCE = 10.0
_RETRY, _CONNECT_SECONDS, _RECONNECT_SECONDS = 0.5, 10.0, 3.0
_TOO_FAST = 2  # times the rate of the signal
_LINGER, _FAR, _VERDICT = 0.01, 0.05, 0.1  # seconds
# Seconds that a thread owes before it waits.
_LARGEST_DEBT = 0.005


@dataclass(frozen=True)
class LivePosition:
    """The lines of the pieces that were read, and when they arrived."""

    parser: ParserState
    arrivals: ArrivalsState


@dataclass(frozen=True)
class _Packet:
    """Pieces, their work in samples, the state after them, and their time at the source."""

    pieces: list[Piece]
    work: int
    saved: LivePosition
    came: float


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
        self._head = Head(name, given, eager=True)
        self._parser: LineParser | None = None
        self._arrivals: Arrivals  # as soon as there is a parser
        self._lines = Lines()
        self._room = threading.Condition()
        self._queue: deque[_Packet] = deque()
        self._waiting = self._dropped = 0
        self._held = 0.0  # seconds that the source had to wait
        self._debt = self._used = self._looked = 0.0  # seconds, see _linger()
        self._expected: tuple[int, Callable[[], None]] | None = None
        self._buffer_seconds = buffer_seconds
        self._error: str | None = None
        # Before the first read() the thread reads only one line: a saved state may be loaded in between.
        self._opened, self._wanted, self._finished = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._take_in, name=f"samples of {name}", daemon=True)
        self._thread.start()
        self.signal = self._await_header()
        self._saved: LivePosition = self._position()

    def _await_header(self) -> SignalSpec:
        if not self._opened.wait(_FIRST_LINE_SECONDS):
            self.close()
            came = (
                f"{len(self._head.taken)} lines without leads, rate and unit"
                if self._head.taken
                else "no line"
            )
            raise DataError(
                f"{self._name}: {came} within {_FIRST_LINE_SECONDS:.0f} s, expected a header, then samples"
            )
        if self._parser is None:
            self.close()
            raise DataError(self._error or f"{self._name}: ended before its first line")
        self.notes = self._parser.layout.notes
        return self._parser.signal

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
                self._waiting -= packet.work
                self._room.notify()
            taken += packet.work
            pieces += packet.pieces
        if finished and not self._queue:
            self.ended = True
            if self._error:
                pieces.append(Note("lost", {"message": self._error}, fault=True))
        return _joined(pieces)

    def has(self, count: int) -> bool:
        with self._room:
            return self._waiting >= count or self._finished.is_set()

    def expect(self, count: int, wake: Callable[[], None]) -> None:
        with self._room:
            self._expected = count, wake
            self._wake_if_due()

    def _wake_if_due(self) -> None:
        """Call ``wake`` of :meth:`expect` if it is time. The caller holds the lock."""
        if self._expected is not None:
            count, wake = self._expected
            if self.has(count):
                self._expected = None
                wake()

    def _take_in(self) -> None:
        self._used, self._looked = time.thread_time(), time.monotonic()
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
            if self._parser is not None:
                self._pass_on(self._parser.finish(), last=True)
            self._finished.set()
            self._opened.set()
            with self._room:
                self._wake_if_due()

    def _receive_all(self) -> str | None:
        """Receive until the connection ends. Returns the reason, or None for a normal end."""
        try:
            while data := self._receive():
                self._take_lines(self._lines.add(data), time.monotonic())
                self._linger()
            self._take_lines(self._lines.finish(), time.monotonic())
            if self._parser is None and self._head.taken:
                self._convert(self._begin(), time.monotonic())
        except DataError:
            raise
        except (OSError, ValueError) as error:
            return f"{self._name}: {getattr(error, 'strerror', None) or error}"
        return None

    def _receive(self) -> bytes:
        """Wait for bytes. Samples that are held back go on after a while, also if nothing else comes."""
        while self._parser is not None and self._arrivals.holds and not self._connection.ready(_VERDICT):
            self._pass_on([])
        return self._connection.receive()

    def _linger(self) -> None:
        """Wait for more samples while none of them is urgent, and while the thread owes time for its share.

        Otherwise each sample of a device that sends single samples would wake the thread, which takes the
        interpreter's lock.
        """
        now, used = time.monotonic(), time.thread_time()
        self._debt = max(0.0, self._debt + (used - self._used) / self.share - (now - self._looked))
        self._looked, self._used = now, used
        if self._parser is None:
            return
        with self._room:
            waiting = self._waiting
            samples = waiting if self._expected is None else self._expected[0] - waiting
        pause = self._debt if self._debt > _LARGEST_DEBT else 0.0
        if samples / self._parser.signal.rate >= _FAR:
            pause = max(pause, _LINGER)
        if pause:
            self._closed.wait(pause)

    def _connected_again(self) -> bool:
        """Try to connect again as long as the device may be away. Such a device has no normal end."""
        if not self._given.reconnect or self._parser is None or self._closed.is_set():
            return False
        self._connection.close()
        # If it is set, the device never sent a line, as through a tunnel whose other end is closed.
        if self._away_since is None:
            self._parser.note("lost", message=self._error or f"{self._name}: closed by the device")
            self._pass_on(self._parser.take())
            self._away_since = time.monotonic()
        while time.monotonic() < self._away_since + self._given.reconnect:
            if self._closed.wait(_RETRY):
                return False
            try:
                self._connection = self._connect()
            except DataError:
                continue
            self._lines = Lines()
            self._parser.reconnected()
            return True
        self._error = f"{self._name}: was away for more than {self._given.reconnect:g} s"
        return False

    def _take_lines(self, lines: list[bytes], arrived: float) -> None:
        if not lines:
            return
        if self._parser is None:
            taken = next((i for i, line in enumerate(lines, 1) if self._head.add(line)), 0)
            if not taken:
                return
            lines = self._begin() + lines[taken:]
        elif self._away_since is not None:
            away = time.monotonic() - self._away_since
            self._parser.note("connected", seconds=round(away, 3))
            self._away_since = None
            self._arrivals.suspect()
        self._convert(lines, arrived)

    def _begin(self) -> list[bytes]:
        """Make the parser, and wait for the first read; returns the lines that the head took too many."""
        self._parser = parser = LineParser(self._head, _LONGEST_LINE)
        self._arrivals = Arrivals(parser.signal.rate)
        self._opened.set()
        self._wanted.wait()
        return self._head.taken[parser.layout.lines :]

    def _convert(self, lines: list[bytes], arrived: float) -> None:
        parser = self._parser
        assert parser is not None
        many = _PACKET_SECONDS * parser.signal.rate
        taken = 0
        while taken < len(lines):
            taken += parser.add_first(lines, taken, arrived)
            if parser.size + _PIECE * parser.pieces >= many:
                self._pass_on(parser.take())
        self._pass_on(parser.take())

    def _pass_on(self, pieces: list[Piece], *, last: bool = False) -> None:
        """Put pieces into the queue, or hold them back while it is not known what is missing before them."""
        assert self._parser is not None
        if not self._parser.timed:  # otherwise the next time shows what is missing
            pieces = self._arrivals.take(pieces, time.monotonic() - self._held)
        if last or self._parser.timed:
            pieces = [*self._arrivals.finish(), *pieces]
        if pieces or last:
            self._put(pieces, last=last)

    def _put(self, pieces: list[Piece], *, last: bool) -> None:
        assert self._parser is not None
        rate = self._parser.signal.rate
        size = sum(piece.count for piece in pieces)
        # A gap is one piece, however long.
        samples = sum(piece.count for piece in pieces if isinstance(piece, Samples))
        work = samples + _PIECE * max(0, len(pieces) - 1)
        with self._room:
            if self._full(work) and not last:
                since = time.monotonic() - self._held - self._queue[0].came
                if since > self._waiting / rate / _TOO_FAST:
                    self._dropped += size
                    return
                self._hold(work)
            if self._dropped:
                # In the place of the dropped samples, so that the time of the record stays right.
                lost: list[Piece] = [Note("dropped", {"samples": self._dropped}), Missing(self._dropped)]
                self._dropped, pieces = 0, lost + pieces
            self._waiting += work
            came = time.monotonic() - self._held
            self._queue.append(_Packet(pieces, work, self._position(), came))
            self._wake_if_due()

    def _full(self, more: int) -> bool:
        assert self._parser is not None
        room = self._buffer_seconds * self._parser.signal.rate
        return self._waiting > 0 and self._waiting + more > room

    def _hold(self, size: int) -> None:
        """Wait for room, and exclude the wait from the source's time. The caller holds the lock."""
        started = time.monotonic()
        self._room.wait_for(lambda: self._closed.is_set() or not self._full(size))
        self._held += time.monotonic() - started

    def _position(self) -> LivePosition:
        assert self._parser is not None
        return LivePosition(self._parser.save(), self._arrivals.save(time.monotonic() - self._held))

    def save(self) -> LivePosition:
        return self._saved

    def load(self, saved: LivePosition) -> None:
        """Continue from a saved state, before the first read. Lines that it has seen are dropped as late."""
        assert self._parser is not None
        self._saved = saved
        self._parser.load(saved.parser)
        known = self._arrivals.load(saved.arrivals, time.monotonic())
        self.continues = known or self._parser.timed

    def skip(self, seconds: float) -> list[Piece]:
        assert self._parser is not None
        pieces = self._parser.skip(seconds)
        self._arrivals.skip(sum(piece.count for piece in pieces))
        self._saved = self._position()
        return pieces

    def close(self) -> None:
        with self._room:
            self._closed.set()
            self._room.notify()
        self._connection.close()
        self._wanted.set()


def open_stdin(given: Format) -> LiveSource:
    """Lines on standard input. Raises DataError if it is closed."""
    connection = standard_input()
    return LiveSource("-", lambda: connection, replace(given, reconnect=0.0))


def open_address(
    name: str, connect: Callable[[float | None, float], Connection], given: Format
) -> LiveSource:
    """Lines from a device, which ``connect`` reaches for a silence and a patience in seconds.

    Raises DataError.
    """
    opened: list[bool] = []

    def named() -> Connection:
        silence = _SILENCE if given.reconnect else None
        patience = _RECONNECT_SECONDS if opened else _CONNECT_SECONDS
        try:
            connection = connect(silence, patience)
        except DataError as error:
            raise DataError(str(error) if str(error).startswith(name) else f"{name}: {error}") from error
        opened.append(True)
        return connection

    return LiveSource(name, named, given)


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
