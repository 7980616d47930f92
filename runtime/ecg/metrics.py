"""What a run has done and how it is, for Prometheus and for probes of its health.

The session's thread counts decisions and events. All else is read where it is when somebody asks.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from multires_edge.runtime.ecg.decision import Decision, Event
from multires_edge.runtime.ecg.exposition import Family, Sample, exposition

if TYPE_CHECKING:
    from multires_edge.runtime.ecg.session import Item, Session
    from multires_edge.runtime.ecg.sinks.follower import Follower

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# Other kinds are counted as one, so that the number of series is bounded.
KINDS = (
    "onset", "offset", "lost", "silent", "restart", "gap", "late", "clock", "bad_line", "bad_lines",
    "dropped", "dropped_events", "unreadable", "truncated", "connected", "stalled", "resumed", "replaced",
)  # fmt: skip
_OTHER = "other"
# A session that has had no round for so many seconds hangs.
_HANGS = 10.0
_RESULTS = ("decided", "warming", "no_signal")


class _Counts:
    """What one source has brought so far."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.results = dict.fromkeys(_RESULTS, 0)
        self.events = dict.fromkeys((*KINDS, _OTHER), 0)
        self.dropped_samples = self.dropped_events = 0
        self.latencies = [0] * (len(LATENCIES) + 1)
        self.latency = 0.0  # their sum
        self.time = 0.0  # of the last decision, in seconds of the record
        self.alarms = dict.fromkeys(labels, 0)

    def decide(self, decision: Decision) -> None:
        result = (
            "no_signal" if decision.probabilities is None else "warming" if decision.warming else "decided"
        )
        self.results[result] += 1
        self.time = decision.time
        if decision.timing is not None:
            latency = decision.timing.latency
            self.latencies[bisect_left(LATENCIES, latency)] += 1
            self.latency += latency

    def take(self, event: Event) -> None:
        kind, details = event.kind, event.details
        self.events[kind if kind in self.events else _OTHER] += 1
        label: Any = details.get("label")
        if label in self.alarms and kind in ("onset", "offset", "lost"):
            self.alarms[label] = int(kind == "onset")
        elif kind == "dropped":
            self.dropped_samples += _number(details.get("samples"))
        elif kind == "dropped_events":
            self.dropped_events += _number(details.get("events"))


class Metrics:
    """Counts of a session and its sinks. Any thread may call :meth:`render` and :meth:`health`.

    ``program`` and ``bundle`` are names. ``sinks`` may be set later.
    """

    def __init__(self, session: Session, *, program: str, bundle: str) -> None:
        self._session = session
        self._info = {"version": program, "bundle": bundle}
        self._by_source = {source.signal.name: _Counts(session.streams.labels) for source in session.sources}
        self.sinks: Sequence[Follower] = ()
        self.dropped_lines = 0
        self._started, self._round = time.time(), time.monotonic()
        self._saved: float | None = None
        self._state_failing = False

    def take(self, items: Sequence[Item]) -> None:
        """Count the items of a round. Each round calls this, also one without items."""
        self._round = time.monotonic()
        for item in items:
            counts = self._by_source[item.source]
            if isinstance(item, Decision):
                counts.decide(item)
            else:
                counts.take(item)

    def state(self, *, saved: bool) -> None:
        """Note that a state was saved, or could not be."""
        self._state_failing = not saved
        if saved:
            self._saved = time.monotonic()

    def render(self, *, openmetrics: bool = False) -> bytes:
        """All metrics in Prometheus' text format, or as OpenMetrics."""
        return exposition([*self._of_run(), *self._of_sources(), *self._of_sinks()], openmetrics=openmetrics)

    def health(self) -> tuple[int, bytes]:
        """The HTTP status and a JSON document: 200, or 503 with what is wrong.

        A sink that fails and a state that cannot be saved are warnings: to start the run again, which is what
        probes do, would not help.
        """
        quiet = time.monotonic() - self._round
        faults = [{"run": f"has done nothing for {quiet:.0f} s"}] if quiet > _HANGS else []
        conditions = self._session.conditions()
        faults += [{"source": c.name, "fault": c.problem} for c in conditions if c.problem is not None]
        warnings = [{"sink": sink.name, "fault": reason} for sink in self.sinks if (reason := sink.failing)]
        if self._state_failing:
            warnings.append({"state": "cannot be saved"})
        told = {"status": "fault" if faults else "ok", "faults": faults, "warnings": warnings}
        return 503 if faults else 200, json.dumps(told, ensure_ascii=False).encode()

    def _of_run(self) -> list[Family]:
        now = time.monotonic()
        families = [
            Family("multires_build", "info", "Version and bundle.", [Sample(1, self._info)]),
            _single("multires_start_time_seconds", "gauge", "Start, since 1970.", self._started),
            _single("multires_round_age_seconds", "gauge", "Since the last round.", now - self._round),
            _single(
                "multires_dropped_lines", "counter", "Lines for which standard output had no room.",
                self.dropped_lines,
            ),
        ]  # fmt: skip
        if self._saved is not None:
            families.append(
                _single(
                    "multires_state_age_seconds", "gauge", "Since the last saved state.", now - self._saved
                )
            )
        return families

    def _of_sources(self) -> list[Family]:
        conditions = self._session.conditions()
        values: list[tuple[str, str, str, list[float]]] = [
            (
                "multires_source_up", "gauge", "1 while samples come.",
                [c.problem is None and not c.ended for c in conditions],
            ),
            (
                "multires_samples", "counter", "Samples, those that were missing included.",
                [c.samples for c in conditions],
            ),
            (
                "multires_missing_samples", "counter", "Samples that never arrived.",
                [c.missing for c in conditions],
            ),
            (
                "multires_dropped_samples", "counter", "Samples for which there was no room.",
                [counts.dropped_samples for counts in self._by_source.values()],
            ),
            (
                "multires_dropped_events", "counter", "Events that were only counted.",
                [counts.dropped_events for counts in self._by_source.values()],
            ),
            (
                "multires_record_time_seconds", "gauge", "Time of the last decision in the record.",
                [counts.time for counts in self._by_source.values()],
            ),
        ]  # fmt: skip
        return [*_by("source", list(self._by_source), values), *self._of_decisions()]

    def _of_decisions(self) -> list[Family]:
        decisions = Family("multires_decisions", "counter", "Decisions by what they could say.", [])
        events = Family("multires_events", "counter", "Events by their kind.", [])
        alarms = Family("multires_alarm", "gauge", "1 while a label's alarm is on.", [])
        latencies = Family("multires_decision_latency_seconds", "histogram", "From sample to decision.", [])
        for source, counts in self._by_source.items():
            for family, label, values in (
                (decisions, "result", counts.results),
                (events, "event", counts.events),
                (alarms, "label", counts.alarms),
            ):
                family.samples.extend(Sample(n, {"source": source, label: key}) for key, n in values.items())
            latencies.add_histogram(LATENCIES, list(counts.latencies), counts.latency, {"source": source})
        return [decisions, events, alarms, latencies]

    def _of_sinks(self) -> list[Family]:
        sinks = self.sinks
        values: list[tuple[str, str, str, list[float]]] = [
            (
                "multires_sink_up", "gauge", "1 unless the last attempt failed.",
                [sink.failing is None for sink in sinks],
            ),
            ("multires_sink_lines", "counter", "Lines that were sent.", [sink.sent for sink in sinks]),
            ("multires_sink_failures", "counter", "Attempts that failed.", [sink.failures for sink in sinks]),
            (
                "multires_sink_refused_lines", "counter", "Lines that the receiver never takes.",
                [sink.refused for sink in sinks],
            ),
            (
                "multires_sink_dropped", "counter", "Lines without room; bytes of an output that was moved.",
                [sink.waiting.dropped for sink in sinks],
            ),
            (
                "multires_sink_waiting_bytes", "gauge", "Bytes of lines that wait.",
                [sink.waiting.left for sink in sinks],
            ),
        ]  # fmt: skip
        return _by("sink", [sink.name for sink in sinks], values)


def _single(name: str, kind: str, text: str, value: float) -> Family:
    return Family(name, kind, text, [Sample(value)])


def _by(
    label: str, names: Sequence[str], families: Sequence[tuple[str, str, str, list[float]]]
) -> list[Family]:
    """Families with a sample for each name."""
    return [
        Family(name, kind, text, [Sample(v, {label: n}) for n, v in zip(names, values, strict=True)])
        for name, kind, text, values in families
    ]


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0
