"""The output of a stream: decisions and events, and their JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.fields import Name, Utf8


@dataclass(frozen=True)
class Timing:
    """Seconds by the clock, for live sources.

    ``latency``: since the last sample that the decision needed arrived. ``age``: since the newest sample of
    the decision was measured, which adds the resampler's delay. ``now`` is the time of day of the decision,
    in seconds since 1970.
    """

    age: float
    latency: float
    now: float

    def to_json(self) -> dict[str, float | str]:
        """A part of a line; ``at`` is the time of day at which the newest sample was measured."""
        measured = datetime.fromtimestamp(self.now - self.age, timezone.utc)
        at = measured.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"age": round(self.age, 6), "latency": round(self.latency, 6), "at": at}


@dataclass(frozen=True)
class Decision:
    """The network's output at ``time`` seconds of the record, pooled over the last ``seen`` seconds.

    ``probabilities`` are by label, None where too few leads show a heart. ``logits`` (labels,) float32 are
    what the network computed. ``quality`` has the flags of faulty channels since the previous decision.
    ``warming``: the stream has not seen enough signal yet for an alarm.

    A new stream that gets the samples of the record from number ``replay_from`` on, and ``carry``, continues
    after this decision with the same bits.
    """

    source: str
    time: float
    seen: float
    probabilities: dict[str, float] | None
    quality: dict[str, tuple[str, ...]]
    logits: NDArray[np.float32] = field(compare=False, repr=False)
    timing: Timing | None = field(default=None, compare=False)
    warming: bool = False
    replay_from: int = field(default=0, compare=False, repr=False)
    carry: bytes = field(default=b"", compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The decision as a line of output."""
        chances = self.probabilities
        entry: dict[str, Any] = {
            "type": "decision",
            "source": self.source,
            "time": round(self.time, 6),
            "seen": round(self.seen, 6),
            "probabilities": None
            if chances is None
            else {label: round(p, 6) for label, p in chances.items()},
            "quality": {channel: list(flags) for channel, flags in self.quality.items()},
        }
        if chances is None:
            entry["no_signal"] = True
        if self.warming:
            entry["warming"] = True
        if self.timing is not None:
            entry["timing"] = self.timing.to_json()
        return entry


@dataclass(frozen=True)
class Event:
    """An event at ``time`` seconds of the record. ``details`` depend on ``kind``.

    Kinds are onset, offset and lost of a label's alarm; silent and restart of the gap policy; gap, late,
    clock, bad_line, bad_lines, dropped, dropped_events, truncated, unreadable, lost and connected of a
    source; stalled and resumed of a live source.
    """

    source: str
    time: float
    kind: Utf8
    details: dict[Name, float | Utf8 | dict[Utf8, tuple[Name, ...]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The event as a line of output."""
        return {
            "type": "event",
            "source": self.source,
            "time": round(self.time, 6),
            "event": self.kind,
            **self.details,
        }
