"""Finds the way to a device by the scheme of its address.

Another package adds a scheme as an entry point of the group ``multires_edge.sources``: a function as
``Connect``, which returns a :class:`Connection` that brings lines of text. ``Messages`` makes a connection of
messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources import live
from multires_edge.runtime.ecg.sources.connections import Connection, TcpAddress
from multires_edge.runtime.ecg.sources.protocol import Format, Source

ENTRY_POINTS = "multires_edge.sources"
# connect(address, silence, patience) connects within ``patience`` seconds. A silence of ``silence`` seconds,
# if it is not None, then ends the connection with a TimeoutError. Raises DataError if there is no device.
Connect = Callable[[str, float | None, float], Connection]

_MODULES = {
    "ws": "websocket",
    "wss": "websocket",
    "serial": "serial_port",
    "mqtt": "mqtt",
    "mqtts": "mqtt",
    "lsl": "lsl",
}
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):(.+)", re.IGNORECASE | re.DOTALL)
_SECRET = re.compile(r"//[^/@]*@")


def open_device(spec: str, given: Format) -> Source | None:
    """The device at an address, or None if the name of a source is no address. Raises DataError."""
    if spec == "-":
        return live.open_stdin(given)
    found = _ADDRESS.fullmatch(spec)
    if found is None:
        return None
    scheme = found[1].casefold()
    connect = _connect(scheme)
    if connect is None:
        if found[2].startswith("//"):
            known = ", ".join(["tcp", *_MODULES, *_installed()])
            raise DataError(f"{_shown(spec)}: is an address of an unknown kind, expected one of {known}")
        return None
    return live.open_address(_shown(spec), lambda silence, patience: connect(spec, silence, patience), given)


def _connect(scheme: str) -> Connect | None:
    if scheme == "tcp":
        return lambda address, silence, patience: TcpAddress(address).connect(silence, patience)
    if scheme in _MODULES:
        module = import_module(f"multires_edge.runtime.ecg.sources.devices.{_MODULES[scheme]}")
        found: Connect = module.connect
        return found
    point = _installed().get(scheme)
    loaded: Connect | None = None if point is None else point.load()
    return loaded


def _installed() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _shown(address: str) -> str:
    """An address without name and password."""
    return _SECRET.sub("//", address, count=1)
