"""Finds the kind of a sink by the scheme of its address.

Another package adds a scheme as an entry point of the group ``multires_edge.sinks``: a function as ``Open``.
It checks the options of the address, and raises InputError if the user has to change something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from multires_edge.base.errors import InputError
from multires_edge.runtime.ecg.sinks.address import SinkAddress
from multires_edge.runtime.ecg.sinks.choice import Choice
from multires_edge.runtime.ecg.sinks.protocol import About, Sink

ENTRY_POINTS = "multires_edge.sinks"
# Opens a sink, without connecting to its receiver.
Open = Callable[[SinkAddress, About], Sink]

_MODULES = {
    "mqtt": "mqtt",
    "mqtts": "mqtt",
    "http": "webhook",
    "https": "webhook",
    "fhir+http": "fhir",
    "fhir+https": "fhir",
    "wfdb": "wfdb",
}


@dataclass(frozen=True)
class OpenedSink:
    """A sink, its name, and the lines that it gets."""

    name: str
    sink: Sink
    choice: Choice


def open_sinks(specs: Sequence[str], about: About) -> list[OpenedSink]:
    """The sinks at addresses. Raises MultiresError."""
    opened: list[OpenedSink] = []
    for spec in specs:
        address = SinkAddress.parse(spec)
        if any(other.name == address.name for other in opened):
            raise InputError(f"the sink {address.name} is given twice")
        sink = _open_of(address)(address, about)
        opened.append(OpenedSink(address.name, sink, Choice.of(address, about.interval)))
    return opened


def _open_of(address: SinkAddress) -> Open:
    found: Open
    if address.scheme in _MODULES:
        module = import_module(f"multires_edge.runtime.ecg.sinks.{_MODULES[address.scheme]}")
        found = module.open_sink
        return found
    point = _installed().get(address.scheme)
    if point is None:
        known = ", ".join([*_MODULES, *_installed()])
        raise InputError(f"{address.scheme}: is a sink of an unknown kind, expected one of {known}")
    found = point.load()
    return found


def _installed() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}
