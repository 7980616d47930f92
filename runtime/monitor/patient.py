"""The state of one patient on the page: identity, source, alarms, latest samples and lines."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A browser that joins late gets this many samples and lines: a full sweep and curves of the past.
HISTORY_SECONDS = 30.0
_LONGEST_LINES = 1500

# A frame of samples: patient, channels, number of the first sample; then float32 mV (n, channels). All
# numbers are little-endian. NaN is a missing value.
_HEADER = struct.Struct("<IId")

# The state of the source after an event.
_FEED = {
    "stalled": "stalled",
    "resumed": "live",
    "silent": "silent",
    "restart": "live",
    "lost": "lost",
    "truncated": "lost",
    "unreadable": "lost",
    "connected": "live",
}


@dataclass(frozen=True)
class Identity:
    """Identifies a patient: ``source`` as in the JSON lines, ``name`` for people, ``rate`` in Hz.

    ``missing`` and ``derived`` are leads of the lead map. ``live``: a device, not a recording.
    """

    source: str
    name: str
    rate: float
    missing: Sequence[str] = ()
    derived: Sequence[str] = ()
    live: bool = False


class Patient:
    """The current state of a source, its latest samples and its latest lines."""

    def __init__(self, number: int, identity: Identity) -> None:
        self.number, self.identity = number, identity
        self.feed, self.message = "waiting", ""
        self.since = 0.0
        self.alarms: dict[str, float] = {}
        self.acknowledged: set[str] = set()
        self.reached = 0.0  # the second of the record that lines have reached
        self.lines: deque[str] = deque(maxlen=_LONGEST_LINES)
        self.frames: deque[bytes] = deque()
        self._kept = 0  # samples in the frames

    def take_samples(self, first: int, millivolts: NDArray[np.floating[Any]]) -> bytes:
        """Keep samples (n, channels) in mV for HISTORY_SECONDS. Returns them as a frame."""
        samples = np.ascontiguousarray(millivolts, "<f4")
        frame = _HEADER.pack(self.number, samples.shape[1], first) + samples.tobytes()
        self.frames.append(frame)
        self._kept += len(samples)
        while self._kept - frame_length(self.frames[0]) >= HISTORY_SECONDS * self.identity.rate:
            self._kept -= frame_length(self.frames.popleft())
        if self.feed == "waiting":
            self._become("live", first / self.identity.rate, "")
        return frame

    def take_line(self, line: str, entry: Mapping[str, Any]) -> bool:
        """Keep a line of output. Returns whether it changed the patient's state."""
        self.lines.append(line)
        self.reached = max(self.reached, entry["time"])
        if entry["type"] != "event":
            return False
        kind, time = entry["event"], entry["time"]
        if kind == "onset":
            self.alarms[entry["label"]] = time
        elif kind == "offset" or (kind == "lost" and "label" in entry):
            self.alarms.pop(entry["label"], None)
            self.acknowledged.discard(entry["label"])
        elif kind in _FEED:
            self._become(_FEED[kind], time, entry.get("message", ""))
        else:
            return False
        return True

    def acknowledge(self, label: str, since: float) -> bool:
        """Mark the alarm of a label that began at ``since`` as seen. Returns whether it was not yet."""
        if self.alarms.get(label) != since or label in self.acknowledged:
            return False  # an alarm that has ended, or another than the one that was seen
        self.acknowledged.add(label)
        return True

    def end(self) -> bool:
        """Record the end of the source. Returns whether it changed the patient's state."""
        if self.feed in ("ended", "lost"):
            return False  # "lost" tells more than "ended"
        over = "The device has closed the connection" if self.identity.live else "The recording has ended"
        self._become("ended", self.since, over)
        return True

    def status(self) -> dict[str, Any]:
        """The message to the page about the current state."""
        return {
            "type": "status",
            "source": self.identity.source,
            "feed": self.feed,
            "message": self.message,
            "since": self.since,
            "alarms": dict(self.alarms),
            "acknowledged": sorted(self.acknowledged),
        }

    def _become(self, feed: str, time: float, message: str) -> None:
        self.feed, self.since, self.message = feed, time, message


def frame_length(frame: bytes) -> int:
    """The number of samples in a frame."""
    channels: int = _HEADER.unpack_from(frame)[1]
    return (len(frame) - _HEADER.size) // (4 * channels)
