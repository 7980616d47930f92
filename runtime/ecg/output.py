"""Outputs for lines, and those that are not files: standard output, pipes and devices."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from multires_edge.base.descriptors import NO_TERMINAL, open_file
from multires_edge.base.errors import OutputError
from multires_edge.runtime.ecg.file_mark import FileMark

# Lines that wait for a slow reader: minutes of decisions, about a megabyte.
_LONGEST_QUEUE = 2000
_FAREWELL = 1.0  # seconds that a slow reader gets at the end


class Output(ABC):
    """Takes lines without line ends."""

    @abstractmethod
    def write(self, lines: list[str]) -> None:
        """Write lines. Raises OutputError if they cannot be written, BrokenPipeError if the reader left."""

    # Whether something happened to the output that the next checkpoint has to know at once.
    unsettled = False
    # Whether lines were lost, or are left for a later run, although the run came to its end.
    lost = False
    # By source: the number of lines that a killed run wrote after the checkpoint and that stay, and the time
    # of the last decision in them.
    kept: Mapping[str, int] = {}
    reached: Mapping[str, float] = {}

    def checkpoint(self) -> FileMark | None:
        """Sync to the disk. Returns where the output ends, or None if lines cannot be taken back."""
        return None

    def finish(self) -> None:  # noqa: B027, most outputs have no lines of an earlier run
        """End the run: no line follows, in this process or a later one."""

    def close(self) -> None:  # noqa: B027, an output without a buffer has no remaining lines
        """Write the remaining lines."""


def discard_standard_output() -> None:
    """Redirect standard output to nowhere, so that Python's exit does not fail on its buffer."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class StandardOutput(Output):
    """Standard output. Writing waits for the reader."""

    def write(self, lines: list[str]) -> None:
        if not lines:
            return
        if sys.stdout is None:
            raise OutputError("standard output is closed; give --output, or open it")
        try:
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            discard_standard_output()
            raise OutputError(f"standard output cannot be written ({error.strerror or error})") from error


class DeviceOutput(Output):
    """A pipe, a terminal, a device such as /dev/null, or /dev/stdout. Writing waits for the reader.

    Raises OutputError if it cannot be written, such as a pipe that no program reads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            if (number := _descriptor(path)) is not None:
                self._file = os.dup(number)
            else:
                self._file = open_file(path, os.O_WRONLY | NO_TERMINAL)
                if sys.platform != "win32":
                    os.set_blocking(self._file, True)
        except OSError as error:
            reason = "no program reads it" if error.errno == errno.ENXIO else error.strerror or error
            raise OutputError(f"{path}: cannot be written ({reason}); start its reader first") from error

    def write(self, lines: list[str]) -> None:
        data = memoryview("".join(f"{line}\n" for line in lines).encode())
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written ({error.strerror or error})") from error

    def close(self) -> None:
        file, self._file = self._file, -1
        with contextlib.suppress(OSError):  # a closed file stays closed
            os.close(file)


def is_device(path: Path) -> bool:
    """Whether a path is a pipe, a terminal or a device, to which lines can only be sent."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _descriptor(path: Path) -> int | None:
    """The number of the open file that a name such as /dev/stdout stands for."""
    if path.parent == Path("/dev/fd") and path.name.isdecimal():
        return int(path.name)
    return {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}.get(str(path))


class BackgroundOutput(Output):
    """Writes to another output in a thread, so that neither live sources nor signals wait for a slow reader.

    If the queue is full, :meth:`write` ``waits`` for room, or the oldest lines are dropped. ``dropped`` is
    called with their number, and returns a line that is written in their place. At the end the reader can
    take its time for the remaining lines. As soon as ``hurry`` returns True, nothing waits for it.
    """

    def __init__(
        self,
        inner: Output,
        dropped: Callable[[int], str],
        hurry: Callable[[], bool] = lambda: False,
        longest: int = _LONGEST_QUEUE,
        *,
        waits: bool = False,
    ) -> None:
        self._inner, self._say_dropped, self._hurry = inner, dropped, hurry
        self._longest, self._waits = longest, waits
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._writing = self._closing = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_on, name="output", daemon=True)
        self._thread.start()

    def write(self, lines: list[str]) -> None:
        with self._changed:
            if self._waits:
                self._wait_until(lambda: len(self._lines) < self._longest)
            if self._error is not None:
                raise self._error
            self._lines.extend(lines)
            while len(self._lines) > self._longest:
                self._lines.popleft()
                self._dropped += 1
            self._changed.notify()

    def checkpoint(self) -> None:
        # A state after lines that were not written would lose them.
        with self._changed:
            if self._waits:
                self._wait_until(lambda: not (self._lines or self._writing))

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait, unless there is an error or a hurry. The caller holds the lock."""
        while not condition() and self._error is None and not self._hurry():
            self._changed.wait(0.1)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        while self._thread.is_alive() and not self._hurry():
            self._thread.join(0.1)
        self._thread.join(_FAREWELL)
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            # The thread stays until the process ends, and should keep nothing else until then.
            self._hurry = lambda: True
            with self._changed:
                self._say_dropped(len(self._lines) + self._dropped)
        else:
            self._inner.close()

    def _write_on(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._closing:
                    self._changed.wait()
                if not self._lines:
                    return
                lines = [self._lines.popleft() for _ in range(min(16, len(self._lines)))]
                self._writing = True
                if self._dropped:
                    lines.insert(0, self._say_dropped(self._dropped))
                    self._dropped = 0
            error = self._failed(lines)
            with self._changed:
                self._writing, self._error = False, error
                self._changed.notify_all()
            if error is not None:
                return

    def _failed(self, lines: list[str]) -> BaseException | None:
        try:
            self._inner.write(lines)
        except BaseException as error:
            return error
        return None
