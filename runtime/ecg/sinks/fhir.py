"""Decisions and alarms to a FHIR server (R4): fhir+https://HOST/PATH/Observation."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multires_edge.base.errors import InputError
from multires_edge.base.files import read_regular
from multires_edge.format.fields import parse_json
from multires_edge.runtime.ecg.sinks.address import SinkAddress
from multires_edge.runtime.ecg.sinks.choice import COMMON_OPTIONS, is_alarm
from multires_edge.runtime.ecg.sinks.http_receiver import HTTP_OPTIONS, HttpReceiver
from multires_edge.runtime.ecg.sinks.protocol import About, Line, Sink

_LARGEST = 1 << 20
# Identifiers are UUIDs of version 5, so that the same line always has the same one.
_NAMESPACE = uuid.UUID("7f0d6f3e-6b1f-5c0b-9d55-0a8f0b7c2f11")
_UUIDS = "urn:ietf:rfc:3986"
_CATEGORY = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "procedure"}]
}
_ABSENT = {
    "coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "not-performed"}
    ]
}


def open_sink(address: SinkAddress, about: About) -> Sink:
    """Raises InputError."""
    address.check_options("subjects", *HTTP_OPTIONS, *COMMON_OPTIONS)
    subjects = address.options.get("subjects")
    return FhirSink(address, about, {} if subjects is None else _subjects(address.name, Path(subjects)))


class FhirSink(Sink):
    """Creates an Observation for each decision and alarm, once: by a conditional create (If-None-Exist).

    ``subjects`` has references such as Patient/7 by source. Other events are no observations.
    """

    most = 1

    def __init__(self, address: SinkAddress, about: About, subjects: Mapping[str, str]) -> None:
        self._receiver, self._about, self._subjects = HttpReceiver(address), about, subjects

    def send(self, lines: Sequence[Line]) -> None:
        for line in lines:
            resource = observation(line, self._about, self._subjects)
            if resource is not None:
                identifier = resource["identifier"][0]
                headers = {
                    "Content-Type": "application/fhir+json",
                    "Accept": "application/fhir+json",
                    "If-None-Exist": f"identifier={identifier['system']}|{identifier['value']}",
                }
                self._receiver.post(json.dumps(resource, ensure_ascii=False).encode(), headers)

    def close(self) -> None:
        self._receiver.close()


def observation(line: Line, about: About, subjects: Mapping[str, str]) -> dict[str, Any] | None:
    """A line as a FHIR R4 Observation, or None if it is no decision and no alarm."""
    entry = line.entry
    if entry["type"] == "decision":
        told = _decision(entry)
        what = "ECG classification"
    elif is_alarm(entry):
        told = _alarm(entry)
        what = f"ECG classification: alarm {entry['label']}"
    else:
        return None
    source = entry["source"]
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "identifier": [{"system": _UUIDS, "value": f"urn:uuid:{uuid.uuid5(_NAMESPACE, line.id)}"}],
        # No person has confirmed it.
        "status": "preliminary",
        "category": [_CATEGORY],
        "code": {"text": what},
        "method": {"text": f"{about.model} by {about.program}" if about.model else about.program},
        "device": {"display": source},
        **told,
    }
    if source in subjects:
        resource["subject"] = {"reference": subjects[source]}
    if line.at is not None:
        resource["effectiveDateTime"] = line.at
    return resource


def _decision(entry: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if entry["probabilities"] is None:
        told["dataAbsentReason"] = _ABSENT
    else:
        told["component"] = [_probability(label, p) for label, p in entry["probabilities"].items()]
    notes = [f"{lead}: {', '.join(flags)}" for lead, flags in entry["quality"].items()]
    place = f"At {entry['time']:g} s of the recording, over {entry['seen']:g} s"
    if entry.get("warming"):
        place += ", of which too few have a signal for an alarm"
    told["note"] = [{"text": text} for text in [place, *notes]]
    return told


def _alarm(entry: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"note": [{"text": f"At {entry['time']:g} s of the recording"}]}
    if entry["event"] == "lost":
        told["dataAbsentReason"] = _ABSENT
    else:
        told["valueBoolean"] = entry["event"] == "onset"
        told["component"] = [_probability(entry["label"], entry["probability"])]
    return told


def _probability(label: str, value: float) -> dict[str, Any]:
    quantity = {"value": value, "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}
    return {"code": {"text": f"Probability of {label}"}, "valueQuantity": quantity}


def _subjects(name: str, path: Path) -> dict[str, str]:
    expected = 'expected a file such as {"tcp://127.0.0.1:5000": "Patient/7"}'
    try:
        subjects = parse_json(read_regular(path, _LARGEST).decode())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is not JSON"
        raise InputError(f"{name}: subjects cannot be read from {path} ({reason}), {expected}") from error
    if not isinstance(subjects, dict) or not all(
        isinstance(value, str) and value for value in subjects.values()
    ):
        raise InputError(f"{name}: {path} does not have texts by source, {expected}")
    return dict(subjects)
