"""The lines that wait for a sink: in memory, or in the output file."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from multires_edge.base.descriptors import read_at
from multires_edge.runtime.ecg.file_mark import FileMark
from multires_edge.runtime.ecg.sinks.position import Position
from multires_edge.runtime.ecg.whole_lines import LONGEST_LINE

# Lines in memory: minutes of decisions, about a megabyte.
_LONGEST_QUEUE = 2000
# A recording at full speed waits for a sink that took a line in so many seconds.
_PATIENCE = 10.0
# A sink that waited for lines takes them so many seconds later. Decisions often come for several sources at
# once, and the sinks' threads would take the interpreter's lock between them.
_GATHER = 0.02
_BLOCK = 1 << 16
# Files that were moved away, and that a sink has not read to their ends.
_MOST_STRETCHES = 4

# The id and the text of a line.
Named = tuple[str, str]


def new_run() -> str:
    """The first part of ids, which differs from every other run's."""
    return secrets.token_hex(8)


class Waiting(ABC):
    """Lines on their way from the session's thread to a sink's."""

    dropped = 0  # lines, or bytes of the output, that were lost

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closing = False

    @abstractmethod
    def take(self, most: int) -> list[Named]:
        """Wait for lines and return up to ``most`` of them; none after :meth:`close` if no line is left."""

    def _wait(self, empty: Callable[[], bool]) -> None:
        """Wait until it is not ``empty`` any more, then for the lines that come at once. Or until the end.

        The caller holds the lock.
        """
        if self._closing or not empty():
            return
        while empty() and not self._closing:
            self._changed.wait()
        until = time.monotonic() + _GATHER
        while not self._closing and (left := until - time.monotonic()) > 0:
            self._changed.release()
            time.sleep(left)  # without a wake-up for each line
            self._changed.acquire()

    @abstractmethod
    def done(self) -> None:
        """Note that the lines that were taken are sent."""

    @property
    @abstractmethod
    def left(self) -> int:
        """Bytes that wait, those that were taken included."""

    def close(self) -> None:
        """Note that no line follows."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()


class MemoryLines(Waiting):
    """Lines in memory, ``longest`` at most. The oldest are dropped, and a line says how many.

    ``waits``: recordings at full speed wait for a sink that is slow, but not for one that takes nothing, nor
    if ``hurry`` returns True.
    """

    def __init__(
        self, *, waits: bool = False, hurry: Callable[[], bool] = lambda: False, longest: int = _LONGEST_QUEUE
    ) -> None:
        super().__init__()
        self._waits, self._hurry, self._longest = waits, hurry, longest
        self._run, self._count = new_run(), 0
        self._lines: deque[Named] = deque()
        self._bytes = self._taken = 0
        self._unsaid = 0  # lines that were dropped since a line said so
        self._progress = time.monotonic()

    def put(self, lines: list[str]) -> None:
        """Add lines. The session calls this."""
        with self._changed:
            if not (self._lines or self._taken):
                self._progress = time.monotonic()
            while self._waits and len(self._lines) >= self._longest and self._may_wait():
                self._changed.wait(0.1)
            for line in lines:
                self._lines.append((self._next_id(), line))
                self._bytes += len(line)
            while len(self._lines) > self._longest:
                self._bytes -= len(self._lines.popleft()[1])
                self.dropped += 1
                self._unsaid += 1
            self._changed.notify_all()

    def _may_wait(self) -> bool:
        return time.monotonic() - self._progress < _PATIENCE and not self._hurry() and not self._closing

    def take(self, most: int) -> list[Named]:
        with self._changed:
            self._wait(lambda: not self._lines)
            lines: list[Named] = []
            if self._unsaid:
                entry = {"type": "event", "source": None, "time": None, "event": "dropped_lines"}
                lines.append((self._next_id(), json.dumps(entry | {"lines": self._unsaid})))
                self._unsaid = 0
            while self._lines and len(lines) < most:
                lines.append(self._lines.popleft())
                self._bytes -= len(lines[-1][1])
            self._taken = sum(len(text) for _, text in lines)
            self._changed.notify_all()
            return lines

    def done(self) -> None:
        with self._changed:
            self._taken, self._progress = 0, time.monotonic()

    @property
    def left(self) -> int:
        return self._bytes + self._taken

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._run}-{self._count}"


@dataclass
class _Stretch:
    """A part of the log in one open file: lines of the run from ``start`` to ``end``, on the disk up to
    ``synced``. ``run`` is the first part of ids, and ``before`` is that of the lines before ``begun``."""

    file: int
    start: int
    end: int
    synced: int
    run: str
    begun: int = 0
    before: str = ""

    def run_at(self, offset: int) -> str:
        return self.before if offset < self.begun else self.run


class LogLines(Waiting):
    """Lines that are read from the output file: the file is the queue, so memory holds only those on the way.

    ``file`` is an open file, which this closes, with lines on the disk up to ``size``. The lines of the run
    begin at ``start``; from there to ``size``, a run that was killed has written them already, and this run
    makes them again. The sink starts at ``position``, or at ``start``. A sink that is ``settled`` gets only
    lines on the disk. ``say`` is called if lines are lost.

    An id is a random number and the offset of the line. So a line that is read again has the same id. The
    number is new for the lines of each process: after a power cut they may be where others were.
    """

    def __init__(
        self,
        file: int,
        start: int,
        size: int,
        position: Position | None,
        *,
        settled: bool,
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._at = self._sent = start if position is None else position.output.size
        self._stretches = [_Stretch(file, start, start, size, new_run())]
        if position is not None:
            self._stretches[0].begun, self._stretches[0].before = size, position.run
        self._settled, self._say = settled, say

    def grew(self, end: int) -> None:
        """Note the end of the lines so far. The session calls this, and the next two."""
        with self._changed:
            self._stretches[-1].end = end
            if not self._settled:
                self._changed.notify_all()

    def synced(self, end: int) -> None:
        """Note the end of the lines that are on the disk."""
        with self._changed:
            last = self._stretches[-1]
            last.synced = max(last.synced, end)
            self._changed.notify_all()

    def moved(self, file: int, start: int) -> None:
        """Note that the lines go on at ``start`` of an open file, which this closes."""
        with self._changed:
            last = self._stretches[-1]
            if start < last.end and os.path.sameopenfile(file, last.file):
                # The file was cut, and other lines are there now.
                at = max(self._at, last.start) if len(self._stretches) == 1 else last.start
                self._lose(last.end - at, "another program cut the output")
                last.end = min(last.end, at)
            last.synced = last.end
            self._stretches.append(_Stretch(file, start, start, start, new_run()))
            while len(self._stretches) > _MOST_STRETCHES:
                lost = self._stretches.pop(1)
                os.close(lost.file)
                self._lose(lost.end - lost.start, "the output was moved away too often")
            self._changed.notify_all()

    def take(self, most: int) -> list[Named]:
        """Raises OSError if the output cannot be read."""
        while True:
            with self._changed:
                while (limit := self._limit()) <= self._at:
                    if len(self._stretches) > 1:
                        self._next_stretch()
                    elif self._closing:
                        return []
                    else:
                        self._wait(lambda: self._limit() <= self._at and len(self._stretches) == 1)
                stretch, at = self._stretches[0], self._at
            lines: list[Named] = []
            run = stretch.run_at(at)
            for line in _whole_lines(stretch.file, at, limit)[:most]:
                if stretch.run_at(at) != run:
                    break
                lines.append((f"{run}-{at}", line.decode(errors="replace")))
                at += len(line) + 1
            with self._changed:
                if lines:
                    self._at = at
                    return lines
                self._lose(limit - self._at, "another program took them from the output")
                self._at = self._sent = limit

    def done(self) -> None:
        with self._changed:
            self._sent = self._at

    @property
    def left(self) -> int:
        with self._changed:
            first, *others = self._stretches
            return max(0, first.end - self._sent) + sum(stretch.end - stretch.start for stretch in others)

    @property
    def position(self) -> tuple[str, int] | None:
        """The ids' first part and the offset to save; None while the sink reads a file that was moved away.

        The offset is on the disk already. After a power cut, the lines from there on are sent again, or made
        again.
        """
        with self._changed:
            first = self._stretches[0]
            size = min(self._sent, first.synced)
            return None if len(self._stretches) > 1 else (first.run_at(size), size)

    def mark(self, size: int) -> FileMark:
        """The mark of the output up to an offset. Raises OSError."""
        return FileMark.of(self._stretches[0].file, size)

    def free(self) -> None:
        """Close the files, after the end of the sink's thread."""
        with self._changed:
            for stretch in self._stretches:
                os.close(stretch.file)
            self._stretches = [_Stretch(-1, 0, 0, 0, "")]

    def _limit(self) -> int:
        first = self._stretches[0]
        return min(first.synced, first.end) if self._settled else first.end

    def _next_stretch(self) -> None:
        os.close(self._stretches.pop(0).file)
        self._at = self._sent = self._stretches[0].start

    def _lose(self, count: int, why: str) -> None:
        if count > 0:
            self.dropped += count
            self._say(f"{count} bytes of lines were not sent, because {why}")


def _whole_lines(file: int, start: int, end: int) -> list[bytes]:
    """Lines between two offsets without their ends; none if the file has none there. Raises OSError."""
    for size in (_BLOCK, LONGEST_LINE):
        data = read_at(file, min(size, end - start), start)
        if lines := data.split(b"\n")[:-1]:
            return lines
    return []
