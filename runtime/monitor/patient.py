"""One patient as the page shows it: who it is, and whether what is on the screen can be trusted."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What a browser that joins late is given at once: a sweep's worth of samples, and curves to look back on.
HISTORY_SECONDS = 30.0
_LONGEST_LINES = 1500

# A frame of samples: patient, channels, number of the first sample; then float32 mV (n, channels), all
# little-endian, NaN where there is no value.
_HEADER = struct.Struct("<IId")

# What an event makes of a source, until another one does.
_FEED = {
    "stalled": "stalled",
    "resumed": "live",
    "silent": "silent",
    "restart": "live",
    "lost": "lost",
    "truncated": "lost",
    "connected": "live",
}


@dataclass(frozen=True)
class Identity:
    """Who is shown: ``source`` as in the JSON lines, ``name`` as people say it, leads as of the lead map.

    ``live``: a device, and no recording.
    """

    source: str
    name: str
    rate: float
    missing: Sequence[str] = ()
    derived: Sequence[str] = ()
    live: bool = False


class Patient:
    """What has come from a source: its state now, its last samples and its last lines."""

    def __init__(self, number: int, identity: Identity) -> None:
        self.number, self.identity = number, identity
        self.feed, self.message = "waiting", ""
        self.since = 0.0
        self.alarms: dict[str, float] = {}
        self.lines: deque[str] = deque(maxlen=_LONGEST_LINES)
        self.frames: deque[bytes] = deque()
        self._held = 0  # samples in the frames

    def take_samples(self, first: int, millivolts: NDArray[np.floating[Any]]) -> bytes:
        """The frame of samples (n, channels) in mV, which is also kept for a while."""
        samples = np.ascontiguousarray(millivolts, "<f4")
        frame = _HEADER.pack(self.number, samples.shape[1], first) + samples.tobytes()
        self.frames.append(frame)
        self._held += len(samples)
        while self._held - frame_length(self.frames[0]) >= HISTORY_SECONDS * self.identity.rate:
            self._held -= frame_length(self.frames.popleft())
        if self.feed == "waiting":
            self._become("live", first / self.identity.rate, "")
        return frame

    def take_line(self, line: str, entry: Mapping[str, Any]) -> bool:
        """Keep a line of output; whether it changed the patient's state."""
        self.lines.append(line)
        if entry["type"] != "event":
            return False
        kind, time = entry["event"], entry["time"]
        if kind == "onset":
            self.alarms[entry["label"]] = time
        elif kind == "offset":
            self.alarms.pop(entry["label"], None)
        elif kind in _FEED:
            self._become(_FEED[kind], time, entry.get("message", ""))
        else:
            return False
        return True

    def end(self) -> bool:
        """The source has nothing left; whether that is news."""
        if self.feed in ("ended", "lost"):
            return False  # that it was lost is worth more than that it is over
        over = "The device has closed the connection" if self.identity.live else "The recording has ended"
        self._become("ended", self.since, over)
        return True

    def status(self) -> dict[str, Any]:
        """As the page is told it."""
        return {
            "type": "status",
            "source": self.identity.source,
            "feed": self.feed,
            "message": self.message,
            "since": self.since,
            "alarms": dict(self.alarms),
        }

    def _become(self, feed: str, time: float, message: str) -> None:
        self.feed, self.since, self.message = feed, time, message


def frame_length(frame: bytes) -> int:
    """Samples in a frame."""
    channels: int = _HEADER.unpack_from(frame)[1]
    return (len(frame) - _HEADER.size) // (4 * channels)
