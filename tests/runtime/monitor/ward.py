"""A ward of patients without devices, for the tests of the page's layout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from multires_edge.runtime.monitor.access import Gate
from multires_edge.runtime.monitor.hub import Hub
from multires_edge.runtime.monitor.patient import Identity
from multires_edge.runtime.monitor.server import MonitorServer
from tests.runtime.conftest import beats

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
LABELS = ["CD", "HYP", "MI", "NORM", "STTC"]
LONG_NAME = "Wolfeschlegelsteinhausenbergerdorff, Hubert Blaine, Ward 7, Bed 31"
RATE = 250.0
SECONDS = 20


class Ward:
    """Patients of a hub, numbered from 0, and their lines and samples."""

    def __init__(
        self, count: int, labels: Sequence[str] = LABELS, descriptions: dict[str, str] | None = None
    ) -> None:
        names = [LONG_NAME if i == 1 else f"Bed {i + 1}" for i in range(count)]
        self.labels, self.count = list(labels), count
        about = {
            "bundle": "demo.bundle",
            "model": "ECG superclasses, small MultiresNet (4 layers of 64)",
            "labels": self.labels,
            "descriptions": descriptions or {},
            "independent": True,
            "thresholds": {labels[0]: 0.8, labels[-1]: 0.7},
            "every": 0.5,
            "filter": "linear-phase, 0.5 Hz, 1 s late",
        }
        self.hub = Hub([Identity(f"s{i}", names[i], RATE) for i in range(count)], LEADS, about)

    def fill(self) -> None:
        """Twenty seconds of everything. Call it on the server's thread, or before it starts."""
        for i in range(self.count):
            self.hub.samples(i, 0, beats(SECONDS, RATE, leads=12, seed=i) * 0.7)
            for step in range(1, 2 * SECONDS + 1):
                self.decide(i, step / 2)

    def decide(self, patient: int, time: float, *, signal: bool = True, **quality: list[str]) -> None:
        values = np.random.default_rng(patient).random(len(self.labels)) + 0.02 * np.sin(time)
        chances = dict(zip(self.labels, np.clip(values, 0, 1).round(4).tolist(), strict=True))
        chances[self.labels[0]] = 1.0 if patient % 3 == 0 else chances[self.labels[0]]
        self.line(
            "decision",
            patient,
            time,
            seen=min(time, 10.0),
            probabilities=chances if signal else None,
            quality=quality if signal else {lead: ["flat", "noise"] for lead in LEADS},
            timing={"latency": 0.0123, "age": 0.1234},
        )

    def event(self, patient: int, time: float, kind: str, **details: Any) -> None:
        self.line("event", patient, time, event=kind, **details)

    def line(self, kind: str, patient: int, time: float, **fields: Any) -> None:
        entry = {"type": kind, "source": f"s{patient}", "time": time, **fields}
        self.hub.line(json.dumps(entry, ensure_ascii=False))

    def worst(self) -> None:
        """Alarms of several labels, a silence, a lost source, leads that are off."""
        for i in range(self.count):
            trouble = i % 4
            if trouble == 0:
                for label in (self.labels[0], self.labels[-1]):
                    self.event(i, 12.5, "onset", label=label, probability=0.91)
                seen = {"type": "acknowledge", "source": f"s{i}", "label": self.labels[0], "since": 12.5}
                self.hub.hear(json.dumps(seen))
                self.decide(i, SECONDS + 0.5, V1=["nan"], V2=["flat", "noise"], I=["contradiction"])
            elif trouble == 1:
                self.event(i, 18.0, "onset", label=self.labels[0], probability=0.91)
                self.event(i, 19.5, "silent")
                self.decide(i, SECONDS + 0.5, signal=False)
            elif trouble == 2:
                self.event(i, 20.0, "lost", message="connection reset by peer while 12 samples were read")
            else:
                self.event(i, 20.0, "stalled")


@contextmanager
def served(ward: Ward) -> Iterator[str]:
    """The ward's page, and its address."""
    with MonitorServer(ward.hub, Gate("127.0.0.1", None), "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.port}/"
