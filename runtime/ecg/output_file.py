"""A file of lines that agrees with its checkpoint, whatever happens to the file."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from multires_edge.base.descriptors import append, open_file, read_at
from multires_edge.base.errors import OutputError, StateError
from multires_edge.base.files import disk_errors, flush_folder, lock_file
from multires_edge.format.fields import parse_json
from multires_edge.runtime.ecg.file_mark import FileMark
from multires_edge.runtime.ecg.output import Output
from multires_edge.runtime.ecg.whole_lines import LONGEST_LINE, end_of_lines

_GO_ON = "free some space and start again, which continues from the state file if there is one"
_LATEST = 1e10  # seconds
_BEGINNING = b'{"type": "'


class OutputFile(Output):
    """A regular file of JSON lines, locked for this process and only ever appended to.

    ``mark`` is the file at the checkpoint that the run continues from, or None for a new file. Lines after
    the mark were written by a run that was killed:

    - If the sources are ``repeatable``, the run makes these lines again. Each is compared with the file, and
      not written twice.
    - Otherwise they stay. A last line that is not whole is moved away.

    Bytes are never deleted. Those that have no place in the file are moved to ``NAME.cut``, and ``say`` is
    called. The file may be cut, moved away, deleted or appended to by another program: the next write
    notices it, goes on at the end of the file of that name, and says so in an event.

    The lines of this run begin at ``start``, and end at ``position``. A reader has to look again where they
    begin if ``moves`` has changed: then they went on elsewhere.

    ``endless``: the run has no end of its own. It then also continues if the file is not the one of the mark,
    because log files are moved away while a service is down. Raises OutputError, and StateError if the file
    does not fit the mark.
    """

    def __init__(
        self,
        path: Path,
        mark: FileMark | None,
        *,
        repeatable: bool = True,
        endless: bool = False,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.path, self._say = path, say
        self.moves = self.start = 0
        self.kept: Counter[str] = Counter()
        self.reached: dict[str, float] = {}
        with disk_errors(path):
            self._file = _open(path)
            try:
                # Lines of this run end at _position. _size is more if lines of a killed run follow.
                self._position = self._size = os.fstat(self._file).st_size
                if mark is None:
                    if self._size:
                        raise OutputError(f"{path}: exists already, but no state belongs to it; move it away")
                elif not mark.fits(self._file):
                    self._check_other_file(mark, endless)
                    self._end_whole()
                    self._event(
                        f"is another file than at the last checkpoint, which had {mark.size} bytes; "
                        "lines after the checkpoint may be missing, or written twice"
                    )
                elif repeatable:
                    self._position = mark.size
                else:
                    self._keep_whole_lines(mark.size)
                if not self.moves:
                    self.start = self._position
            except BaseException:
                os.close(self._file)
                raise

    def write(self, lines: list[str]) -> None:
        if not lines:
            return
        with disk_errors(self.path, _GO_ON):
            self._settle()
            if new := self._without_repeated("".join(f"{line}\n" for line in lines).encode()):
                self._append(new)

    def checkpoint(self) -> FileMark:
        with disk_errors(self.path, _GO_ON):
            self._settle()
            os.fsync(self._file)
            self.unsettled = False
            return FileMark.of(self._file, self._position)

    def finish(self) -> None:
        with disk_errors(self.path):
            if self._position < self._size:
                self._set_aside("the run did not make these lines again")
                self._go_on_at(self._position)

    @property
    def position(self) -> int:
        """Where the lines of this run end."""
        return self._position

    def duplicate(self) -> int:
        """The open file again, for a reader, which closes it. Raises OSError."""
        return os.dup(self._file)

    def close(self) -> None:
        file, self._file = self._file, -1
        # write() reported the error already; a closed file stays closed.
        with contextlib.suppress(OSError):
            os.close(file)

    def _check_other_file(self, mark: FileMark, endless: bool) -> None:
        """Refuse a file that is not the one of the mark, if it is a mistake of the user's."""
        ours = read_at(self._file, len(_BEGINNING), 0) in (b"", _BEGINNING)
        if not endless or not ours:
            raise StateError(
                f"{self.path}: has {self._size} bytes, and not the {mark.size} that it had when the state "
                "was saved; restore the file, or move file and state away"
            )

    def _keep_whole_lines(self, start: int) -> None:
        """Keep the lines from ``start`` to the first that is not whole, and count them."""
        self._position = start
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(start)
            for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                try:
                    entry = parse_json(line.decode()) if line.endswith(b"\n") else None
                except (ValueError, RecursionError):
                    entry = None
                if not isinstance(entry, dict):
                    break
                self._position += len(line)
                source, time = entry.get("source"), entry.get("time")
                if isinstance(source, str) and isinstance(time, int | float) and 0 <= time < _LATEST:
                    self.kept[source] += 1
                    if entry.get("type") == "decision":
                        self.reached[source] = time
        if self._position < self._size:
            self._set_aside("they are not whole lines")

    def _settle(self) -> None:
        """Notice what other programs did to the file since the last write."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            there = None
        mine, expected = os.fstat(self._file), self._size
        if there is None or not os.path.samestat(there, mine):
            with contextlib.suppress(OSError):  # the file may be on a disk that is gone
                os.fsync(self._file)
            replacement = _open(self.path, like=self._file)
            os.close(self._file)
            self._file = replacement
            what = "was moved away or deleted, with the lines before this one"
        elif mine.st_size == expected:
            return
        elif mine.st_size < expected:
            what = f"was cut from {expected} to {mine.st_size} bytes by another program"
        else:
            what = f"grew by {mine.st_size - expected} bytes from another program"
        if self._position < self._size:
            # The run was making the lines of a killed run again, and no longer knows which there are.
            what += "; lines may be written twice"
        self._end_whole()
        self._event(what)

    def _end_whole(self) -> None:
        """Continue at the end of the file, after its last whole line."""
        self._size = os.fstat(self._file).st_size
        self._position = end_of_lines(self._file, self._size)
        if self._position < self._size:
            self._set_aside("the last line was not whole")
        self._go_on_at(self._position)

    def _go_on_at(self, start: int) -> None:
        """Tell readers that lines do not go on at the end of those before, but at ``start``."""
        self.start = start
        self.moves += 1

    def _event(self, what: str) -> None:
        """Append an event of this file, which belongs to no source."""
        entry = {"type": "event", "source": None, "time": None, "event": "output", "message": what}
        self._append(json.dumps(entry).encode() + b"\n")
        self._say(f"warning: {self.path}: {what}")
        self.unsettled = True

    def _append(self, data: bytes) -> None:
        """Append whole lines. If there is no room for all of them, those that fit stay."""
        written = 0
        try:
            while written < len(data):
                # O_APPEND: at the end, even if the file was cut a moment ago.
                written += append(self._file, data[written:])
        except OSError:
            whole = data[:written].rfind(b"\n") + 1
            os.ftruncate(self._file, max(0, os.fstat(self._file).st_size - (written - whole)))
            self._position = self._size = self._position + whole
            raise
        self._position = self._size = self._position + len(data)

    def _without_repeated(self, data: bytes) -> bytes:
        """The lines that the file does not have yet. Others than these are moved away."""
        if self._position == self._size:
            return data
        there = read_at(self._file, len(data), self._position)
        before = self._position
        common = next((i for i, (a, b) in enumerate(zip(there, data, strict=False)) if a != b), len(there))
        whole = data[:common].rfind(b"\n") + 1
        ends = self._position + common == self._size
        self._position += whole
        if ends:  # perhaps within a line, which is then written again
            os.ftruncate(self._file, self._position)
            self._size = self._position
        elif whole < len(data):
            self._set_aside("the run makes other lines now")
            self._go_on_at(before)
        return data[whole:]

    def _set_aside(self, why: str) -> None:
        """Move the bytes after the run's own lines to another file."""
        aside = self.path.with_name(f"{self.path.name}.cut")
        moved = self._size - self._position
        with disk_errors(aside, "free some space and start again; no line was lost"):
            copy = _open(aside, like=self._file)
            try:
                at = self._position
                while at < self._size:
                    at += append(copy, read_at(self._file, min(1 << 20, self._size - at), at))
                os.fsync(copy)
            finally:
                os.close(copy)
        os.ftruncate(self._file, self._position)
        self._size = self._position
        self._say(f"warning: {self.path}: the last {moved} bytes were moved to {aside}, because {why}")


def check_not_in_use(path: Path) -> None:
    """Raise OutputError if another process writes a file: before a device is connected for nothing."""
    if not path.is_file():
        return
    with disk_errors(path):
        file = open_file(path, os.O_RDONLY)
        try:
            _lock(file, path)
        finally:
            os.close(file)


def _lock(file: int, path: Path) -> None:
    if not lock_file(file):
        raise OutputError(f"{path}: another process writes it; stop that process, or choose another file")


def _open(path: Path, like: int | None = None) -> int:
    """Open a regular file to append to it, lock it, and sync its name. Raises OSError.

    A new file has the mode of the open file ``like``, because lines are a patient's.
    """
    try:
        new = like is not None and not path.exists()
        file = open_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600 if new else 0o666)
        if new and like is not None and sys.platform != "win32":
            os.fchmod(file, stat.S_IMODE(os.fstat(like).st_mode))
    except FileNotFoundError as error:
        raise OutputError(f"{path.parent}: no such folder; create it or choose another") from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OutputError(f"{path}: is not a file of its own; choose another name")
        _lock(file, path)
        flush_folder(path.resolve().parent)
    except BaseException:
        os.close(file)
        raise
    return file
