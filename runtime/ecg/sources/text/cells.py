"""The cells of a line of text: numbers, missing values and times in their usual notations."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from datetime import date
from functools import lru_cache

_MISSING = frozenset(
    b"|na|n/a|#n/a|#na|nan|null|none|nil|-|--|---|?|.|*|missing".split(b"|")
)  # fmt: skip
_MINUS = b"\xe2\x88\x92"  # the character of typesetters
# Digits in groups of three, between which spaces, apostrophes, points or commas stand; a fraction may follow.
_GROUPED = re.compile(
    rb"([+-]?[1-9]\d{0,2}(?:(\xc2\xa0|\xe2\x80\xaf|\xe2\x80\x99|[ '\xa0.,])\d{3})(?:\2\d{3})*)([.,]\d+)?"
)
_DECIMAL = re.compile(rb"[+-]?\d*([.,])\d+(?:[eE][+-]?\d+)?")

_DATE = r"(?P<date>\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{8}(?=T))"
_TIME = (
    r"(?P<time>\d{1,4}(?::\d{1,2}){1,2}(?:[.,:]\d+)?|(?<=T)\d{6}(?:[.,]\d+)?)"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
)
_ZONE = r"\s*(?P<zone>Z|UTC|GMT|[+-]\d\d:?(?:\d\d)?)?"
_STAMPS = (
    re.compile(rf"(?:{_DATE}(?:T|\s*,?\s+))?{_TIME}{_ZONE}"),
    re.compile(rf"{_TIME}{_ZONE}\s+{_DATE}"),
)


def split(line: bytes, delimiter: bytes | None) -> list[bytes]:
    """The cells of a line; without a delimiter they are separated by blanks. Raises ValueError."""
    if delimiter is None:
        return line.split()
    if b'"' not in line:
        return line.split(delimiter)
    try:
        cells = next(
            csv.reader([line.decode("utf-8", "surrogateescape").strip("\r\n")], delimiter=delimiter.decode())
        )
    except (csv.Error, StopIteration) as error:
        raise ValueError("has quotes that cannot be read") from error
    return [cell.encode("utf-8", "surrogateescape") for cell in cells]


def plain(cell: bytes) -> str:
    """A cell as text, without blanks and quotes. Microsoft's and Latin encodings are read too."""
    try:
        text = cell.decode("utf-8")
    except UnicodeDecodeError:
        text = cell.decode("latin-1")
    return text.strip().strip("\"'").strip()


def is_missing(cell: bytes) -> bool:
    """Whether a cell says that there is no value."""
    return cell.strip().strip(b"\"'").strip().lower() in _MISSING


def number(cell: bytes, decimal: bytes = b"") -> float:
    """The number in a cell, NaN without a value. Raises ValueError.

    ``decimal`` is the mark in front of fractions, a point or comma, or empty if it is unknown: then a single
    mark is taken for it. The other one may stand between thousands, as spaces and apostrophes may.
    """
    bare = _bare(cell)
    if bare.lower() in _MISSING:
        return math.nan
    grouped = _GROUPED.fullmatch(bare)
    if grouped and _is_group_mark(grouped, decimal):
        bare = grouped[1].replace(grouped[2], b"") + (grouped[3] or b"").replace(b",", b".")
    elif _DECIMAL.fullmatch(bare):
        bare = bare.replace(b",", b".")
    if b"_" in bare:  # which float() ignores
        raise ValueError("is no number")
    try:
        return float(bare)
    except ValueError:
        raise ValueError("is no number") from None  # whose text may be a name


def _bare(cell: bytes) -> bytes:
    return cell.strip().strip(b"\"'").strip().replace(_MINUS, b"-")


def _is_group_mark(grouped: re.Match[bytes], decimal: bytes) -> bool:
    """Whether the mark in 1.234 or 1.234,5 stands between thousands."""
    mark, fraction = grouped[2], grouped[3]
    if mark not in (b".", b","):
        return True
    if fraction:
        return fraction[:1] != mark
    return grouped[1].count(mark) > 1 or decimal not in (b"", mark)


def decimal_of(cells: Iterable[bytes]) -> bytes:
    """The mark in front of fractions, as all numbers show it that have one; empty if they do not."""
    marks = set[bytes]()
    for cell in cells:
        bare = _bare(cell)
        grouped = _GROUPED.fullmatch(bare)
        if grouped:
            marks |= {grouped[3][:1]} if grouped[3] and grouped[3][:1] != grouped[2] else set()
        elif found := _DECIMAL.fullmatch(bare):
            marks.add(found[1])
    return marks.pop() if len(marks) == 1 else b""


def is_number(cell: bytes) -> bool:
    """Whether :func:`number` reads a cell, and it has a value."""
    try:
        return not math.isnan(number(cell))
    except ValueError:
        return False


def time(cell: bytes, decimal: bytes = b"") -> float:
    """A time in a cell: a number in any unit, or seconds of a date and a time of day. Raises ValueError."""
    try:
        return number(cell, decimal)
    except ValueError:
        return _clock(plain(cell).strip("[]"))


def is_clock(cell: bytes) -> bool:
    """Whether a cell has a date or a time of day."""
    try:
        _clock(plain(cell).strip("[]"))
    except ValueError:
        return False
    return True


def _clock(text: str) -> float:
    """Seconds since 1970, or since midnight without a date."""
    found = next((match for stamp in _STAMPS if (match := stamp.fullmatch(text))), None)
    if found is None:
        raise ValueError("has a time that cannot be read")
    days = _days(found["date"]) if found["date"] else 0
    seconds = _time_of_day(found["time"].replace(",", "."))
    if found["half"]:
        seconds = seconds % 43_200 + 43_200 * (found["half"][0] in "pP")
    return days * 86_400.0 + seconds - _offset(found["zone"] or "")


def _time_of_day(text: str) -> float:
    parts = text.split(":")
    if len(parts) == 1:  # 100000.5
        parts = [text[:2], text[2:4], text[4:]]
    if len(parts) == 4:  # a fraction after a colon
        parts[2:] = [f"{parts[2]}.{parts[3]}"]
    seconds = 0.0
    for part in parts:
        seconds = seconds * 60 + float(part)
    return seconds


def _offset(zone: str) -> float:
    """Seconds that a zone is ahead of UTC."""
    if zone[:1] not in ("+", "-"):
        return 0.0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (3600.0 * int(digits[:2]) + 60.0 * int(digits[2:])) * (-1 if zone[0] == "-" else 1)


@lru_cache(maxsize=64)
def _days(text: str) -> int:
    """Days since 1970. Of 5/1/2024 the first number is the month, of 1.5.2024 the second."""
    separator = next((c for c in "-/." if c in text), "")
    if not separator:
        text, separator = f"{text[:4]}-{text[4:6]}-{text[6:]}", "-"
    a, b, c = (int(part) for part in text.split(separator))
    if a > 31:
        year, month, day = a, b, c
    elif (separator == "/" and a <= 12) or b > 12:
        year, month, day = c, a, b
    else:
        year, month, day = c, b, a
    return date(year, month, day).toordinal() - 719_163
