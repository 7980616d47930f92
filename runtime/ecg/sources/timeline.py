"""Compares timestamps with the number of samples: missing samples, late samples, and changes of the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from multires_edge.format.fields import Between, Natural
from multires_edge.runtime.ecg.sources.protocol import Note

# In seconds. The resolution of larger floats is too coarse for samples.
LATEST = 1e12
# A longer jump, in seconds, means that the clock was set; a shorter jump is a gap.
_LONGEST_GAP = 3600.0
# Late samples of this many seconds mean that the clock was set back.
_LONGEST_LATE = 5.0
# The count follows a clock that is slightly off: by this share of each difference.
_FOLLOWING = 0.05


@dataclass(frozen=True)
class TimelineState:
    """The time of the next sample, None before the first, and the number of late samples."""

    next: Annotated[float, Between(-2 * LATEST, 2 * LATEST)] | None
    late: Natural


class Timeline:
    """Places samples by their timestamps, in seconds of the device's sample clock."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next: float | None = None  # the time of the next sample
        self._late = 0

    def place(self, time: float, count: int) -> tuple[int, int, list[Note]]:
        """Place ``count`` samples, the first of them at ``time``.

        Returns the number of missing samples before them, the number of late samples at their start, and the
        events to report.
        """
        if self._next is None:
            self._next = time
        off = time - self._next
        samples = round(off * self._rate)
        if samples < 0:
            late = min(count, -samples)
            self._late += late
            set_back = self._late >= _LONGEST_LATE * self._rate
            if late == count and not set_back:
                return 0, count, []
            events = self.finish()
            if set_back:
                events.append(Note("clock", {"message": f"the clock was set back by {-off:.3f} s"}))
                self._next, late = time, 0
            self._next += (count - late) / self._rate
            return 0, late, events
        events = self.finish()
        if off > _LONGEST_GAP:
            events.append(Note("clock", {"message": f"the clock jumped by {off:.3f} s"}))
            self._next, samples = time, 0
        elif samples:
            events.append(Note("gap", {"seconds": round(samples / self._rate, 6)}))
            self._next = time
        else:
            self._next += _FOLLOWING * off
        self._next += count / self._rate
        return samples, 0, events

    def finish(self) -> list[Note]:
        """The late samples so far as an event, if there are any."""
        late, self._late = self._late, 0
        return [Note("late", {"samples": late})] if late else []

    def save(self) -> TimelineState:
        return TimelineState(self._next, self._late)

    def load(self, saved: TimelineState) -> None:
        self._next, self._late = saved.next, saved.late
