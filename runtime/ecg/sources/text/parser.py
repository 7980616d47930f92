"""Samples as lines of text: a table as CSV, or JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError
from multires_edge.format.fields import Natural
from multires_edge.runtime.ecg.lead_names import is_lead
from multires_edge.runtime.ecg.sources.protocol import (
    Missing,
    Note,
    Piece,
    Samples,
)
from multires_edge.runtime.ecg.sources.text import cells
from multires_edge.runtime.ecg.sources.text.block import Block
from multires_edge.runtime.ecg.sources.text.columns import is_time
from multires_edge.runtime.ecg.sources.text.head import Head
from multires_edge.runtime.ecg.sources.text.table import is_comment, prepared
from multires_edge.runtime.ecg.sources.text.timeline import LATEST, Placed, Timeline, TimelineState

# A line is shorter than this, in bytes.
LONGEST_LINE = 1 << 20
_SAMPLES_AT_ONCE = 512
# Fewer lines are read one by one, as those of a live device usually are.
_FEWEST_TOGETHER = 8
_NUMBERS = {int, float, NoneType}


@dataclass(frozen=True)
class ParserState:
    """Lines so far, consecutive bad lines, whether lines have had times, and where these are."""

    lines: Natural
    bad: Natural
    timed: bool
    timeline: TimelineState


class LineParser:
    """Converts lines to pieces, as their ``head`` shows what they have. Raises DataError.

    CSV: a line is a sample, and may have a time. JSON: a line is a bare row, or {"samples": [[...]], "time":
    1.5} with one row per sample, of at most ``longest`` seconds. Missing values are NaN. A line that cannot
    be read is an event, and one missing sample if the lines have no times. A header may come again, but not
    another one.
    """

    def __init__(self, head: Head, longest: float = math.inf) -> None:
        self._head, self.layout = head, head.finish()
        self.signal = self.layout.signal
        self._time, self._count = self.layout.time, self.layout.count
        self._scale, self._offset = self.layout.scale, self.layout.offset
        self._decimal = self.layout.decimal
        self._again = {line.strip() for line in head.taken[: self.layout.lines]}
        self._most_rows = longest * self.signal.rate
        self._timeline = Timeline(self.signal.rate)
        self._block = Block(self.layout)
        # How many lines are tried together next, and how many are not, after a line that is not plain.
        self._together, self._singly = _SAMPLES_AT_ONCE, 0
        self.timed = self._time is not None  # whether lines have had times
        self._lines = self.layout.lines
        self._bad = 0
        self._new = False  # whether the next line is the first of another connection
        # Samples that are in no piece yet: arrays, then rows.
        self._arrays: list[NDArray[np.float64]] = []
        self._rows: list[list[float]] = []
        self._pieces: list[Piece] = []
        self._arrived: float | None = None
        self.size = 0  # samples of the pieces so far

    def add(self, line: bytes, arrived: float | None = None) -> None:
        """Convert a line; :meth:`take` has its pieces. Raises DataError for another header."""
        self._lines += 1
        plain = self._head.decoded(line, first=self._lines == 1)
        if not plain.strip() or (not self.layout.json and is_comment(plain)):
            return
        self._arrive(arrived)
        try:
            if len(line) >= LONGEST_LINE:
                raise ValueError(f"has more than {LONGEST_LINE} bytes")
            time, rows = self._json_line(plain) if self.layout.json else self._csv_line(plain)
            if not 0 < len(rows) <= self._most_rows:
                raise ValueError(f"has {len(rows)} samples, expected 1 to {self._most_rows:.0f}")
            placed = self._timeline.place(time, rows)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            if not self._is_header(plain):
                self._refuse(str(error))
            return
        finally:
            self._new = False
        self._end_of_bad(self._lines - 1)
        self._place(placed)
        self._flush_if_many()

    def add_first(self, lines: Sequence[bytes], start: int, arrived: float | None = None) -> int:
        """Convert lines from ``start`` on as :meth:`add` does: several of plain numbers, or one of any kind.

        Returns how many. Raises DataError for another header.
        """
        if not self._singly and len(lines) - start >= _FEWEST_TOGETHER:
            room = min(self._together, _SAMPLES_AT_ONCE - self._unflushed)
            taken = self._add_together(lines[start : start + room], arrived)
            if taken:
                self._together = min(2 * self._together, _SAMPLES_AT_ONCE)
                return taken
            self._together = max(self._together // 2, _FEWEST_TOGETHER)
            self._singly = _FEWEST_TOGETHER
        self._singly = max(0, self._singly - 1)
        self.add(lines[start], arrived)
        return 1

    def _add_together(self, lines: Sequence[bytes], arrived: float | None) -> int:
        """Convert lines of plain numbers whose times are as expected; returns how many of the first ones."""
        timed = self._time is not None
        steady = not timed or self._timeline.is_steady
        if not (steady and self._block.possible and self._lines) or self._head.wide:
            return 0
        numbers = self._block.read(lines, LONGEST_LINE)
        if numbers is None:
            return 0
        taken = len(lines)
        if timed:
            times, numbers = numbers[:, 0], numbers[:, 1:]
            if not (np.abs(times) <= LATEST).all():
                return 0
            taken = self._timeline.follow(times, numbers)
        else:
            self._timeline.count(taken)
        if taken:
            self._arrive(arrived)
            self._new = False
            self._end_of_bad(self._lines)
            self._lines += taken
            self.size += taken
            self._arrays += [*self._array_of_rows(), numbers[:taken]]
            self._flush_if_many()
        return taken

    @property
    def pieces(self) -> int:
        """The number of pieces so far."""
        return len(self._pieces)

    def parse(self, lines: Iterable[bytes], arrived: float | None = None) -> list[Piece]:
        """Convert lines to pieces. Raises DataError for another header."""
        taken, some = 0, list(lines)
        while taken < len(some):
            taken += self.add_first(some, taken, arrived)
        return self.take()

    def take(self) -> list[Piece]:
        """The pieces of the lines since the last call."""
        self._flush()
        pieces, self._pieces, self.size = self._pieces, [], 0
        return pieces

    def finish(self) -> list[Piece]:
        """The pieces since the last :meth:`take`, and the events that the next good line would have had."""
        self._place(self._timeline.finish())
        self._end_of_bad(self._lines)
        self._flush()
        return self.take()

    def note(self, kind: str, **details: Any) -> None:
        """Report an event after the lines so far."""
        self._flush()
        self._pieces.append(Note(kind, details))

    def reconnected(self) -> None:
        """Expect a header of the same signal, or samples."""
        self._new = True

    def skip(self, seconds: float) -> list[Piece]:
        """Pass over samples that never arrived, before the next line."""
        self._timeline.skip(seconds)
        self.note("gap", seconds=round(seconds, 3))
        self._missing(round(seconds * self.signal.rate))
        return self.take()

    def _csv_line(self, line: bytes) -> tuple[float | None, list[list[float]]]:
        delimiter = self.layout.delimiter
        row = cells.split(prepared(line, delimiter), delimiter)
        if len(row) != self._count:
            rest = row[self._count :]
            if len(row) < self._count or any(cell.strip() for cell in rest):  # separators at the end
                raise ValueError(f"has {len(row)} fields, expected {self._count}")
        leads = self.layout.leads
        try:
            if b"_" in line or self._decimal == b",":  # "1_000" and "1.000" are other numbers for float()
                raise ValueError
            values = [float(row[i]) for i in leads]
        except ValueError:
            values = [_number(row, i, self._decimal) for i in leads]
        if self._time is None:
            return None, [values]
        return _seconds(cells.time(row[self._time], self._decimal)), [values]

    def _is_header(self, line: bytes) -> bool:
        """Whether a line that has no samples is the header again. Raises DataError for another header.

        The first line of a connection is a header if it has names in any columns. Elsewhere names may be a
        line that was damaged, unless they are leads.
        """
        if line.strip() in self._again:
            return True
        if self.layout.json:
            if not _has_leads(line):
                return False
        elif not self._names_leads(line):
            return False
        other = self._head.other(line)
        if (other.signal, other.time) != (self.signal, self._time):
            raise DataError(f"{self.signal.name}: another header came, with other leads, rate or unit")
        return True

    def _names_leads(self, line: bytes) -> bool:
        try:
            row = cells.split(prepared(line, self.layout.delimiter), self.layout.delimiter)
        except ValueError:
            return False
        names = [cells.plain(cell) for cell in row]
        if any(map(cells.is_number, row)) or len(set(names)) < len(names):
            return False
        known = set(self.signal.leads)
        return self._new or all(name in known or is_lead(name) or is_time(name) for name in names)

    def _json_line(self, line: bytes) -> tuple[float | None, list[list[float]]]:
        try:
            entry = json.loads(line)
        except ValueError:
            raise ValueError("is not JSON") from None  # whose text may be a name
        time = None
        if isinstance(entry, dict):
            time, rows = entry.get("time"), entry.get("samples")
        else:
            rows = [entry]
        if not isinstance(rows, list) or not all(
            isinstance(row, list) and len(row) == self._count and _NUMBERS.issuperset(map(type, row))
            for row in rows
        ):
            raise ValueError(f"expected samples as rows of {self._count} numbers")
        if time is not None:
            if isinstance(time, str):
                time = cells.time(time.encode())
            elif type(time) not in _NUMBERS:
                raise ValueError("has a time that is no number")
            time = _seconds(time)
            self.timed = True
        return time, [[math.nan if value is None else float(value) for value in row] for row in rows]

    def _place(self, placed: list[Placed]) -> None:
        for item in placed:
            if isinstance(item, list):
                self._rows += item
                self.size += len(item)
            elif isinstance(item, Missing):
                self._missing(item.count)
            else:
                self._flush()
                self._pieces.append(item)

    def _missing(self, count: int) -> None:
        self._flush()
        self.size += count
        if self._pieces and isinstance(self._pieces[-1], Missing):
            count += self._pieces.pop().count
        self._pieces.append(Missing(count))

    def _refuse(self, reason: str) -> None:
        self._bad += 1
        if self._bad == 1:  # consecutive bad lines are counted
            message = " ".join(reason.split())[:200]
            self.note("bad_line", line=self._lines, message=message)
        if not self.timed:
            self._missing(1)

    def _end_of_bad(self, until: int) -> None:
        if self._bad > 1:
            self.note("bad_lines", lines=self._bad, until=until)
        self._bad = 0

    @property
    def _unflushed(self) -> int:
        return sum(map(len, self._arrays)) + len(self._rows)

    def _array_of_rows(self) -> list[NDArray[np.float64]]:
        rows, self._rows = self._rows, []
        return [np.array(rows, np.float64)] if rows else []

    def _arrive(self, arrived: float | None) -> None:
        """Note when the next samples arrived; a piece has one such time."""
        if arrived != self._arrived:
            self._flush()
            self._arrived = arrived

    def _flush_if_many(self) -> None:
        if self._unflushed >= _SAMPLES_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        arrays, self._arrays = self._arrays + self._array_of_rows(), []
        if arrays:
            values = np.concatenate(arrays)
            if self._scale is not None and self._offset is not None:
                values = values * self._scale + self._offset
            self._pieces.append(Samples(values, self._arrived))

    def save(self) -> ParserState:
        return ParserState(self._lines, self._bad, self.timed, self._timeline.save())

    def load(self, saved: ParserState) -> None:
        self._lines, self._bad, self.timed = saved.lines, saved.bad, saved.timed
        self._timeline.load(saved.timeline)


def _number(row: Sequence[bytes], column: int, decimal: bytes) -> float:
    try:
        return cells.number(row[column], decimal)
    except ValueError as error:
        raise ValueError(f"field {column + 1} {error}") from None


def _has_leads(line: bytes) -> bool:
    try:
        entry = json.loads(line) if b"leads" in line else None
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and "leads" in entry


def _seconds(value: Any) -> float:
    time = float(value)
    if not abs(time) <= LATEST:
        raise ValueError(f"has the time {time:g}, expected seconds")
    return time
