"""Where lines go: a file that agrees with its checkpoint, or standard output, slow or not."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from multires_edge.base.errors import OutputError, StateError
from multires_edge.base.files import disk_errors

# Lines that wait for a slow reader: minutes of decisions, and no more than a megabyte or so.
_LONGEST_QUEUE = 2000
_FAREWELL = 2.0


class Output(Protocol):
    """Takes lines, without their ends."""

    def write(self, lines: list[str]) -> None:
        """Write lines; raises OutputError for a full disk, BrokenPipeError for a reader that has gone."""

    def checkpoint(self) -> int | None:
        """Bring everything to the disk; the bytes so far, or None where they cannot be taken back."""

    def close(self) -> None:
        """Write what is left."""


class FileOutput:
    """A file from ``offset`` on: what a process wrote after its last checkpoint is cut off."""

    def __init__(self, path: Path, offset: int | None) -> None:
        self._path = path
        if offset is None and path.exists() and path.stat().st_size:
            raise OutputError(f"{path}: exists already, and no state says how far it is good; move it away")
        with disk_errors(path):
            size = path.stat().st_size if path.exists() else 0
            if size < (offset or 0):
                raise StateError(
                    f"{path}: has {size} bytes, {offset} when the state was saved; it was changed since"
                )
            self._file = path.open("r+b" if path.exists() else "xb")
            if size:
                self._file.truncate(offset or 0)
                self._file.seek(offset or 0)

    def write(self, lines: list[str]) -> None:
        with self._disk_errors():
            self._file.write("".join(f"{line}\n" for line in lines).encode())
            self._file.flush()

    def checkpoint(self) -> int:
        with self._disk_errors():
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        # What could not be written was said when it was tried.
        with contextlib.suppress(OSError):
            self._file.close()

    @contextlib.contextmanager
    def _disk_errors(self):  # type: ignore[no-untyped-def]
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"{self._path}: cannot be written ({error.strerror or error}); decisions end here, and go on "
                "from the state file when there is room"
            ) from error


def discard_standard_output() -> None:
    """Nobody takes what is left in its buffer; Python must not find that out again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class StandardOutput:
    """Standard output, which waits for its reader."""

    def write(self, lines: list[str]) -> None:
        if not lines:
            return
        if sys.stdout is None:
            raise OutputError("standard output is closed; give --output, or let something read it")
        try:
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            discard_standard_output()
            raise OutputError(f"standard output cannot be written ({error.strerror or error})") from error

    def checkpoint(self) -> None:
        return None

    def close(self) -> None:
        pass


class BackgroundOutput:
    """Another output behind a thread, for live sources: writing to it never waits.

    While its reader is slow the oldest lines give way; ``dropped`` is called with how many, and its line
    goes where they would have been. At the end there is nothing to hold up any more: the reader gets what
    is left in its own time, unless ``hurry`` says otherwise.
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

    def checkpoint(self) -> int | None:
        return None

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
