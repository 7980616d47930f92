"""The first lines of text: what they say of the signal, and where in the other lines its samples are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError, InputError
from multires_edge.runtime.ecg.lead_names import (
    is_ecg,
    is_generic,
    is_lead,
    listed,
    shown,
    split_unit,
    unit_named,
)
from multires_edge.runtime.ecg.resample import check_rate
from multires_edge.runtime.ecg.sources.protocol import Format, SignalSpec
from multires_edge.runtime.ecg.sources.text import cells
from multires_edge.runtime.ecg.sources.text.columns import Clock, find_clock, is_index, is_time
from multires_edge.runtime.ecg.sources.text.presets import Preset, recognize
from multires_edge.runtime.ecg.sources.text.table import Table, find_table

_LEADS_MOST = 256
# A cell with so many numbers, as watches write a recording into one.
_RECORDING = re.compile(rb"\"\[(?:[^\",]*,){256}")
_EXPECTED = (
    'expected a header such as time,I,II or {"leads": ["I", "II"], "rate": 500, "unit": "mV"}, or --leads'
)
# The lines and bytes that a head may have, with the samples that show what it means.
_LINES_MOST, _BYTES_MOST = 400, 1 << 16
# A live source is not kept waiting: so many rows are enough, or so many seconds if their times are the rate.
_ROWS, _SECONDS = 2, 1.0
# Times whose steps differ by less than this part, on average, show a rate that is not another one by chance.
_EVEN, _OTHER_RATE = 0.25, 1.1
UNKNOWN_UNIT = "unknown"
_BOM, _WIDE = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Layout:
    """Where text has samples, as its head shows it.

    ``lines`` are in front of the samples. CSV has ``count`` cells in a line, separated by ``delimiter``, or
    blanks if it is None: samples in the cells ``leads``, and a time in the cell ``time``. ``decimal`` is the
    mark in front of fractions, empty if it is unknown. ``scale`` and
    ``offset`` (leads,) make samples of numbers. ``notes`` say what was concluded or left out.
    """

    signal: SignalSpec
    json: bool
    lines: int
    delimiter: bytes | None = b","
    count: int = 0
    time: int | None = None
    leads: tuple[int, ...] = ()
    decimal: bytes = b""
    scale: NDArray[np.float64] | None = None
    offset: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()


class Head:
    """Collects the first lines of text until they show what it has.

    ``eager``: as soon as possible, because the next lines of a device may take a while.
    """

    def __init__(self, name: str, given: Format, *, eager: bool = False) -> None:
        self._name, self._given, self._eager = name, given, eager
        self.taken: list[bytes] = []
        self._bytes = 0
        self._next_try = 1
        self.wide = False
        self._layout: Layout | None = None

    def add(self, line: bytes) -> bool:
        """Take a line; returns whether the lines are enough. Raises DataError."""
        if not self.taken and line.startswith(_WIDE):
            self.wide = True
        line = self.decoded(line, first=not self.taken)
        if line.rstrip(b"\r\n").count(b"\r") > 1:
            raise DataError(f"{self._name}: its lines end in CR alone; save it with the ends CR LF or LF")
        self.taken.append(line)
        self._bytes += len(line)
        content = sum(bool(each.strip()) for each in self.taken)
        if content == 1 and self._json(line):
            return True
        if len(self.taken) >= _LINES_MOST or self._bytes >= _BYTES_MOST:
            return True
        if not self._eager or not line.strip() or content < self._next_try:
            return False
        self._next_try = content + 1 + content // 8
        try:
            layout, table, stated = self._table()
        except DataError:
            return False
        known = all(
            is_lead(x) or is_generic(x) or x in (self._given.leads or ()) for x in layout.signal.leads
        )
        if stated is None:
            enough = _seconds(layout, table) >= _SECONDS
        elif known and sum(map(is_time, table.header)) < 2:
            enough = True  # the header alone is clear
        else:
            enough = len(table.rows) >= _ROWS
        self._layout = layout if enough else None
        return self._layout is not None

    def finish(self) -> Layout:
        """What the lines show. Raises DataError if leads, rate or unit remain unknown."""
        first = next((line for line in self.taken if line.strip()), b"")
        if self._layout is None:
            self._layout = self._json_layout(first) if self._json(first) else self._table()[0]
        return self._layout

    def decoded(self, line: bytes, *, first: bool) -> bytes:
        """A line without the marks of its encoding. Of UTF-16 the characters of Latin-1 remain."""
        if first:
            line = line.removeprefix(_BOM)
        if self.wide:
            line = (line[2:] if first else line).replace(b"\0", b"")
        return line

    def other(self, line: bytes) -> Layout:
        """What another header shows. Raises DataError."""
        head = Head(self._name, self._given)
        head.add(line)
        return head.finish()

    def _json(self, first: bytes) -> bool:
        bare = first.lstrip()
        return bare[:1] == b"{" or (bare[:1] == b"[" and not cells.is_clock(bare.split(b"]")[0] + b"]"))

    def _json_layout(self, first: bytes) -> Layout:
        try:
            header = json.loads(first)
        except (ValueError, RecursionError):
            raise DataError(
                f"{self._name}: starts like JSON, and its first line is not JSON; {_EXPECTED}"
            ) from None
        header = header if isinstance(header, dict) else {}
        given = self._given
        rate, unit = header.get("rate", given.rate), header.get("unit", given.unit)
        leads = header.get("leads", list(given.leads or ()))
        if not (isinstance(leads, list) and leads and all(isinstance(x, str) and x for x in leads)):
            raise DataError(f"{self._name}: starts without names of leads; {_EXPECTED}")
        is_header = "leads" in header or (header and "samples" not in header)
        lines = self.taken.index(first) + bool(is_header)
        signal = self._signal(leads, rate, unit)
        return Layout(signal, True, lines, count=len(leads))

    def _table(self) -> tuple[Layout, Table, float | None]:
        """What a table shows, and the rate unless it is that of the times. Raises DataError."""
        table = find_table(self.taken)
        preset = recognize(table.comments, table.header, table.count)
        names = self._names(table, preset)
        rows = [row for row in table.rows if len(row) >= table.count]
        if any(map(_RECORDING.search, self.taken)):
            raise DataError(f"{self._name}: has whole recordings in cells; write a line for each sample")
        fixed = [] if preset is None or preset.time is None else [preset.time]
        times = fixed or [i for i, name in enumerate(names) if name is not None and _is_time(name, i, rows)]
        decimal = cells.decimal_of(cell for row in rows for cell in row)
        clock = find_clock(times, rows, decimal) if rows else None
        time = clock.column if clock else times[0] if times else None
        leads = [
            (i, name) for i, name in enumerate(names)
            if name and i not in times and not is_index(name) and _has_samples(name, i, rows)
        ]  # fmt: skip
        text = [
            i for i, name in enumerate(names) if name and i not in times and not _has_samples(name, i, rows)
        ]
        if not leads:
            raise DataError(f"{self._name}: starts without names of leads; {_EXPECTED}")
        notes = []
        if text:
            notes.append(f"{listed(shown([x or '' for x in names])[i] for i in text)}: no samples, not read")
        rate = stated = self._rate(table, preset)
        if rate is None and clock is not None and clock.rate is not None:
            rate = clock.rate
            notes.append(f"the rate is {rate:g} Hz by the times; --rate gives another")
        if rate is not None and rate == self._given.rate and clock is not None and _contradicts(clock, rate):
            raise DataError(
                f"{self._name}: its times show {clock.rate:g} Hz, and the rate given is {rate:g} Hz; leave "
                "--rate out, or mend the times"
            )
        units = self._units(table, preset, leads)
        signal = self._signal([split_unit(name)[0] or name for _, name in leads], rate, units)
        columns = tuple(i for i, _ in leads)
        layout = Layout(
            signal, False, table.lines, table.delimiter, table.count, time, columns,
            decimal=decimal, notes=tuple(notes),
        )  # fmt: skip
        if preset is not None and preset.scale:
            layout = replace(
                layout,
                scale=np.array([preset.scale[i] for i in columns]),
                offset=np.array([preset.offset[i] for i in columns]),
            )
        return layout, table, stated

    def _names(self, table: Table, preset: Preset | None) -> list[str | None]:
        """A name for each column; None or "" for one that is no lead."""
        if preset is not None:
            header = table.header or [""] * table.count
            pairs = zip(preset.names, header, strict=True)
            return [name or (text if is_time(text) else "") for name, text in pairs]
        if table.header:
            return list(table.header)
        given = list(self._given.leads or ())
        if table.lead and table.count == 1:
            given = [table.lead]
        elif not given and table.count == 1 and table.unit:
            given = ["ecg"]
        if table.count == len(given) + 1:  # a time or a number in front
            row = next((row for row in table.rows if len(row) == table.count), [b""])
            counts = [row[0].strip() for row in table.rows if len(row) == table.count][:3]
            first = "index" if counts in ([b"0", b"1", b"2"], [b"1", b"2", b"3"]) and row else "time"
            return [first, *given]
        return list(given) if len(given) == table.count else []

    def _rate(self, table: Table, preset: Preset | None) -> float | None:
        stated = table.rate if preset is None or preset.rate is None else preset.rate
        return self._given.rate if stated is None else stated

    def _units(self, table: Table, preset: Preset | None, leads: Sequence[tuple[int, str]]) -> Any:
        """One unit, or one for each lead; None if no lead has a unit."""
        general = preset.unit if preset is not None else table.unit or self._given.unit
        found = [
            split_unit(name)[1]
            or (unit_named(table.units[i].strip("[](){} ")) if i < len(table.units) else None)
            or general
            for i, name in leads
        ]
        if all(unit is None for unit in found):
            return None
        return found[0] if len(set(found)) == 1 else [unit or UNKNOWN_UNIT for unit in found]

    def _signal(self, leads: list[str], rate: Any, unit: Any) -> SignalSpec:
        if len(leads) > _LEADS_MOST:
            raise DataError(f"{self._name}: has {len(leads)} leads, expected at most {_LEADS_MOST}")
        if not _is_amount(rate) or not _is_unit(unit):
            missing = "unit" if _is_amount(rate) else "rate"
            raise DataError(f"{self._name}: has no {missing}; give --{missing}")
        try:
            check_rate(rate)
        except InputError as error:
            raise DataError(f"{self._name}: {error}") from error
        return SignalSpec(leads, float(rate), unit, self._name)


def _is_time(name: str, column: int, rows: Sequence[Sequence[bytes]]) -> bool:
    return is_time(name) or (
        not is_lead(name) and any(map(cells.is_clock, (row[column] for row in rows[:1])))
    )


def _contradicts(clock: Clock, rate: float) -> bool:
    """Whether even times show another rate."""
    even = clock.seconds >= _SECONDS and clock.uneven < _EVEN
    return even and clock.rate is not None and not 1 / _OTHER_RATE < clock.rate / rate < _OTHER_RATE


def _has_samples(name: str, column: int, rows: Sequence[Sequence[bytes]]) -> bool:
    """Whether a column has numbers, and not more of something else; a lead may have no values yet."""
    if is_lead(name):
        return True
    numbers = sum(cells.is_number(row[column]) for row in rows)
    missing = sum(cells.is_missing(row[column]) for row in rows)
    return numbers > len(rows) - numbers - missing or (missing == len(rows) and (not rows or is_ecg(name)))


def _seconds(layout: Layout, table: Table) -> float:
    rows = [row for row in table.rows if len(row) >= table.count]
    clock = find_clock([] if layout.time is None else [layout.time], rows, layout.decimal)
    return 0.0 if clock is None else clock.seconds


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float)


def _is_unit(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(x, str) for x in value))
