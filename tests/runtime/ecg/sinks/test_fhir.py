"""Observations, checked by an independent model of FHIR, and how they are created once."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from multires_edge.base.errors import InputError
from multires_edge.runtime.ecg.sinks.fhir import observation
from tests.runtime.ecg.sinks.receivers import ABOUT, WebServer, decision, event, line, opened, web

__all__ = ["web"]

AT = "2026-11-29T12:00:00.123Z"
ENTRIES = [
    decision(1.0),
    decision(1.5, warming=True, quality={"V1": ["nan", "flat"]}),
    decision(2.0, probabilities=None, no_signal=True),
    event(2.0, "onset", label="A", probability=0.91, quality={"I": ["noise"]}),
    event(2.5, "offset", label="A", probability=0.1),
    event(3.0, "lost", label="A"),
]


def made(entry: dict[str, Any], at: str | None = None, name: str = "aa-0") -> dict[str, Any]:
    found = observation(line(entry, name, at), ABOUT, {"a": "Patient/7"})
    assert found is not None
    return found


@pytest.mark.parametrize("at", [AT, None])
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.get("event", entry["time"]))
def test_an_observation_is_valid(entry: dict[str, Any], at: str | None) -> None:
    model = pytest.importorskip("fhir.resources.R4B.observation", reason="needs fhir.resources")
    resource = made(entry, at)
    read = model.Observation.model_validate(resource)
    assert {**json.loads(read.model_dump_json()), **({"effectiveDateTime": at} if at else {})} == resource
    assert read.status == "preliminary" and read.subject.reference == "Patient/7"


def test_a_decision_has_its_probabilities_and_the_time_of_day() -> None:
    resource = made(ENTRIES[0], AT)
    values = {c["code"]["text"]: c["valueQuantity"]["value"] for c in resource["component"]}
    assert values == {"Probability of A": 0.25, "Probability of B": 0.5}
    assert resource["effectiveDateTime"] == AT and resource["device"] == {"display": "a"}


def test_what_is_not_known_is_not_told() -> None:
    resource = made(ENTRIES[2])
    assert "component" not in resource and "effectiveDateTime" not in resource
    assert resource["dataAbsentReason"]["coding"][0]["code"] == "not-performed"


def test_an_alarm() -> None:
    onset, offset, lost = (made(entry) for entry in ENTRIES[3:])
    assert (onset["valueBoolean"], offset["valueBoolean"]) == (True, False)
    assert "valueBoolean" not in lost and "dataAbsentReason" in lost


def test_other_events_are_no_observations(web: WebServer) -> None:
    sink = opened(f"fhir+http://127.0.0.1:{web.port}/fhir/Observation")
    sink.send([line(event(1.0, "gap")), line(event(None, "continued", source=None))])
    assert web.requests == []


def test_it_is_created_once(web: WebServer) -> None:
    """A line that is sent again has the same identifier, and another line has not."""
    sink = opened(f"fhir+http://127.0.0.1:{web.port}/fhir/Observation")
    web.answers = [201, 500, 201]
    sink.send([line(ENTRIES[0], "aa-0")])
    with pytest.raises(Exception, match="500"):
        sink.send([line(ENTRIES[1], "aa-1")])
    sink.send([line(ENTRIES[1], "aa-1")])
    names = []
    for path, headers, body in web.requests:
        (identifier,) = json.loads(body)["identifier"]
        assert path == "/fhir/Observation" and headers["Content-Type"] == "application/fhir+json"
        assert headers["If-None-Exist"] == f"identifier=urn:ietf:rfc:3986|{identifier['value']}"
        assert uuid.UUID(identifier["value"].removeprefix("urn:uuid:")).version == 5
        names.append(identifier["value"])
    assert names[0] != names[1] == names[2]
    sink.close()


@pytest.mark.parametrize("content", ["[]", "{", '{"a": 7}', "\xff"])
def test_subjects_that_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "subjects").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="expected a file such as"):
        opened(f"fhir+http://127.0.0.1:1/Observation#subjects={tmp_path}/subjects")


def test_subjects(web: WebServer, tmp_path: Path) -> None:
    (tmp_path / "subjects").write_text('{"b": "Patient/8"}')
    sink = opened(f"fhir+http://127.0.0.1:{web.port}/Observation#subjects={tmp_path}/subjects")
    sink.send([line(decision(1.0, source="b"))])
    sink.send([line(decision(1.0, source="c"))])
    first, second = (json.loads(body) for _, _, body in web.requests)
    assert first["subject"] == {"reference": "Patient/8"} and "subject" not in second
    sink.close()
