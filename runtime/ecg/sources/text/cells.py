"""The cells of a line of text: numbers, missing values and times in their usual notations."""

from __future__ import annotations

import csv
import math
import re
from datetime import date
from functools import lru_cache

_MISSING = frozenset(
    b"|na|n/a|#n/a|#na|nan|null|none|nil|-|--|---|?|.|*|missing".split(b"|")
)  # fmt: skip
_MINUS = b"\xe2\x88\x92"  # the character of typesetters
_DECIMAL_COMMA = re.compile(rb"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")

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


def number(cell: bytes) -> float:
    """The number in a cell, with a decimal point or comma; NaN without a value. Raises ValueError."""
    bare = cell.strip().strip(b"\"'").strip().replace(_MINUS, b"-")
    if bare.lower() in _MISSING:
        return math.nan
    if _DECIMAL_COMMA.fullmatch(bare):
        bare = bare.replace(b",", b".")
    if b"_" in bare:  # which float() ignores
        raise ValueError("is no number")
    try:
        return float(bare)
    except ValueError:
        raise ValueError("is no number") from None  # whose text may be a name


def is_number(cell: bytes) -> bool:
    """Whether :func:`number` reads a cell, and it has a value."""
    try:
        return not math.isnan(number(cell))
    except ValueError:
        return False


def time(cell: bytes) -> float:
    """A time in a cell: a number in any unit, or seconds of a date and a time of day. Raises ValueError."""
    try:
        return number(cell)
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
