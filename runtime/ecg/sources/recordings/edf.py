"""EDF, EDF+ and BDF files (edfplus.info, biosemi.com), also those that are interrupted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.descriptors import read_at
from multires_edge.format.card import is_voltage
from multires_edge.runtime.ecg.lead_names import unit_named
from multires_edge.runtime.ecg.sources.protocol import Format, SignalSpec
from multires_edge.runtime.ecg.sources.recordings.frames import FrameFile, one_or_each
from multires_edge.runtime.ecg.sources.recordings.record import (
    Channel,
    Damaged,
    Record,
    Values,
    choose,
    reading,
)

# Bytes of the fields of the header of a signal: label, transducer, unit, physical and digital minimum and
# maximum, filters, samples in a data record, reserved.
_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
_HEADER = 256
_SIGNALS_MOST = 4096
_RECORD_MOST = 1 << 28  # bytes of a data record
_LATEST = 1e9  # seconds
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True)
class _Signal:
    label: str
    unit: str
    physical: tuple[float, float]
    digital: tuple[float, float]
    size: int

    @property
    def is_calibrated(self) -> bool:
        ranges = (*self.physical, *self.digital)
        different = self.physical[0] != self.physical[1] and self.digital[0] != self.digital[1]
        return different and all(map(math.isfinite, ranges))

    @property
    def step(self) -> float:
        """The physical difference of two numbers in turn, in the signal's unit."""
        (low, high), (least, most) = self.physical, self.digital
        return (high - low) / (most - least)


def open_edf(path: Path, given: Format) -> Record:
    """An EDF, EDF+ or BDF file: its signals in volts of one rate. Raises DataError."""
    with reading(path, "an EDF or BDF file"):
        return _open(path, given)


def _open(path: Path, given: Format) -> Record:
    with path.open("rb") as file:
        start = file.read(_HEADER)
        is_bdf = start[:1] == b"\xff"
        if len(start) < _HEADER or not (start[:8] == b"\xffBIOSEMI" or start[:8].strip() == b"0"):
            raise Damaged("the header has another version")
        count = _integer(start[252:256], "number of signals")
        if not 0 < count <= _SIGNALS_MOST:
            raise Damaged(f"{count} signals, expected 1 to {_SIGNALS_MOST}")
        signals = _signals(file.read(_HEADER * count), count)
    seconds = _real(start[244:252])
    frames = FrameFile(
        path, "24" if is_bdf else "16", _HEADER * (count + 1), [s.size for s in signals], False
    )
    if sum(frames.sizes) * 3 > _RECORD_MOST or not sum(frames.sizes):
        raise Damaged("data records of no or too many samples")
    if not 0 < seconds < _LATEST:
        raise Damaged("the duration of a data record is no time")
    claimed = _integer(start[236:244], "number of data records")
    records = frames.length() if claimed < 0 else claimed
    channels = [_channel(signal, seconds) for signal in signals]
    measured = [i for i, each in enumerate(signals) if each.label not in _ANNOTATIONS]
    places, notes = choose([channels[i] for i in measured], given, str(path))
    chosen = [measured[i] for i in places]
    size = signals[chosen[0]].size
    rate = channels[chosen[0]].rate
    interrupted = start[192:197] in (b"EDF+D", b"BDF+D")
    starts = _starts(frames, signals, records, seconds, rate, notes) if interrupted else None

    def read(first: int, stop: int) -> Values:
        if starts is None:
            return _read(frames, signals, chosen, first, stop)
        at = int(np.searchsorted(starts, first, "right")) - 1
        parts = []
        while first < stop:  # within a run of records, so the next record follows
            shift = int(starts[at]) - at * size
            following = int(starts[at + 1]) if at + 1 < len(starts) else stop
            upto = min(stop, max(following, first + 1))
            while at + 1 < len(starts) and starts[at + 1] - (at + 1) * size == shift and upto < stop:
                at += 1
                upto = min(stop, int(starts[at]) + size)
            parts.append(_read(frames, signals, chosen, first - shift, upto - shift))
            first, at = upto, at + 1
        return np.concatenate(parts)

    length, gaps = records * size, list[tuple[int, int]]()
    if starts is not None and len(starts):
        ends = starts + size
        length = int(ends[-1])
        gaps = [(int(a), int(b)) for a, b in zip(ends[:-1], starts[1:], strict=True) if b > a]
    units = [channels[i].unit for i in chosen]
    spec = SignalSpec([signals[i].label for i in chosen], rate, units, str(path))
    there = frames.length()
    problem = None
    if claimed >= 0 and there < records:
        problem = f"the header names {records} data records, and the file has {there}"
    return Record(spec, length, read, problem, gaps, notes)


def _read(frames: FrameFile, signals: list[_Signal], chosen: list[int], first: int, stop: int) -> Values:
    size = signals[chosen[0]].size
    begin, end = first // size, -(-stop // size)
    values = frames.read(begin, end, chosen)[first - begin * size : stop - begin * size]
    those = [signals[i] for i in chosen]
    values -= one_or_each([each.digital[0] for each in those])
    values *= one_or_each([each.step for each in those])
    values += one_or_each([each.physical[0] for each in those])
    return values


def _signals(data: bytes, count: int) -> list[_Signal]:
    if len(data) < _HEADER * count:
        raise Damaged("the file ends in its header")
    columns, at = [], 0
    for width in _FIELDS:
        columns.append([data[at + i * width : at + (i + 1) * width] for i in range(count)])
        at += width * count
    labels, _, units, low, high, least, most, _, sizes, _ = columns
    return [
        _Signal(
            _text(labels[i]),
            _text(units[i]),
            (_real(low[i]), _real(high[i])),
            (_real(least[i]), _real(most[i])),
            max(0, _integer(sizes[i], "number of samples")),
        )
        for i in range(count)
    ]


def _channel(signal: _Signal, seconds: float) -> Channel:
    unit = _unit(signal.unit)
    fault = "" if is_voltage(unit) else "no voltage"
    if not fault and not signal.is_calibrated:
        fault = "not calibrated"
    if not fault and not signal.size:
        fault = "no samples"
    return Channel(signal.label, signal.size / seconds, unit, fault)


def _unit(text: str) -> str:
    """The unit, whatever became of its mu."""
    if unit := unit_named(text):
        return unit
    return "uV" if len(text) == 2 and not text[0].isascii() and text[1] in "vV" else text


def _starts(
    frames: FrameFile, signals: list[_Signal], records: int, seconds: float, rate: float, notes: list[str]
) -> NDArray[np.int64]:
    """The number of the first sample of each data record, from the times that the records have."""
    place = next((i for i, each in enumerate(signals) if each.label in _ANNOTATIONS), None)
    if place is None:
        raise Damaged("an interrupted file without times")
    width = 3 if frames.encoding == "24" else 2
    record = sum(frames.sizes) * width
    offset = frames.start + sum(frames.sizes[:place]) * width
    times = np.empty(min(records, frames.length()))
    with frames.path.open("rb") as file:
        for i in range(len(times)):
            text = read_at(file.fileno(), min(64, frames.sizes[place] * width), offset + i * record)
            times[i] = _real(text.split(b"\x14")[0].split(b"\x15")[0])
    if not len(times) or not (np.abs(times) < _LATEST).all():
        raise Damaged("data records without times")
    size = round(seconds * rate)
    starts = np.round((times - times[0]) * rate).astype(np.int64)
    late = np.diff(starts, prepend=-size) - size
    if (late < -1).any():
        raise Damaged("data records that overlap")
    late[np.abs(late) <= 1] = 0  # times are rounded
    placed: NDArray[np.int64] = np.arange(len(times)) * size + np.cumsum(late)
    return placed


def _text(data: bytes) -> str:
    data = data.split(b"\0")[0] if data.strip(b"\0 ") else b""
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        return data.decode("latin-1").strip()


def _real(data: bytes) -> float:
    try:
        return float(data.replace(b"\0", b" ").strip().replace(b",", b"."))
    except ValueError:
        return math.nan


def _integer(data: bytes, what: str) -> int:
    value = _real(data)
    if not (abs(value) < 1e15 and value == int(value)):
        raise Damaged(f"the {what} is no number")
    return int(value)
