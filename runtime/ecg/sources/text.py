"""Samples as lines of text: CSV with a header of lead names, or JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType
from typing import Any

import numpy as np

from multires_edge.format.fields import Natural
from multires_edge.runtime.ecg.sources.header import Header
from multires_edge.runtime.ecg.sources.protocol import (
    Format,
    Missing,
    Note,
    Piece,
    Samples,
)
from multires_edge.runtime.ecg.sources.timeline import LATEST, Placed, Timeline, TimelineState

# A line is shorter than this, in bytes.
LONGEST_LINE = 1 << 20
_SAMPLES_AT_ONCE = 512
_BOM = b"\xef\xbb\xbf"
_NUMBERS = {int, float, NoneType}


@dataclass(frozen=True)
class ParserState:
    """Lines so far, consecutive bad lines, whether lines have had times, and where these are."""

    lines: Natural
    bad: Natural
    timed: bool
    timeline: TimelineState


class LineParser:
    """Converts lines to pieces. The first line names the leads, the other lines have samples.

    CSV: the header names one column per lead, and may name a column ``time``, in seconds. JSON: the first
    line is {"leads": [...], "rate": 500, "unit": "mV"}. The others are a bare row, or {"samples": [[...]],
    "time": 1.5} with one row per sample, of at most ``longest`` seconds. Empty fields and null are missing
    values. A line that cannot be read is an event, and one missing sample if the lines have no times. A
    header may come again, but not another one.
    """

    def __init__(self, name: str, first: bytes, given: Format, longest: float = math.inf) -> None:
        self._header = Header(name, first.removeprefix(_BOM), given)
        self.signal, self.header_lines = self._header.signal, self._header.lines
        self._json, self._time = self._header.json, self._header.time
        self._columns = len(self.signal.leads) + (self._time is not None)
        self._most_rows = longest * self.signal.rate
        self._timeline = Timeline(self.signal.rate)
        self.timed = self._time is not None  # whether lines have had times
        self._lines = self.header_lines
        self._bad = 0
        self._new = False  # whether the next line is the first of another connection
        self._rows: list[list[float]] = []
        self._pieces: list[Piece] = []
        self._arrived: float | None = None
        self.size = 0  # samples of the pieces so far

    def add(self, line: bytes, arrived: float | None = None) -> None:
        """Convert a line; :meth:`take` has its pieces. Raises DataError for another header."""
        self._lines += 1
        plain = line.removeprefix(_BOM) if self._lines == 1 else line
        if not plain.strip():
            return
        if arrived != self._arrived:
            self._flush()
            self._arrived = arrived
        try:
            if len(line) >= LONGEST_LINE:
                raise ValueError(f"has more than {LONGEST_LINE} bytes")
            time, rows = self._json_line(plain) if self._json else self._csv_line(plain)
            if not 0 < len(rows) <= self._most_rows:
                raise ValueError(f"has {len(rows)} samples, expected 1 to {self._most_rows:.0f}")
            placed = self._timeline.place(time, rows)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            if not self._header.check(plain, strict=self._new):
                self._refuse(str(error))
            return
        finally:
            self._new = False
        self._end_of_bad(self._lines - 1)
        self._place(placed)
        if len(self._rows) >= _SAMPLES_AT_ONCE:
            self._flush()

    @property
    def pieces(self) -> int:
        """The number of pieces so far."""
        return len(self._pieces)

    def parse(self, lines: Iterable[bytes], arrived: float | None = None) -> list[Piece]:
        """Convert lines to pieces. Raises DataError for another header."""
        for line in lines:
            self.add(line, arrived)
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
        fields = line.split(b",")
        if len(fields) != self._columns:
            raise ValueError(f"has {len(fields)} fields, expected {self._columns}")
        if b"_" in line:  # which float() ignores
            raise ValueError("has a field with '_', expected numbers")
        # float() accepts bytes and blanks.
        values = [float(field) if field.strip() else math.nan for field in fields]
        if self._time is None:
            return None, [values]
        return _seconds(values.pop(self._time)), [values]

    def _json_line(self, line: bytes) -> tuple[float | None, list[list[float]]]:
        entry = json.loads(line)
        time = None
        if isinstance(entry, dict):
            time, rows = entry.get("time"), entry.get("samples")
        else:
            rows = [entry]
        if not isinstance(rows, list) or not all(
            isinstance(row, list) and len(row) == self._columns and _NUMBERS.issuperset(map(type, row))
            for row in rows
        ):
            raise ValueError(f"expected samples as rows of {self._columns} numbers")
        if time is not None:
            if type(time) not in _NUMBERS:
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

    def _flush(self) -> None:
        if self._rows:
            self._pieces.append(Samples(np.array(self._rows, np.float64), self._arrived))
            self._rows = []

    def save(self) -> ParserState:
        return ParserState(self._lines, self._bad, self.timed, self._timeline.save())

    def load(self, saved: ParserState) -> None:
        self._lines, self._bad, self.timed = saved.lines, saved.bad, saved.timed
        self._timeline.load(saved.timeline)


def _seconds(value: Any) -> float:
    time = float(value)
    if not abs(time) <= LATEST:
        raise ValueError(f"has the time {time:g}, expected seconds")
    return time
