"""Samples as lines of text: CSV with a header of lead names, or JSON lines."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from multires_edge.base.errors import DataError, InputError
from multires_edge.format.fields import Natural
from multires_edge.runtime.ecg.resample import check_rate
from multires_edge.runtime.ecg.sources.protocol import (
    Format,
    Missing,
    Note,
    Piece,
    Samples,
    SignalSpec,
)
from multires_edge.runtime.ecg.sources.timeline import LATEST, Placed, Timeline, TimelineState

LONGEST_LINE = 1 << 20
_TIME = ("time", "t", "seconds")
_SAMPLES_AT_ONCE = 512
_BOM = b"\xef\xbb\xbf"


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
    "time": 1.5} with one row per sample. Empty fields and null are missing values. A line that cannot be
    read is an event, and one missing sample if the lines have no times.
    """

    def __init__(self, name: str, first: bytes, given: Format) -> None:
        first = first.removeprefix(_BOM)
        self._json = first.lstrip()[:1] in (b"{", b"[")
        self._time: int | None = None
        rate, unit, leads = given.rate, given.unit, list(given.leads or ())
        self.header_lines = 1
        if self._json:
            header = self._json_header(name, first)
            rate, unit = header.get("rate", rate), header.get("unit", unit)
            leads = header.get("leads", leads)
            self.header_lines = int("leads" in header)
        else:
            columns = [column.strip() for column in first.decode("utf-8", "replace").split(",")]
            if len(columns) == 1 and (wrong := re.search("[;\t]", columns[0])):
                raise DataError(
                    f"{name}: starts with {first[:60]!r}, separated by {wrong[0]!r}, expected commas"
                )
            if any(_is_number(column) for column in columns):
                self.header_lines = 0
            else:
                self._time = next((i for i, c in enumerate(columns) if c.casefold() in _TIME), None)
                leads = [column for i, column in enumerate(columns) if i != self._time]
        if not (isinstance(leads, list) and leads and all(isinstance(x, str) and x for x in leads)):
            raise DataError(
                f"{name}: starts with {first[:60]!r}, without names of leads; expected a header such as "
                'time,I,II or {"leads": ["I", "II"], "rate": 500, "unit": "mV"}, or --leads'
            )
        if not isinstance(rate, int | float) or not isinstance(unit, str | list):
            missing = "rate" if not isinstance(rate, int | float) else "unit"
            raise DataError(f"{name}: has no {missing}; give --{missing}")
        try:
            check_rate(rate)
        except InputError as error:
            raise DataError(f"{name}: {error}") from error
        self.signal = SignalSpec(leads, float(rate), unit, name)
        self._columns = len(leads) + (self._time is not None)
        self._timeline = Timeline(float(rate))
        self.timed = self._time is not None  # whether lines have had times
        self._lines = self.header_lines
        self._bad = 0
        self._rows: list[list[float]] = []
        self._pieces: list[Piece] = []
        self._arrived: float | None = None

    def parse(self, lines: list[bytes], arrived: float | None = None) -> list[Piece]:
        """Convert lines to pieces."""
        self._arrived = arrived
        for line in lines:
            self._lines += 1
            plain = line.removeprefix(_BOM) if self._lines == 1 else line
            if not plain.strip():
                continue
            try:
                time, rows = self._json_line(plain) if self._json else self._csv_line(plain)
                placed = self._timeline.place(time, rows)
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                self._refuse(str(error))
                continue
            self._end_of_bad(self._lines - 1)
            self._add(placed)
            if len(self._rows) >= _SAMPLES_AT_ONCE:
                self._flush()
        self._flush()
        return self._taken()

    def finish(self) -> list[Piece]:
        """The events that the next good line would have reported."""
        self._add(self._timeline.finish())
        self._flush()
        self._end_of_bad(self._lines)
        return self._taken()

    def _taken(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def _csv_line(self, line: bytes) -> tuple[float | None, list[list[float]]]:
        fields = line.split(b",")
        if len(fields) != self._columns:
            raise ValueError(f"has {len(fields)} fields, expected {self._columns}")
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
            isinstance(row, list) and len(row) == self._columns for row in rows
        ):
            raise ValueError(f"expected samples as rows of {self._columns} numbers")
        if time is not None:
            time = _seconds(time)
            self.timed = True
        return time, [[math.nan if value is None else float(value) for value in row] for row in rows]

    def _json_header(self, name: str, first: bytes) -> dict[str, Any]:
        try:
            header = json.loads(first)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}: starts with {first[:60]!r}, which is not JSON ({error})") from error
        return header if isinstance(header, dict) else {}

    def _add(self, placed: list[Placed]) -> None:
        for item in placed:
            if isinstance(item, list):
                self._rows += item
            else:
                self._flush()
                self._pieces.append(item)

    def _refuse(self, reason: str) -> None:
        self._flush()
        self._bad += 1
        if self._bad == 1:  # consecutive bad lines are counted
            message = " ".join(reason.split())[:200]
            self._pieces.append(Note("bad_line", {"line": self._lines, "message": message}))
        if not self.timed:
            self._pieces.append(Missing(1))

    def _end_of_bad(self, until: int) -> None:
        if self._bad > 1:
            self._flush()
            self._pieces.append(Note("bad_lines", {"lines": self._bad, "until": until}))
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


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return not text
    return True
