"""The metrics and the health of sessions, and that the board asks for metrics that there are."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.runtime import Bundle
from multires_edge.runtime.ecg import metrics as module
from multires_edge.runtime.ecg.checkpoint import Checkpointer
from multires_edge.runtime.ecg.decision import Decision, Event, Timing
from multires_edge.runtime.ecg.metrics import Metrics
from multires_edge.runtime.ecg.session import Session
from multires_edge.runtime.ecg.sinks.choice import Choice
from multires_edge.runtime.ecg.sinks.output import SinkOutput
from multires_edge.runtime.ecg.sinks.registry import OpenedSink
from multires_edge.runtime.ecg.source_counts import KINDS, LATENCIES
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.streams import EcgStreams
from tests.conftest import ROOT
from tests.runtime.conftest import beats, write_wfdb
from tests.runtime.ecg.sinks.test_output import Receiver
from tests.runtime.ecg.test_exposition import samples

BOARD = ROOT / "examples" / "grafana" / "multires-edge.json"


def read(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Values by name and labels, which both formats have alike."""
    found = []
    for openmetrics in (False, True):
        name = "prometheus_client.openmetrics.parser" if openmetrics else "prometheus_client.parser"
        parser = pytest.importorskip(name, reason="needs prometheus-client")
        text = metrics.render(openmetrics=openmetrics).decode()
        found.append(samples(list(parser.text_string_to_metric_families(text))))
    assert [name for name, _, _ in found[0]] == [name for name, _, _ in found[1]]
    return {(name, *labels.values()): value for name, labels, value in found[0]}


@pytest.fixture
def session(opened: Bundle, tmp_path: Path) -> Iterator[Session]:
    x = beats(12, 250)
    np.savez(tmp_path / "a.npz", samples=x, leads=["I", "II"], rate=250, unit="mV")
    sources = [open_source(str(tmp_path / "a.npz")), open_source(str(write_wfdb(tmp_path, "b", x, 250)))]
    streams = EcgStreams(
        opened, [source.signal for source in sources], thresholds=("A=0.01",), alarm_after="1s"
    )
    yield Session(streams, sources)
    for source in sources:
        source.close()


def counted(session: Session) -> Metrics:
    return Metrics(session, program="1.2.3", bundle="two.bundle")


def names(session: Session) -> list[str]:
    return [source.signal.name for source in session.sources]


def test_a_whole_run(session: Session) -> None:
    metrics, receiver = counted(session), Receiver()
    output = SinkOutput(None, [OpenedSink("pager:7", receiver, Choice())], say=print, waits=True)
    metrics.sinks = output.followers
    made = Checkpointer(session, output, None, {}, seconds=1, timing=True, say=print, metrics=metrics)
    assert made.run()
    output.close()
    found = read(metrics)
    for name in names(session):
        assert found["multires_samples_total", name] == 3000
        assert found["multires_decisions_total", name, "decided"] == 23
        assert found["multires_decisions_total", name, "warming"] == 1
        assert found["multires_events_total", name, "onset"] == 1 == found["multires_alarm", name, "A"]
        assert found["multires_alarm", name, "B"] == 0 == found["multires_source_up", name]
        assert found["multires_record_time_seconds", name] == 12
        assert found["multires_decision_latency_seconds_count", name] == 0
    assert found["multires_build_info", "1.2.3", "two.bundle"] == 1
    assert found["multires_sink_lines_total", "pager:7"] == len(receiver.lines) == 50
    assert metrics.health()[0] == 200, "a recording that was read to its end is no fault"


def test_every_kind_of_event_has_its_count(session: Session) -> None:
    metrics, (name, _) = counted(session), names(session)
    metrics.take([Event(name, 1.0, kind) for kind in (*KINDS, "a new kind", "another")])
    metrics.take(
        [Event(name, 1.0, "dropped", {"samples": 70}), Event(name, 1.0, "dropped_events", {"events": 9})]
    )
    found = read(metrics)
    assert all(found["multires_events_total", name, kind] == 1 + kind.startswith("dropped") for kind in KINDS)
    assert found["multires_events_total", name, "other"] == 2
    assert found["multires_dropped_samples_total", name] == 70
    assert found["multires_dropped_events_total", name] == 9


def test_the_kinds_are_those_that_the_docs_have() -> None:
    """A kind that is new to the table of docs/ecg-stream.md has to be counted too."""
    table = (ROOT / "docs" / "ecg-stream.md").read_text().partition("| event | |\n")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines() if "Of no source" not in row]
    documented = {name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)}
    assert documented - {"dropped_lines"} <= {*KINDS} and len(documented) > 15


def test_latencies_are_in_their_buckets(session: Session) -> None:
    metrics, (name, _) = counted(session), names(session)
    for latency in (0.0005, 0.001, 0.3, 60.0):
        timing = Timing(0.1 + latency, latency, time.time())
        metrics.take([Decision(name, 1.0, 1.0, None, {}, np.zeros(3, np.float32), timing)])
    found = read(metrics)
    counts = [found["multires_decision_latency_seconds_bucket", name, repr(bound)] for bound in LATENCIES]
    assert counts == [2 if bound < 0.3 else 3 for bound in LATENCIES]
    assert found["multires_decision_latency_seconds_bucket", name, "+Inf"] == 4
    assert found["multires_decision_latency_seconds_sum", name] == pytest.approx(60.3015)
    assert found["multires_decisions_total", name, "no_signal"] == 4


def test_an_alarm_ends(session: Session) -> None:
    metrics, (name, _) = counted(session), names(session)
    for kind, on in (("onset", 1), ("offset", 0), ("onset", 1), ("lost", 0)):
        metrics.take([Event(name, 1.0, kind, {"label": "B"})])
        assert read(metrics)["multires_alarm", name, "B"] == on


class TestHealth:
    def told(self, metrics: Metrics) -> tuple[int, dict[str, Any]]:
        status, body = metrics.health()
        return status, json.loads(body)

    def test_a_source_that_broke_off(self, session: Session) -> None:
        metrics, (first, second) = counted(session), names(session)
        session.faults.append(f"{second}: truncated: of 9 samples, 3 can be read")
        assert self.told(metrics) == (
            503,
            {
                "status": "fault",
                "faults": [{"source": second, "fault": "truncated: of 9 samples, 3 can be read"}],
                "warnings": [],
            },
        )
        assert read(metrics)["multires_source_up", second] == 0 < read(metrics)["multires_source_up", first]

    def test_a_source_that_is_silent_or_has_hung_up(self, session: Session) -> None:
        metrics, (first, second) = counted(session), names(session)
        session._feeds[0].stalled = True
        session._feeds[1].source.live = True
        session._feeds[1].finished = True
        status, told = self.told(metrics)
        assert status == 503 and [fault["source"] for fault in told["faults"]] == [first, second]
        assert told["faults"][0]["fault"].startswith("no samples for")
        assert told["faults"][1]["fault"] == "the device has closed the connection"

    def test_a_run_that_hangs(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        metrics = counted(session)
        monkeypatch.setattr(module, "_HANGS", -1.0)
        assert (
            self.told(metrics)[0] == 503 and "has done nothing" in self.told(metrics)[1]["faults"][0]["run"]
        )
        monkeypatch.setattr(module, "_HANGS", 10.0)
        assert self.told(metrics) == (200, {"status": "ok", "faults": [], "warnings": []})

    def test_sinks_and_states_are_warnings(self, session: Session) -> None:
        metrics = counted(session)
        output = SinkOutput(
            None, [OpenedSink("pager:7", Receiver(), Choice())], say=print, hurry=lambda: True
        )
        metrics.sinks = output.followers
        output.followers[0].failing = "away"
        metrics.state(saved=False)
        status, told = self.told(metrics)
        assert status == 200 and told["warnings"] == [
            {"sink": "pager:7", "fault": "away"}, {"state": "cannot be saved"},
        ]  # fmt: skip
        assert read(metrics)["multires_sink_up", "pager:7"] == 0
        metrics.state(saved=True)
        assert len(self.told(metrics)[1]["warnings"]) == 1 and "multires_state_age_seconds" in str(
            read(metrics)
        )
        output.close()


def test_the_board_asks_for_metrics_that_there_are(session: Session) -> None:
    metrics = counted(session)
    output = SinkOutput(None, [OpenedSink("pager:7", Receiver(), Choice())], say=print, hurry=lambda: True)
    metrics.sinks = output.followers
    metrics.state(saved=True)
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus-client")
    families = parser.text_string_to_metric_families(metrics.render().decode())
    labels = {s.name: set(s.labels) for family in families for s in family.samples}
    output.close()
    board = json.loads(BOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    queries += [
        variable["definition"] for variable in board["templating"]["list"] if "definition" in variable
    ]
    asked = set()
    for query in queries:
        for name, selector in re.findall(r"\b(multires_\w+)(?:\{([^}]*)\})?", query):
            assert name in labels, query
            given = set(re.findall(r"(\w+) *(?:=|!)", selector))
            assert given <= labels[name] | {"job", "instance"}, query
            asked.add(name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum"))
        for by in re.findall(r"\bby *\(([^)]*)\)", query):
            known = set().union(*(labels[name] for name in re.findall(r"\bmultires_\w+", query)))
            assert {label.strip() for label in by.split(",")} <= known | {"job", "instance"}, query
    assert len(queries) > 10 and len(asked) > 10
    legends = [target["legendFormat"] for panel in board["panels"] for target in panel.get("targets", [])]
    assert all(re.findall(r"\{\{(\w+)\}\}", legend) or legend for legend in legends)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
