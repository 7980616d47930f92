"""Streams of the Lab Streaming Layer: lsl:NAME, or lsl:type=ECG, lsl:source_id=X for another property."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from multires_edge.base.errors import DataError, require_extra
from multires_edge.runtime.ecg.lead_names import unit_named
from multires_edge.runtime.ecg.sources.connections import Connection
from multires_edge.runtime.ecg.sources.devices.messages import Messages

_PROPERTIES = ("name", "type", "source_id", "hostname")
_SAMPLES_AT_ONCE = 1024
# Samples further apart than so many of their intervals are not one line.
_HOLE = 1.5


def connect(address: str, silence: float | None, patience: float) -> Connection:
    """Raises DataError, and MissingExtraError without the library."""
    require_extra("lsl", "reading a stream of LSL", "pylsl")
    import pylsl

    wanted = address.partition(":")[2].removeprefix("//")
    key, equals, value = wanted.partition("=")
    if not equals:
        key, value = "name", wanted
    if key not in _PROPERTIES or not value:
        raise DataError(f"{address}: expected lsl:NAME or lsl:type=ECG")
    found = pylsl.resolve_byprop(key, value, timeout=patience)
    if not found:
        raise DataError(f"{address}: no such stream within {patience:g} s")
    inlet = pylsl.StreamInlet(found[0], max_buflen=60, recover=False)
    try:
        info = inlet.info(timeout=patience)
    except (pylsl.LostError, pylsl.TimeoutError) as error:
        raise DataError(f"{address}: the stream is away") from error
    rate = info.nominal_srate()
    waiting = [json.dumps(_header(info, rate)).encode() + b"\n"]

    def pull(seconds: float) -> bytes | None:
        if waiting:
            return waiting.pop()
        try:
            samples, times = inlet.pull_chunk(timeout=0.0, max_samples=_SAMPLES_AT_ONCE)
            if not times:
                sample, time = inlet.pull_sample(timeout=seconds)
                samples, times = ([sample], [time]) if sample is not None else ([], [])
        except pylsl.LostError as error:
            raise OSError("the stream is away") from error
        return b"".join(_lines(samples, times, rate)) or None

    def close() -> None:
        with contextlib.suppress(Exception):
            inlet.close_stream()

    return Messages(pull, close, silence).connection


def _header(info: Any, rate: float) -> dict[str, Any]:
    """What the stream says of itself; it may leave out everything."""
    labels, units = list[str](), list[str]()
    channel = info.desc().child("channels").child("channel")
    while not channel.empty():
        labels.append(channel.child_value("label"))
        units.append(channel.child_value("unit"))
        channel = channel.next_sibling("channel")
    header: dict[str, Any] = {"rate": rate} if rate else {}
    if len(labels) == info.channel_count() and all(labels):
        header["leads"] = labels
        if any(map(unit_named, units)):
            header["unit"] = [unit_named(unit) or unit or "unknown" for unit in units]
    return header


def _lines(samples: Sequence[Sequence[float]], times: Sequence[float], rate: float) -> Iterator[bytes]:
    """Samples that follow each other in one line, with the time of the first."""
    start = 0
    for i in range(1, len(times) + 1):
        if i < len(times) and rate and 0 <= times[i] - times[i - 1] <= _HOLE / rate:
            continue
        rows = [[v if math.isfinite(v) else None for v in row] for row in samples[start:i]]
        yield json.dumps({"time": times[start], "samples": rows}).encode() + b"\n"
        start = i
