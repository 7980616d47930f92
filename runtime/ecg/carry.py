"""What a decision carries of its stream, so that another process can go on after it from the samples alone.

Everything else that decisions depend on is in the samples of the last minutes. A carry of version 1 is, with
the lowest byte first:

    bytes   what
    4       "MRC" and the version, 1
    4       first bytes of the SHA-256 of the settings that give it a meaning
    8       number of the sample that the record started over with
    8       steps from there to the end of the decision
    5 n     for each threshold: 1 if its alarm is on, and in 4 bytes the decisions in a row that reached it
    4       CRC-32 of the bytes before
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from multires_edge.base.errors import InputError, StateError
from multires_edge.runtime.ecg.thresholds import MOST_THRESHOLDS, AlarmsState

_MAGIC = b"MRC\x01"
_HEAD, _ALARM, _END = struct.Struct("<4s4sQQ"), struct.Struct("<BI"), struct.Struct("<I")
MOST_BYTES = _HEAD.size + MOST_THRESHOLDS * _ALARM.size + _END.size
_LARGEST = 1 << 62


@dataclass(frozen=True)
class Carry:
    """The record started over with sample ``origin``; the decision is at the end of step ``step`` since then.

    ``alarms`` is after the decision.
    """

    origin: int
    step: int
    alarms: AlarmsState

    def to_bytes(self, settings: bytes) -> bytes:
        """At most ``MOST_BYTES`` bytes. ``settings`` is that of :func:`tag_of`."""
        alarms = zip(self.alarms.on, self.alarms.reached, strict=True)
        parts = [_HEAD.pack(_MAGIC, settings, self.origin, self.step)]
        body = b"".join(parts + [_ALARM.pack(on, reached) for on, reached in alarms])
        return body + _END.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: Any, settings: bytes, thresholds: int) -> Carry:
        """Read the carry of a stream with so many thresholds. Raises InputError or StateError."""
        if not isinstance(data, bytes):
            raise InputError(f"the carry is {type(data).__name__}, expected the bytes of a decision's carry")
        if data[: len(_MAGIC)] != _MAGIC:
            raise StateError("the carry is of another version, or no carry of a decision")
        size = _HEAD.size + thresholds * _ALARM.size + _END.size
        if data[len(_MAGIC) : len(_MAGIC) + len(settings)] != settings or len(data) != size:
            raise StateError(
                "the carry is of a stream with other settings: give the same labels, thresholds, "
                "rate, every, alarm_after and alarm_decisions"
            )
        if _END.unpack(data[-_END.size :])[0] != zlib.crc32(data[: -_END.size]):
            raise StateError("the carry is damaged: its checksum does not match")
        _, _, origin, step = _HEAD.unpack_from(data)
        alarms = list(_ALARM.iter_unpack(data[_HEAD.size : -_END.size]))
        if max(origin, step) > _LARGEST or any(on > 1 for on, _ in alarms):
            raise StateError("the carry is damaged: its counts contradict each other")
        state = AlarmsState(tuple(bool(on) for on, _ in alarms), tuple(reached for _, reached in alarms))
        return cls(origin, step, state)


def origin_of(data: bytes) -> int:
    """The origin in a carry that this process made, without the checks of :meth:`Carry.from_bytes`."""
    return int(_HEAD.unpack_from(data)[2])


def tag_of(settings: Any) -> bytes:
    """Four bytes that tell settings, which are plain JSON values, from others."""
    return hashlib.sha256(json.dumps(settings).encode()).digest()[:4]
