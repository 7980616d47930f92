"""A limit of the events of a source. A device that sends nothing but faults fills no memory and no disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from multires_edge.format.fields import Between, Natural

# So many events at once, and so many for each second of samples.
_BURST, _PER_SECOND = 20.0, 1.0

# A kind of event, and its details.
What = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class EventLimitState:
    """How many events may come, and the number of those that were left out."""

    room: Annotated[float, Between(0, _BURST)]
    left_out: Natural


class EventLimit:
    """Counts the events of a source for which there is no room. Room comes with samples, at ``rate`` Hz."""

    def __init__(self, rate: float) -> None:
        self._per_sample = _PER_SECOND / rate
        self._room, self._left_out = _BURST, 0

    def came(self, samples: int) -> None:
        """Make room for the events of so many samples."""
        self._room = min(_BURST, self._room + samples * self._per_sample)

    def admit(self, kind: str, details: dict[str, Any], *, always: bool = False) -> list[What]:
        """The events to report now: those that were left out, as one, and this one; or none."""
        # What was left out takes room too.
        if not always and self._room < 1 + bool(self._left_out):
            self._left_out += 1
            return []
        left_out = self.finish()
        self._room = max(0.0, self._room - 1 - len(left_out))
        return [*left_out, (kind, details)]

    def finish(self) -> list[What]:
        """An event with the number of events that were left out, if there are any."""
        left_out, self._left_out = self._left_out, 0
        return [("dropped_events", {"events": left_out})] if left_out else []

    def save(self) -> EventLimitState:
        return EventLimitState(self._room, self._left_out)

    def load(self, saved: EventLimitState) -> None:
        self._room, self._left_out = saved.room, saved.left_out
