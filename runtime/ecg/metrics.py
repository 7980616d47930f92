"""What a run has done and how it is, for Prometheus and for probes of its health.

The session's thread counts decisions and events. All else is read where it is when somebody asks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from multires_edge.runtime.ecg.decision import Decision
from multires_edge.runtime.ecg.exposition import Family, Sample, exposition
from multires_edge.runtime.ecg.source_counts import SourceCounts, families_of

if TYPE_CHECKING:
    from multires_edge.runtime.ecg.session import Item, Session
    from multires_edge.runtime.ecg.sinks.follower import Follower

# A session that has had no round for so many seconds hangs.
_HANGS = 10.0


class Metrics:
    """Counts of a session and its sinks. Any thread may call :meth:`render` and :meth:`health`.

    ``program`` and ``bundle`` are names. ``sinks`` may be set later.
    """

    def __init__(self, session: Session, *, program: str, bundle: str) -> None:
        self._session = session
        self._info = {"version": program, "bundle": bundle}
        self._by_source = {
            source.signal.name: SourceCounts(session.streams.labels) for source in session.sources
        }
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
        return [*_by("source", list(self._by_source), values), *families_of(self._by_source)]

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
