"""Outputs for lines: a file that agrees with its checkpoint, and standard output."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from pathlib import Path

from multires_edge.base.errors import OutputError, StateError
from multires_edge.base.files import disk_errors

# Lines that wait for a slow reader: minutes of decisions, about a megabyte.
_LONGEST_QUEUE = 2000
_GO_ON = "free some space and start again, which continues from the state file"
_FAREWELL = 2.0  # seconds that a slow reader gets at the end


class Output(ABC):
    """Takes lines without line ends."""

    @abstractmethod
    def write(self, lines: list[str]) -> None:
        """Write lines. Raises OutputError if they cannot be written, BrokenPipeError if the reader left."""

    def checkpoint(self) -> int | None:
        """Sync to the disk. Returns the bytes so far, or None if lines cannot be taken back."""
        return None

    def close(self) -> None:  # noqa: B027, an output without a buffer has no remaining lines
        """Write the remaining lines."""


class FileOutput(Output):
    """A file, continued at ``offset``: lines after the last checkpoint of the process before are cut off."""

    def __init__(self, path: Path, offset: int | None) -> None:
        self._path = path
        if offset is None and path.exists() and path.stat().st_size:
            raise OutputError(f"{path}: exists already, but no state belongs to it; move it away")
        with disk_errors(path):
            size = path.stat().st_size if path.exists() else 0
            if size < (offset or 0):
                raise StateError(
                    f"{path}: has {size} bytes, but had {offset} when the state was saved; restore the file, "
                    "or move file and state away"
                )
            self._file = path.open("r+b" if path.exists() else "xb")
            if size:
                self._file.truncate(offset or 0)
                self._file.seek(offset or 0)

    def write(self, lines: list[str]) -> None:
        with disk_errors(self._path, _GO_ON):
            self._file.write("".join(f"{line}\n" for line in lines).encode())
            self._file.flush()

    def checkpoint(self) -> int:
        with disk_errors(self._path, _GO_ON):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        # write() reported the error already.
        with contextlib.suppress(OSError):
            self._file.close()


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


class BackgroundOutput(Output):
    """Writes to another output in a thread, so that live sources never wait for a slow reader.

    If the queue is full, the oldest lines are dropped. ``dropped`` is called with their number, and returns
    a line that is written in their place. At the end the reader can take its time for the remaining lines,
    unless ``hurry`` returns True.
    """

    def __init__(
        self,
        inner: Output,
        dropped: Callable[[int], str],
        hurry: Callable[[], bool] = lambda: False,
        longest: int = _LONGEST_QUEUE,
    ) -> None:
        self._inner, self._say_dropped, self._hurry = inner, dropped, hurry
        self._longest = longest
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._closing = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_on, name="output", daemon=True)
        self._thread.start()

    def write(self, lines: list[str]) -> None:
        with self._changed:
            if self._error is not None:
                raise self._error
            self._lines.extend(lines)
            while len(self._lines) > self._longest:
                self._lines.popleft()
                self._dropped += 1
            self._changed.notify()

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
                if self._dropped:
                    lines.insert(0, self._say_dropped(self._dropped))
                    self._dropped = 0
            try:
                self._inner.write(lines)
            except BaseException as error:
                with self._changed:
                    self._error = error
                return
