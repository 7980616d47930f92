"""Finds the table in the first lines of text: separators, the header, and where samples begin."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from multires_edge.runtime.ecg.lead_names import is_generic, is_lead, unit_named
from multires_edge.runtime.ecg.sources.text import cells
from multires_edge.runtime.ecg.sources.text.columns import is_index, is_time

_DELIMITERS: tuple[bytes | None, ...] = (b",", b"\t", b";", b"|", None)
_DELIMITER_HINT = re.compile(rb'"?sep=(.)"?\s*', re.IGNORECASE)
_COMMENT = (b"#", b"%", b"//")
# What a row of units has beside units of voltage.
_OTHER_UNITS = re.compile(
    r"|-|n/a|s|sec|secs|seconds?|m?s(?:ec)?|us|\u00b5s|\u03bcs|ns|h{1,2}:m{1,2}(?::s{1,2}(?:\.m{1,4})?)?|"
    r"m{1,2}:s{1,2}(?:\.m{1,4})?|bpm|mmhg|%|degc|\u00b0c|g|hz|sample #|no units?|unix.*|yyyy.*|nd|adu?c?"
)
_SPACED_DATE = re.compile(rb"(\d{4}-\d\d-\d\d) (\d\d?:\d\d)")
_SPACED_NAME = re.compile(rb"\b(sample|elapsed|lead|ecg) (#|time|i{1,3}\b|av[rlf]|v\d)", re.IGNORECASE)
# A sampling rate in words: its name and value in a line, or a value with its unit alone.
_RATES = (
    re.compile(
        r"(?:sampl\w*[\s_-]*(?:rate|freq\w*)|abtastrate|\bfs\b|fr[e\u00e9]quence d|frecuencia|"
        r"frequenza|^\W*rate\b)\D{0,30}?(\d+(?:[.,]\d+)?)\s*(k?)(?:hz|hertz)?",
        re.IGNORECASE,
    ),
    re.compile(
        r"^[^,;\t:=]*[,;\t:=]\s*\"?(\d+(?:[.,]\d+)?)\s*(k?)(?:hz|hertz|\u30d8\u30eb\u30c4|\u8d6b\u5179|\u0433\u0446|\u0433\u0435\u0440\u0446)\.?\"?\W*$",
        re.IGNORECASE,
    ),
)
_INTERVALS = (
    re.compile(
        r"(?:sampl\w*[\s_-]*(?:interval|period)|^interval\b)\D{0,10}?(\d*[.,]?\d+(?:e-?\d+)?)\s*(s|sec|ms|us)\b",
        re.IGNORECASE,
    ),
    re.compile(r"^(\d*\.?\d+)\s*(s|sec|ms|msec|us)/sample\b", re.IGNORECASE),
)
# LabChart has names and units of channels in lines with these keys, which stand above the times.
_NAMES, _UNITS = "channeltitle=", "unitname="
_NO_RATE = re.compile(r"filter|pass|notch|mains|netz|cut", re.IGNORECASE)


def is_comment(line: bytes) -> bool:
    """Whether a line of a table is a comment."""
    bare = line.lstrip()
    return bare.startswith(_COMMENT) and not bare[:4].lower().startswith((b"#n/a", b"#na"))


def prepared(line: bytes, delimiter: bytes | None) -> bytes:
    """A line as it is split: between blanks, a date and its time are one cell, as is "Elapsed time"."""
    if delimiter is not None:
        return line
    return _SPACED_NAME.sub(rb"\1_\2", _SPACED_DATE.sub(rb"\1T\2", line))


@dataclass(frozen=True)
class Table:
    """``header``, ``units`` are rows of names and units, maybe empty. ``rows`` are the samples so far, each
    of ``count`` cells. ``lines`` are in front of them; ``comments`` and ``preamble`` are lines of these.
    """

    delimiter: bytes | None
    header: list[str]
    units: list[str]
    rows: list[list[bytes]]
    count: int
    lines: int
    comments: list[str]
    preamble: list[str]

    @property
    def pairs(self) -> Iterator[tuple[str, str]]:
        """Names and values in the lines before the table."""
        for line in (*self.comments, *self.preamble):
            if (pair := _pair(line)) is not None:
                yield pair

    @property
    def rate(self) -> float | None:
        """The rate that a line before the table names."""
        lines = [line for line in (*self.comments, *self.preamble) if not _NO_RATE.search(line)]
        for pattern in _RATES:
            for line in lines:
                if found := pattern.search(line):
                    return float(found[1].replace(",", ".")) * (1000 if found[2] else 1)
        for pattern in _INTERVALS:
            for line in lines:
                if (found := pattern.search(line)) and (value := float(found[1].replace(",", "."))):
                    return {"m": 1e3, "u": 1e6}.get(found[2][0].casefold(), 1.0) / value
        return None

    @property
    def unit(self) -> str | None:
        """The unit that a line before the table names."""
        return next((unit for _, value in self.pairs if (unit := unit_named(value))), None)

    @property
    def lead(self) -> str | None:
        """The lead that a line before the table names."""
        return next((v for name, v in self.pairs if is_lead(v) and not is_lead(name)), None)


def find_table(lines: Sequence[bytes]) -> Table:
    """The table in the first lines of text, which may be its header alone."""
    content, comments, forced = list[tuple[int, bytes]](), list[str](), tuple[bytes, ...]()
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        if found := _DELIMITER_HINT.fullmatch(line.strip(b"\r\n")):
            forced = (found[1],)
        elif is_comment(line):
            comments.append(cells.plain(line).lstrip("#%/ \t"))
        else:
            content.append((i, line))
    tables = [_split(content, comments, each, len(lines)) for each in forced or _DELIMITERS]
    return max(tables, key=_worth)


def _worth(table: Table) -> tuple[float, ...]:
    """How well a delimiter explains the lines."""
    if not table.rows:
        known = sum(is_lead(name) or is_generic(name) or is_time(name) for name in table.header)
        return 0, 0, known, len(table.header)
    good = sum(_is_samples(row) for row in table.rows) / len(table.rows)
    alone = not table.header and any(table.pairs) and table.count == 1
    return 1, round(good, 1), bool(table.header) or alone, table.count


def _split(
    content: list[tuple[int, bytes]], comments: list[str], delimiter: bytes | None, total: int
) -> Table:
    rows = list[list[bytes]]()
    for _, line in content:
        try:
            rows.append(cells.split(prepared(line.strip(b"\r\n"), delimiter), delimiter))
        except ValueError:
            rows.append([line])
    are_samples = [_is_samples(row) for row in rows]
    counts = Counter(len(row) for row, good in zip(rows, are_samples, strict=True) if good)
    if not counts:
        start, count = len(rows), len(rows[-1]) if rows else 0
        samples = list[list[bytes]]()
    else:
        count = max(counts, key=lambda n: (counts[n], n))
        start = _start(rows, are_samples, count)
        samples = rows[start:]
    regular = [row for row in samples if len(row) == count]
    header, after, units, has_keys = list[str](), start, list[str](), False
    for at in reversed(range(start)):
        key = cells.plain(rows[at][0]).casefold() if len(rows[at]) == count else ""
        if key.endswith("=") and key != _NAMES:
            units, has_keys = _texts(rows[at])[1:] if key == _UNITS else units, True
            continue
        if at and not units and _are_units(rows[at]):
            units = _texts(rows[at])
            continue
        if _is_property(cells.plain(content[at][1])):
            break
        header, columns = _fitted(_texts(rows[at]), regular, count)
        if header:
            count, after = columns, start if has_keys else at + 1 + bool(units)
            units = ([""] * (count - len(units)) + units)[:count]
            break
    if not header:
        at, units, (_, count) = start, [], _fitted([], regular, count)
        if comments:  # as numpy.savetxt writes it
            last = prepared(comments[-1].encode(), delimiter)
            header, count = _fitted(_texts(cells.split(last, delimiter)), regular, count)
    preamble = [cells.plain(line) for _, line in content[:at]]
    lines = content[after][0] if after < len(content) else total
    return Table(delimiter, header, units, samples, count, lines, comments, preamble)


def _start(rows: list[list[bytes]], are_samples: list[bool], count: int) -> int:
    """The first of two rows of samples in turn."""
    fits = [good and len(row) == count for row, good in zip(rows, are_samples, strict=True)]
    return next(
        (i for i, (fit, following) in enumerate(pairwise(fits)) if fit and following), fits.index(True)
    )


def _fitted(header: list[str], rows: list[list[bytes]], count: int) -> tuple[list[str], int]:
    """The header, empty if it is none, with a name for each column; and the number of columns."""
    texts = [name.encode() for name in header]
    if not any(header) or any(cells.is_number(name) or cells.is_clock(name) for name in texts):
        header = []
    if header and _is_property(",".join(header)):
        header = []
    while header and len(header) > max(count, 1) and not header[-1]:
        header = header[:-1]
    while count > max(len(header), 1) and rows and all(not row[count - 1].strip() for row in rows):
        count -= 1  # a separator at the end
    if (
        rows and header and len(header) == count - 1 and _count(rows)
    ):  # R writes no name for the names of rows
        header = ["", *header]
    if header and (not rows or all(is_lead(name) or is_time(name) for name in header)):
        count = len(header)  # whatever the lines below have
    return (header if len(header) == count else []), count


def _count(rows: list[list[bytes]]) -> bool:
    """Whether the first cells count the rows, or are names."""
    first = [row[0] for row in rows[:8]]
    try:
        numbers = [cells.number(cell) for cell in first]
    except ValueError:
        return True
    return len(first) > 1 and all(b - a == 1 for a, b in pairwise(numbers))


def _is_property(line: str) -> bool:
    """Whether a line says the unit or the rate, and is no header."""
    pair = _pair(line)
    return pair is not None and not is_lead(pair[1]) and pair[1] != "V"


def _is_samples(row: list[bytes]) -> bool:
    values = sum(cells.is_number(cell) for cell in row)
    missing = sum(cells.is_missing(cell) for cell in row)
    if not values:
        return missing == len(row) > 1
    clocks = sum(cells.is_clock(cell) for cell in row)
    named = not (cells.is_number(row[0]) or cells.is_missing(row[0]) or cells.is_clock(row[0]))
    return 2 * (values + missing + clocks) >= len(row) + named


def _are_units(row: list[bytes]) -> bool:
    names = [name.strip("[](){} ").casefold() for name in _texts(row)]
    named = [unit_named(name) is not None for name in names]
    fits = all(
        unit or _OTHER_UNITS.fullmatch(name) is not None for name, unit in zip(names, named, strict=True)
    )
    return fits and any(named)


def _texts(row: list[bytes]) -> list[str]:
    return [cells.plain(cell) for cell in row]


def _pair(line: str) -> tuple[str, str] | None:
    """The name and value of a line such as ``Unit,mV``, ``Lead: II`` or ``Sample Rate,512 hertz``."""
    parts = [part.strip(" \"'\t") for part in re.split(r"[,;\t:=]", line, maxsplit=1)]
    if len(parts) < 2 or not parts[0] or is_time(parts[0]) or is_index(parts[0]) or is_lead(parts[0]):
        return None
    value = parts[1].rstrip(",; ")
    known = unit_named(value) or is_lead(value) or any(pattern.search(line) for pattern in _RATES)
    return (parts[0], value) if known else None
