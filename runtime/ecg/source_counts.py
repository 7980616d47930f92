"""What a source has brought so far, for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from multires_edge.runtime.ecg.decision import Decision, Event
from multires_edge.runtime.ecg.exposition import Family, Sample

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# Other kinds are counted as one, so that the number of series is bounded.
KINDS = (
    "onset", "offset", "lost", "silent", "restart", "gap", "late", "clock", "bad_line", "bad_lines",
    "dropped", "dropped_events", "unreadable", "truncated", "connected", "stalled", "resumed", "replaced",
)  # fmt: skip
_OTHER = "other"
_RESULTS = ("decided", "warming", "no_signal")


class SourceCounts:
    """What one source has brought so far."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.results = dict.fromkeys(_RESULTS, 0)
        self.events = dict.fromkeys((*KINDS, _OTHER), 0)
        self.dropped_samples = self.dropped_events = 0
        self.latencies = [0] * (len(LATENCIES) + 1)
        self.latency = 0.0  # their sum
        self.time = 0.0  # of the last decision, in seconds of the record
        self.alarms = dict.fromkeys(labels, 0)

    def decide(self, decision: Decision, latency: float | None = None) -> None:
        """Count a decision; ``latency`` is that of its timing, or given, in seconds."""
        result = (
            "no_signal" if decision.probabilities is None else "warming" if decision.warming else "decided"
        )
        self.results[result] += 1
        self.time = decision.time
        if decision.timing is not None:
            latency = decision.timing.latency
        if latency is not None:
            self.latencies[bisect_left(LATENCIES, latency)] += 1
            self.latency += latency

    def take(self, event: Event) -> None:
        """Count an event."""
        kind, details = event.kind, event.details
        self.events[kind if kind in self.events else _OTHER] += 1
        label: Any = details.get("label")
        if label in self.alarms and kind in ("onset", "offset", "lost"):
            self.alarms[label] = int(kind == "onset")
        elif kind == "dropped":
            self.dropped_samples += _number(details.get("samples"))
        elif kind == "dropped_events":
            self.dropped_events += _number(details.get("events"))


def families_of(by_source: Mapping[str, SourceCounts]) -> list[Family]:
    """The families with the decisions, events, alarms and latencies of sources, by their names."""
    decisions = Family("multires_decisions", "counter", "Decisions by what they could say.", [])
    events = Family("multires_events", "counter", "Events by their kind.", [])
    alarms = Family("multires_alarm", "gauge", "1 while a label's alarm is on.", [])
    latencies = Family("multires_decision_latency_seconds", "histogram", "From sample to decision.", [])
    for source, counts in by_source.items():
        for family, label, values in (
            (decisions, "result", counts.results),
            (events, "event", counts.events),
            (alarms, "label", counts.alarms),
        ):
            family.samples.extend(Sample(n, {"source": source, label: key}) for key, n in values.items())
        latencies.add_histogram(LATENCIES, list(counts.latencies), counts.latency, {"source": source})
    return [decisions, events, alarms, latencies]


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0
