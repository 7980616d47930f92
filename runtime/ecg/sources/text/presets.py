"""Text of programs that leave the meaning of their columns to a comment: OpenSignals and OpenBCI."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Volts at the input for full scale of the converter: supply and gain of the ECG sensor, from the data sheets
# of BITalino and biosignalsplux.
_ECG_SENSORS = {True: (3.3, 1100.0), False: (3.0, 1000.0)}
_BITALINO_BITS, _PLUX_BITS = 10, 16
_CHANNELS = re.compile(r"number of channels\D{0,5}(\d{1,2})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Preset:
    """What the columns are: ``names``, empty for one that is no lead. ``scale`` and ``offset`` of each column
    make ``unit`` of its numbers. ``time`` is the column of times, -1 for the last."""  # fmt: skip

    names: tuple[str, ...]
    unit: str
    rate: float | None = None
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    time: int | None = None


def recognize(comments: Sequence[str], header: Sequence[str], count: int) -> Preset | None:
    """The preset for text with these comments, names of columns (or none) and number of columns."""
    text = "\n".join(comments)
    if "OpenSignals" in text:
        return _opensignals(comments, count)
    if "openbci" in text.casefold():
        return _openbci(text, header, count)
    return None


def _opensignals(comments: Sequence[str], count: int) -> Preset | None:
    """Numbers of the converter: by the data sheet, volts = (raw / 2^bits - 1/2) supply / gain."""
    devices = next((found for line in comments if (found := _devices(line))), None)
    if devices is None:
        return None
    names, scale, offset = list[str](), list[float](), list[float]()
    rate: float | None = None
    for device in devices:
        columns, labels = _texts(device.get("column")), _texts(device.get("label"))
        sensors = dict(zip(labels, _texts(device.get("sensor")), strict=False))
        bits = device.get("resolution")
        bits = bits if isinstance(bits, list) else []
        kind = str(device.get("device", "")).casefold()
        supply, gain = _ECG_SENSORS["bitalino" in kind]
        converted = device.get("convertedValues") in (1, True, "1")
        given = device.get("sampling rate")
        rate = float(given) if isinstance(given, int | float) else rate
        for i, column in enumerate(columns):
            is_ecg = sensors.get(column, "").casefold().startswith(("ecg", "ekg"))
            names.append(column if is_ecg else "")
            at = i - len(columns)  # the list may lack what is in front of the channels
            size = bits[at] if -at <= len(bits) else None
            if type(size) is not int or not 1 <= size <= 32:
                size = _BITALINO_BITS if "bitalino" in kind else _PLUX_BITS
            scale.append(1.0 if converted else 1000 * supply / gain / 2**size)
            offset.append(0.0 if converted else -500 * supply / gain)
    if len(names) != count or not any(names):
        return None
    return Preset(tuple(names), "mV", rate, tuple(scale), tuple(offset))


def _devices(line: str) -> list[dict[str, Any]] | None:
    """The devices of OpenSignals' comment, which is JSON."""
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    found = [each for each in entry.values() if isinstance(each, dict)]
    return found or None


def _texts(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _openbci(text: str, header: Sequence[str], count: int) -> Preset | None:
    """Microvolts. Old files have no header: the index of a sample, then the channels; the last is a time."""
    if header:
        names = [name if "exg" in name.casefold() else "" for name in header]
        return Preset(tuple(names), "uV") if any(names) else None
    found = _CHANNELS.search(text)
    if found is None or not 0 < int(found[1]) < count:
        return None
    channels = int(found[1])
    names = ["", *(f"EXG Channel {i}" for i in range(channels))]
    return Preset((*names, *[""] * (count - len(names))), "uV", time=count - 1)
