"""Headers of WFDB records, as header(5) of the WFDB Applications Guide defines them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from multires_edge.runtime.ecg.lead_names import unit_named
from multires_edge.runtime.ecg.sources.recordings.frames import SAMPLES_MOST, read_bounded
from multires_edge.runtime.ecg.sources.recordings.record import Damaged

# What the format says of a header that names none.
DEFAULT_RATE, DEFAULT_GAIN, DEFAULT_UNIT = 250.0, 200.0, "mV"
NO_FILE = "~"
_BYTES_MOST = 1 << 24
_SIGNALS_MOST = 4096
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?")
_GAIN = re.compile(r"([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)(?:\(([-+]?\d+)\))?(?:/(.*))?")


@dataclass(frozen=True)
class Signal:
    """A line of a header. A sample is (number - ``baseline``) / ``gain`` in ``unit``. A frame has ``size``
    samples; ``initial`` is the number before the first. ``calibrated``: whether the header has a gain.
    """

    file: str
    encoding: str
    size: int
    skew: int
    start: int
    gain: float
    baseline: float
    initial: int
    unit: str
    name: str
    calibrated: bool


@dataclass(frozen=True)
class Header:
    """``rate`` frames per second and ``length`` frames, None if the header does not say it. ``segments`` are
    the names and lengths in frames of a record in parts, which has no ``signals``."""  # fmt: skip

    rate: float | None
    length: int | None
    signals: Sequence[Signal]
    segments: Sequence[tuple[str, int]] = ()


def read_header(path: Path) -> Header:
    """Raises OSError, and Damaged for a header that cannot be read."""
    lines = _text(read_bounded(path, _BYTES_MOST)).splitlines()
    lines = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise Damaged("an empty header")
    first, *rest = lines
    words = first.split()
    name, _, parts = words[0].partition("/")
    if not name or len(words) < 2:
        raise Damaged("the first line has no name and number of signals")
    count = _natural(words[1], "number of signals", _SIGNALS_MOST)
    rate = _number(words[2].split("/")[0].split("(")[0], "rate") if len(words) > 2 else None
    length = _natural(words[3], "number of samples", 1 << 48) if len(words) > 3 else None
    if parts:
        wanted = _natural(parts, "number of segments", len(rest))
        return Header(rate, length, (), [_segment(line) for line in rest[:wanted]])
    if count > len(rest):
        raise Damaged(f"{count} signals in {len(rest)} lines")
    signals = [_signal(line, i) for i, line in enumerate(rest[:count])]
    if sum(signal.size for signal in signals) > SAMPLES_MOST:
        raise Damaged("frames of too many samples")
    return Header(rate, length, signals)


def _text(data: bytes) -> str:
    """Headers are ASCII by their definition, and have a mu or names in other encodings."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _segment(line: str) -> tuple[str, int]:
    words = line.split()
    if len(words) < 2:
        raise Damaged("a segment without a length")
    return words[0], _natural(words[1], "length of a segment", 1 << 48)


def _signal(line: str, number: int) -> Signal:
    words = line.split(maxsplit=8)
    form = _FORMAT.fullmatch(words[1]) if len(words) > 1 else None
    if form is None:
        raise Damaged(f"signal {number + 1} has no format")
    size = max(1, int(form[2] or 1))
    if size > SAMPLES_MOST:
        raise Damaged("frames of too many samples")
    gain = _GAIN.fullmatch(words[2]) if len(words) > 2 else None
    if len(words) > 2 and gain is None:
        raise Damaged(f"signal {number + 1} has a gain that is no number")
    zero = _number(words[4], "ADC zero") if len(words) > 4 else 0.0
    factor = float(gain[1]) if gain else 0.0
    return Signal(
        words[0], form[1], size, int(form[3] or 0), int(form[4] or 0),
        factor or DEFAULT_GAIN,
        float(gain[2]) if gain and gain[2] else zero,
        int(_number(words[5], "initial value") if len(words) > 5 else zero),
        (unit_named(gain[3]) or gain[3]) if gain and gain[3] else DEFAULT_UNIT,
        words[8].strip() if len(words) > 8 else f"signal {number + 1}",
        bool(factor),
    )  # fmt: skip


def _natural(text: str, what: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) > most:
        raise Damaged(f"the {what} is no number up to {most}")
    return int(text)


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e15:
        raise Damaged(f"the {what} is no number")
    return value
