"""Cells: numbers and times in their notations."""

from __future__ import annotations

import math
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.runtime.ecg.sources.text import cells


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_with_a_point_or_a_comma(value: float) -> None:
    text = repr(value)
    for written in (text, text.replace(".", ","), f' "{text}" ', f"'{text}'"):
        assert cells.number(written.encode()) == value


@pytest.mark.parametrize("cell", [b"x", b"1_0", b"0x1", b"1,2,3", b"12.34,5", b"1 2", b"1,", b"Ann"])
def test_cells_that_are_no_numbers(cell: bytes) -> None:
    with pytest.raises(ValueError, match=r"^is no number$"):
        cells.number(cell)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)))
def test_times_of_any_day(when: datetime) -> None:
    seconds = when.replace(tzinfo=timezone.utc).timestamp()
    fraction = f"{when.microsecond:06d}"
    forms = [
        when.isoformat(), f"{when.isoformat()}Z", f"{when:%Y-%m-%d %H:%M:%S},{fraction}",
        f"{when:%d.%m.%Y %H:%M:%S}.{fraction}", f"[{when:%H:%M:%S}.{fraction} {when:%Y/%m/%d}]",
        f"{when:%Y%m%dT%H%M%S}.{fraction}", f"{when:%m/%d/%Y %I:%M:%S}.{fraction} {when:%p}",
    ]  # fmt: skip
    for form in forms:
        assert cells.time(form.encode()) == pytest.approx(seconds, abs=2e-6), form


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:00.004", 0.004),
        ("1:02:03.5", 3723.5),
        ("10:00:00:250", 36_000.25),
        ("100:05.5", 6005.5),
        ("2024-05-01T02:00:00+02:00", 1_714_521_600),
        ("2024-05-01T00:00:00-0130", 1_714_521_600 + 5400),
        ("12.5", 12.5),
        ("25/12/2024 00:00:00", 1_735_084_800),
        ("12:00:00 AM", 0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert cells.time(text.encode()) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["2024-05-01", "noon", "2024-13-01 00:00:00", "1:2:3:4:5", "T10:00:00"])
def test_cells_that_are_no_times(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|month"):
        cells.time(text.encode())


def test_cells_without_a_value() -> None:
    assert math.isnan(cells.number(b" NA ")) and cells.is_missing(b'""') and not cells.is_missing(b"0")


def test_quotes() -> None:
    assert cells.split(b'"a,b",1\n', b",") == [b"a,b", b"1"]
    assert cells.split(b"a  b\n", None) == [b"a", b"b"]
