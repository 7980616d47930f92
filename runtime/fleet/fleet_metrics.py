"""What a worker has done and how it is, for Prometheus and for probes of its health."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

from multires_edge.runtime.ecg.decision import Decision
from multires_edge.runtime.ecg.exposition import Family, Sample, exposition
from multires_edge.runtime.ecg.source_counts import SourceCounts, families_of
from multires_edge.runtime.fleet.patient import Message

# A worker whose loop did nothing for so many seconds hangs.
_HANGS = 10.0
# A patient whose packets have not come for so many seconds is not up.
_SILENT = 2.0
_TOTALS = {
    "packets": "Messages with samples that were used.",
    "refused_messages": "Messages that were not used: no packets, or of another recording.",
    "doubled_packets": "Packets that came twice.",
    "fenced_messages": "Times that another worker had written before.",
    "replays": "Patients that were taken over, or came for the first time.",
    "leases_lost": "Leases that ended before they were given back.",
}


class FleetMetrics:
    """Counts of a worker. Its loop writes them, any thread may call :meth:`render` and :meth:`health`.

    ``program`` is a version, ``bundle`` a name, and ``made`` the provenance of decisions.
    """

    def __init__(self, *, program: str, bundle: str, made: Mapping[str, str], labels: Sequence[str]) -> None:
        self._info = {**made, "version": program, "bundle": bundle, "digest": made["bundle"]}
        self._labels = labels
        self._by_patient: dict[str, SourceCounts] = {}
        self._heard: dict[str, tuple[float, int, int]] = {}
        self.totals = dict.fromkeys(_TOTALS, 0)
        self.partitions = self.workers = self.patients = self.waiting = self.behind = 0
        self.connected = False
        self.problem: str | None = None
        self._started, self._round = time.time(), time.monotonic()

    def count(self, what: str, number: int = 1) -> None:
        """Add to a total."""
        self.totals[what] += number

    def told(self, patient: str, message: Message) -> None:
        """Count what a message says, which is in the stream now."""
        counts = self._by_patient.get(patient)
        if counts is None:
            counts = self._by_patient[patient] = SourceCounts(self._labels)
        for item in message.items:
            if isinstance(item, Decision):
                counts.decide(item, max(0.0, time.time() - message.stored))
            else:
                counts.take(item)

    def heard(self, patient: str, samples: int, missing: int) -> None:
        """Note that a patient's packets came: samples so far, those that never arrived included."""
        self._heard[patient] = time.monotonic(), samples, missing

    def forget(self, patient: str) -> None:
        """Drop the counts of a patient that another worker has now."""
        self._by_patient.pop(patient, None)
        self._heard.pop(patient, None)

    def round(self) -> None:
        """Note that the worker's loop goes on."""
        self._round = time.monotonic()

    def render(self, *, openmetrics: bool = False) -> bytes:
        """All metrics in Prometheus' text format, or as OpenMetrics."""
        by_patient = dict(self._by_patient)
        families = [*self._of_worker(), *self._of_patients(by_patient), *families_of(by_patient)]
        return exposition(families, openmetrics=openmetrics)

    def _of_patients(self, by_patient: Mapping[str, SourceCounts]) -> list[Family]:
        heard, since = dict(self._heard), time.monotonic() - _SILENT
        rows = (
            (
                "multires_source_up", "gauge", "1 while samples come.",
                {name: float(at > since) for name, (at, _, _) in heard.items()},
            ),
            (
                "multires_samples", "counter", "Samples since the worker has the patient.",
                {name: samples for name, (_, samples, _) in heard.items()},
            ),
            (
                "multires_missing_samples", "counter", "Samples that never arrived.",
                {name: missing for name, (_, _, missing) in heard.items()},
            ),
            (
                "multires_record_time_seconds", "gauge", "Time of the last decision in the record.",
                {name: counts.time for name, counts in by_patient.items()},
            ),
        )  # fmt: skip
        return [
            Family(
                name, kind, text, [Sample(value, {"source": patient}) for patient, value in values.items()]
            )
            for name, kind, text, values in rows
        ]

    def _of_worker(self) -> list[Family]:
        gauges = (
            ("multires_start_time_seconds", "Start, since 1970.", self._started),
            ("multires_round_age_seconds", "Since the last round.", time.monotonic() - self._round),
            ("multires_fleet_connected", "1 while the broker is there.", self.connected),
            ("multires_fleet_workers", "Workers that are there.", self.workers),
            ("multires_fleet_partitions", "Partitions of this worker.", self.partitions),
            ("multires_fleet_patients", "Patients of this worker.", self.patients),
            (
                "multires_fleet_waiting_messages",
                "Decisions that the broker has not stored yet.",
                self.waiting,
            ),
            ("multires_fleet_behind_messages", "Messages with samples that wait at the broker.", self.behind),
        )
        families = [Family("multires_build", "info", "Version and bundle.", [Sample(1, self._info)])]
        families += [Family(name, "gauge", text, [Sample(float(value))]) for name, text, value in gauges]
        families += [
            Family(f"multires_fleet_{name}", "counter", text, [Sample(self.totals[name])])
            for name, text in _TOTALS.items()
        ]
        return families

    def health(self) -> tuple[int, bytes]:
        """The HTTP status and a JSON document: 200, or 503 with what is wrong.

        A broker that is away is a warning: to start the worker again, which is what probes do, does not help.
        """
        quiet = time.monotonic() - self._round
        faults = [{"worker": f"has done nothing for {quiet:.0f} s"}] if quiet > _HANGS else []
        warnings = [] if self.connected else [{"broker": "is away"}]
        if self.problem is not None:
            warnings.append({"broker": self.problem})
        told = {"status": "fault" if faults else "ok", "faults": faults, "warnings": warnings}
        return 503 if faults else 200, json.dumps(told, ensure_ascii=False).encode()
