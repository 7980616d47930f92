"""Text files: read to their end, or followed while another program writes them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.descriptors import read_at
from multires_edge.base.errors import DataError, StateError
from multires_edge.runtime.ecg.file_mark import FileMark
from multires_edge.runtime.ecg.sources.protocol import Format, Note, Piece, Source
from multires_edge.runtime.ecg.sources.text.head import Head
from multires_edge.runtime.ecg.sources.text.parser import LONGEST_LINE, LineParser, ParserState

# Lines of the file that wait for the parser.
_LINES_AT_ONCE = 512


@dataclass(frozen=True)
class FilePosition:
    """The bytes that were read, and whether the file ended there."""

    read: FileMark
    ended: bool
    parser: ParserState


class TextFileSource(Source):
    """A text file, read from its start to its end.

    If ``given`` says to ``follow`` it, the source has no end: it waits for further lines, and for the end of
    the last one. If the file is cut or replaced, as by a program that starts a new file every day, an event
    says so, and reading continues at the beginning of the new file. That must have the same leads, rate and
    unit, or the source is lost. Raises DataError.
    """

    Position = FilePosition

    def __init__(self, path: Path, given: Format) -> None:
        self._path = path
        self.waits = given.follow
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: is not a file; give - for lines on standard input")
        try:
            self._file = path.open("rb")
            head, lengths = Head(str(path), given), list[int]()
            while line := self._file.readline(LONGEST_LINE):
                lengths.append(len(line))
                if head.add(line):
                    break
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        self._parser = LineParser(head)
        self._file.seek(sum(lengths[: self._parser.layout.lines]))
        self.signal, self.notes = self._parser.signal, self._parser.layout.notes
        self._mark = FileMark.of(self._file.fileno(), self._file.tell())
        # Whether the file has another name now, or none: it is read to its end before the new one.
        self._replaced = False
        self._notes: list[Piece] = []

    def read(self, count: int) -> list[Piece]:
        if self.ended:
            return []
        pieces, self._notes = self._notes, []
        try:
            if self.waits and not self._mark.fits(self._file.fileno()):
                return pieces + self._begin_again()
            more = self._convert(count)
            self._mark = FileMark.of(self._file.fileno(), self._file.tell())
            pieces += self._parser.take()
            if not more and self.waits:
                pieces += self._begin_again() if self._replaced else []
                self._replaced = self._was_replaced()
            elif not more:
                self.ended = True
                pieces += self._parser.finish()
        except (OSError, DataError) as error:
            self.ended = True
            reason = str(error) if isinstance(error, DataError) else error.strerror or str(error)
            pieces.append(Note("lost", {"message": reason}, fault=True))
        return pieces

    def _convert(self, count: int) -> bool:
        """Convert the next ``count`` samples or lines. Returns False if the file has no more of them."""
        done = 0
        while done < count:
            lines, taken = self._lines(min(count - done, _LINES_AT_ONCE)), 0
            if not lines:
                return False
            while taken < len(lines) and done < count:
                more = self._parser.add_first(lines, taken)
                taken += more
                done = max(done + more, self._parser.size)
            if taken < len(lines):
                self._file.seek(-sum(map(len, lines[taken:])), os.SEEK_CUR)
        return True

    def _lines(self, most: int) -> list[bytes]:
        """The next lines. Those that lack their end come alone."""
        lines: list[bytes] = []
        while len(lines) < most:
            line = self._file.readline(LONGEST_LINE)
            if line[-1:] == b"\n":
                lines.append(line)
                continue
            if lines:
                self._file.seek(-len(line), os.SEEK_CUR)
            elif rest := self._without_end(line):
                lines.append(rest)
            break
        return lines

    def _without_end(self, line: bytes) -> bytes:
        """A line without its end, which is too long, or the last one; empty if more of it can follow."""
        if len(line) == LONGEST_LINE:  # too long: the rest is no line of its own
            while (rest := self._file.readline(LONGEST_LINE)) and rest[-1:] != b"\n":
                pass
        elif line and self.waits and not self._replaced:
            self._file.seek(-len(line), os.SEEK_CUR)
            return b""
        return line

    def _was_replaced(self) -> bool:
        """Whether another file has the name now. While no file has it, the old one is followed."""
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def _begin_again(self) -> list[Piece]:
        """Go to the beginning of the file that was cut or replaced."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return []
        self._file.close()
        self._file, self._mark, self._replaced = file, FileMark.of(file.fileno(), 0), False
        self._parser.reconnected()
        self._parser.note("replaced", message="the file was cut or replaced; its new lines follow")
        return self._parser.take()

    def save(self) -> FilePosition:
        return FilePosition(self._mark, self.ended, self._parser.save())

    def load(self, saved: FilePosition) -> None:
        file = self._file.fileno()
        self._parser.load(saved.parser)
        self._mark = saved.read
        if not saved.read.fits(file):
            if not self.waits:
                raise StateError(
                    f"{self._path}: is not the file, or not all of it, of which {saved.read.size} bytes were "
                    "read when the state was saved; restore the file, or move the state away"
                )
            return  # read() begins again
        self._file.seek(saved.read.size)
        size = os.fstat(file).st_size
        self.ended = saved.ended and not self.waits and size == saved.read.size
        if saved.ended and size > saved.read.size > 0 and read_at(file, 1, saved.read.size - 1) != b"\n":
            rest = self._file.readline(LONGEST_LINE)
            if rest.strip():
                message = "its start was read before its end was written"
                self._notes.append(Note("bad_line", {"line": saved.parser.lines, "message": message}))

    def close(self) -> None:
        self._file.close()
