"""The first line of text: the names of the leads, the rate and the unit."""

from __future__ import annotations

import json
import re
from typing import Any

from multires_edge.base.errors import DataError, InputError
from multires_edge.runtime.ecg.resample import check_rate
from multires_edge.runtime.ecg.sources.protocol import Format, SignalSpec

# Names of the column of times; others begin with the first of them, such as "timestamp" and "time (s)".
_TIME = ("time", "t", "seconds", "sec")
_STANDARD = {"i", "ii", "iii", "avr", "avl", "avf", *(f"v{i}" for i in range(1, 10)), *_TIME}
_LEADS_MOST = 256


class Header:
    """What the first line of text says of the signal, and :class:`Format` where it says nothing.

    ``lines`` is 1, or 0 if the first line has samples already. ``time`` is the column of times in CSV. Raises
    DataError if leads, rate or unit remain unknown.
    """

    def __init__(self, name: str, first: bytes, given: Format) -> None:
        self.json = first.lstrip()[:1] in (b"{", b"[")
        self.time: int | None = None
        self.lines = 1
        self._name, self._given = name, given
        rate, unit, leads = given.rate, given.unit, list(given.leads or ())
        if self.json:
            header = self._json_header(first)
            rate, unit = header.get("rate", rate), header.get("unit", unit)
            leads = header.get("leads", leads)
            self.lines = int("leads" in header)
        else:
            columns = _columns(first)
            if len(columns) == 1 and (wrong := re.search("[;\t]", columns[0])):
                raise DataError(
                    f"{name}: starts with {first[:60]!r}, separated by {wrong[0]!r}, expected commas"
                )
            if any(_is_number(column) for column in columns):
                self.lines = 0
            else:
                self.time = next((i for i, column in enumerate(columns) if _is_time(column)), None)
                leads = [column for i, column in enumerate(columns) if i != self.time]
        if not (isinstance(leads, list) and leads and all(isinstance(x, str) and x for x in leads)):
            raise DataError(
                f"{name}: starts with {first[:60]!r}, without names of leads; expected a header such as "
                'time,I,II or {"leads": ["I", "II"], "rate": 500, "unit": "mV"}, or --leads'
            )
        if len(leads) > _LEADS_MOST:
            raise DataError(f"{name}: has {len(leads)} leads, expected at most {_LEADS_MOST}")
        if not _is_amount(rate) or not _is_unit(unit):
            missing = "unit" if _is_amount(rate) else "rate"
            raise DataError(f"{name}: has no {missing}; give --{missing}")
        try:
            check_rate(rate)
        except InputError as error:
            raise DataError(f"{name}: {error}") from error
        assert isinstance(rate, int | float) and isinstance(unit, str | list)
        self.signal = SignalSpec(leads, float(rate), unit, name)

    def check(self, line: bytes, *, strict: bool) -> bool:
        """Whether a later line is the header again. Raises DataError for another header.

        ``strict``: the line is the first of a connection, where names in any columns are a header. Elsewhere
        they may be a line that was damaged, unless they are leads.
        """
        if not self.json:
            columns = _columns(line)
            named = not any(_is_number(column) for column in columns)
            known = {lead.casefold() for lead in self.signal.leads} | _STANDARD
            if not named or not (strict or known.issuperset(map(str.casefold, columns))):
                return False
            if len(set(columns)) < len(columns):
                return False
        elif not _has_leads(line):
            return False
        other = Header(self._name, line, self._given)
        if (other.signal, other.time) != (self.signal, self.time):
            raise DataError(f"{self._name}: another header came, with other leads, rate or unit")
        return True

    def _json_header(self, first: bytes) -> dict[str, Any]:
        try:
            header = json.loads(first)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{self._name}: starts with {first[:60]!r}, which is not JSON ({error})"
            ) from error
        return header if isinstance(header, dict) else {}


def _has_leads(line: bytes) -> bool:
    try:
        entry = json.loads(line) if b"leads" in line else None
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and "leads" in entry


def _columns(line: bytes) -> list[str]:
    return [column.strip() for column in line.decode("utf-8", "replace").split(",")]


def _is_time(column: str) -> bool:
    return column.casefold() in _TIME or column.casefold().startswith(_TIME[0])


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float)


def _is_unit(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(x, str) for x in value))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return not text
    return True
