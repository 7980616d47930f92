"""Timestamps against the count of samples: what is missing, late, or the clock's own doing."""

from __future__ import annotations

from typing import Any

# A jump this long, in seconds, is a clock that was set, and no gap.
_LONGEST_GAP = 3600.0
# Samples that stay behind for so long, in seconds, are a clock that was set back.
_LONGEST_LATE = 5.0
# How fast the count follows a device whose clock is a little off: a share of each difference.
_FOLLOWING = 0.05


class Timeline:
    """Places samples by the time of the first of them, in seconds of the device's own sample clock."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next: float | None = None  # when the next sample is due
        self._late = 0

    def place(self, time: float, count: int) -> tuple[int, int, list[tuple[str, dict[str, Any]]]]:
        """Where ``count`` samples from ``time`` on belong.

        Returns how many samples are missing before them, how many of them are late, because their time
        has passed, and the events to report.
        """
        events: list[tuple[str, dict[str, Any]]] = []
        if self._next is None:
            self._next = time
        off = time - self._next
        samples = round(off * self._rate)
        if samples < 0:
            late = min(count, -samples)
            self._late += late
            if self._late < _LONGEST_LATE * self._rate and late == count:
                return 0, count, events
            if self._late >= _LONGEST_LATE * self._rate:
                self._report_late(events)
                events.append(("clock", {"message": f"the clock was set back by {-off:.3f} s"}))
                self._next = time + count / self._rate
                return 0, 0, events
            self._report_late(events)
            self._next += (count - late) / self._rate
            return 0, late, events
        self._report_late(events)
        if off > _LONGEST_GAP:
            events.append(("clock", {"message": f"the clock jumped by {off:.3f} s"}))
            self._next, samples = time, 0
        elif samples:
            events.append(("gap", {"seconds": round(samples / self._rate, 6)}))
            self._next = time
        else:
            self._next += _FOLLOWING * off
        self._next += count / self._rate
        return samples, 0, events

    def finish(self) -> list[tuple[str, dict[str, Any]]]:
        """Events that were to be reported with the next sample, and there is none."""
        events: list[tuple[str, dict[str, Any]]] = []
        self._report_late(events)
        return events

    def _report_late(self, events: list[tuple[str, dict[str, Any]]]) -> None:
        if self._late:
            events.append(("late", {"samples": self._late}))
            self._late = 0

    def save(self) -> dict[str, Any]:
        return {"next": self._next, "late": self._late}

    def load(self, saved: dict[str, Any]) -> None:
        self._next, self._late = saved["next"], saved["late"]
