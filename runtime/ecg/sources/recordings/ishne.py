"""Holter recordings in the ISHNE format (Badilini, 1998)."""

from __future__ import annotations

import struct
from pathlib import Path

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

_MAGIC = b"ISHNE1.0"
_HEADER = 522
_LEADS_MOST = 12
# By the number of a lead's specification.
_NAMES = (
    "", "", "X", "Y", "Z", "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6",
    "ES", "AS", "AI",
)  # fmt: skip
_NANOVOLT = 1e-3  # microvolt


def open_ishne(path: Path, given: Format) -> Record:
    """Raises DataError."""
    with reading(path, "an ISHNE file"):
        return _open(path, given)


def _open(path: Path, given: Format) -> Record:
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if len(header) < _HEADER or header[:8] != _MAGIC:
        raise Damaged("it starts in another way")
    (length,) = struct.unpack_from("<i", header, 14)
    (start,) = struct.unpack_from("<i", header, 22)
    (count,) = struct.unpack_from("<h", header, 156)
    kinds = struct.unpack_from("<12h", header, 158)
    resolutions = struct.unpack_from("<12h", header, 206)
    (rate,) = struct.unpack_from("<h", header, 272)
    if not 0 < count <= _LEADS_MOST:
        raise Damaged(f"{count} leads, expected 1 to {_LEADS_MOST}")
    if start < _HEADER or length < 0:
        raise Damaged("samples that begin within the header")
    frames = FrameFile(path, "16", start, [1] * count)
    names = [
        (_NAMES[kind] if 0 <= kind < len(_NAMES) else "") or f"channel {i + 1}"
        for i, kind in enumerate(kinds[:count])
    ]
    channels = [
        Channel(name, rate, "uV", "" if resolution > 0 else "not calibrated")
        for name, resolution in zip(names, resolutions, strict=False)
    ]
    chosen, notes = choose(channels, given, str(path))

    def read(first: int, stop: int) -> Values:
        values = frames.read(first, stop, chosen)
        values *= one_or_each([resolutions[i] * _NANOVOLT for i in chosen])
        return values

    there = frames.length()
    # Some recorders count the samples of all leads.
    samples = length // count if length > there and length // count == there else length or there
    signal = SignalSpec([names[i] for i in chosen], float(rate), "uV", str(path))
    return Record(signal, samples, read, notes=notes)
