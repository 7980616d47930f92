"""The wire format of samples, version 1: a fixed head, the names of the leads, and the values.

All numbers are little-endian:

    offset  type     field
    0       4 bytes  "MRE1"
    4       uint8    kind of the values: 0 int16, 1 float32
    5       uint8    unit: 0 uV, 1 mV, 2 V
    6       uint16   samples n, at least 1
    8       uint64   recording: its start in microseconds since 1970; of two recordings, the later one counts
    16      uint64   number of the first sample in the recording
    24      float64  rate in Hz
    32      float64  gain: a value times the gain is in the unit
    40      uint16   bytes of the text with the leads
    42      2 bytes  0
    44      text     names of the leads in UTF-8, with commas between them
    then    values   (n, leads); -32768 or NaN is a missing value

The head says everything, because devices behind an MQTT gateway cannot send headers.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import DataError

MAGIC = b"MRE1"
UNITS = ("uV", "mV", "V")
KINDS = (np.dtype("<i2"), np.dtype("<f4"))
MISSING = -32768
_HEAD = struct.Struct("<4sBBHQQddHH")
_MOST_LEADS, _LONGEST_TEXT = 64, 4096
# NATS takes messages of a MiB. A packet of more than some seconds delays decisions anyway.
_MOST_SAMPLES = 20_000


@dataclass(frozen=True)
class Signal:
    """What all packets of a recording have in common. ``kind`` is an index of KINDS."""

    leads: tuple[str, ...]
    rate: float
    unit: str
    gain: float = 1.0
    kind: int = 0

    def __str__(self) -> str:
        return f"{', '.join(self.leads)} at {self.rate:g} Hz in {self.unit}"


@dataclass(frozen=True, eq=False)
class Packet:
    """Consecutive samples of a recording; ``values`` (n, leads) are int16 or float32, as they were sent."""

    signal: Signal
    recording: int
    first: int
    values: NDArray[Any]

    @property
    def end(self) -> int:
        """The number of the sample after the last one."""
        return self.first + len(self.values)

    def to_bytes(self) -> bytes:
        """Raises DataError if a field does not fit the format."""
        signal = self.signal
        text = ",".join(signal.leads).encode()
        values = np.ascontiguousarray(self.values, KINDS[signal.kind])
        try:
            head = _HEAD.pack(
                MAGIC, signal.kind, UNITS.index(signal.unit), len(values), self.recording, self.first,
                signal.rate, signal.gain, len(text), 0,
            )  # fmt: skip
        except (struct.error, ValueError) as error:
            raise DataError(f"the packet cannot be written ({error})") from error
        return b"".join([head, text, values.tobytes()])


def read_packet(data: bytes) -> Packet:
    """The packet of a message. Raises DataError if it is not one."""
    if len(data) < _HEAD.size or not data.startswith(MAGIC):
        raise DataError(
            f"{len(data)} bytes that start with {data[:4]!r}, expected a packet that starts with {MAGIC!r}"
        )
    _, kind, unit, count, recording, first, rate, gain, length, zero = _HEAD.unpack_from(data)
    if kind >= len(KINDS) or unit >= len(UNITS) or zero:
        raise DataError(f"a head with kind {kind} and unit {unit}, expected kind 0 or 1 and unit 0, 1 or 2")
    signal = _signal_of(data[_HEAD.size : _HEAD.size + length], rate, gain, kind, unit)
    start, leads = _HEAD.size + length, len(signal.leads)
    expected = start + count * leads * KINDS[kind].itemsize
    if not 1 <= count <= _MOST_SAMPLES or len(data) != expected:
        raise DataError(
            f"{len(data)} bytes for {count} samples of {leads} leads, expected {expected} bytes and 1 to "
            f"{_MOST_SAMPLES} samples"
        )
    values = np.frombuffer(data, KINDS[kind], offset=start).reshape(count, leads)
    if kind and np.isinf(values).any():
        raise DataError("an infinite value, expected numbers, or NaN where a value is missing")
    return Packet(signal, recording, first, values)


def physical(values: NDArray[Any], signal: Signal) -> NDArray[Any]:
    """Values as :meth:`EcgStream.feed` takes them: in the signal's unit, NaN where one is missing."""
    if signal.kind == 0:
        missing = values == MISSING
        if not missing.any():
            return values if signal.gain == 1 else values * signal.gain
        values = np.where(missing, np.nan, values.astype(np.float64))
    return values if signal.gain == 1 else values.astype(np.float64) * signal.gain


@lru_cache(maxsize=4096)
def _signal_of(text: bytes, rate: float, gain: float, kind: int, unit: int) -> Signal:
    try:
        leads = tuple(text.decode().split(","))
    except UnicodeDecodeError:
        leads = ()
    if len(text) > _LONGEST_TEXT or not 1 <= len(leads) <= _MOST_LEADS or not all(leads):
        raise DataError(f"the leads {text!r:.60}, expected 1 to {_MOST_LEADS} names with commas between them")
    if not (math.isfinite(gain) and gain and math.isfinite(rate) and rate > 0):
        raise DataError(f"a rate of {rate} Hz and a gain of {gain}, expected finite numbers")
    return Signal(leads, rate, UNITS[unit], gain, kind)
