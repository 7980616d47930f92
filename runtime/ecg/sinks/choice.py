"""Which lines a sink gets: the options ``send`` and ``every`` of each sink."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multires_edge.base.errors import InputError
from multires_edge.runtime.ecg.settings import parse_duration
from multires_edge.runtime.ecg.sinks.address import SinkAddress

COMMON_OPTIONS = ("send", "every")
_KINDS = ("all", "decisions", "events", "alarms")


def is_alarm(entry: Mapping[str, Any]) -> bool:
    """Whether a line is the onset or the end of a label's alarm."""
    return entry.get("event") in ("onset", "offset", "lost") and "label" in entry


@dataclass(frozen=True)
class Choice:
    """Lines of the kind ``send``; of the decisions, one in ``every`` seconds of record.

    Which decisions these are depends on their times alone. So it is the same after a restart.
    """

    send: str = "all"
    every: float = 0.0
    interval: float = 0.5

    @classmethod
    def of(cls, address: SinkAddress, interval: float) -> Choice:
        """The choice of an address; decisions come every ``interval`` seconds. Raises InputError."""
        send, every = address.options.get("send", "all"), address.options.get("every")
        if send not in _KINDS:
            raise InputError(f"{address.name}: send is {send!r:.40}, expected one of {', '.join(_KINDS)}")
        return cls(send, 0.0 if every is None else parse_duration(every, f"{address.name}: every"), interval)

    def takes(self, entry: Mapping[str, Any]) -> bool:
        """Whether the sink gets a line."""
        if entry.get("type") != "decision":
            return self.send in ("all", "events") or (self.send == "alarms" and is_alarm(entry))
        if self.send not in ("all", "decisions"):
            return False
        # Times have six decimals, so half a microsecond is no difference.
        return self.every <= self.interval or (entry["time"] + 5e-7) % self.every < self.interval - 5e-7
