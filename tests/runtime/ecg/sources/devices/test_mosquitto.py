"""Samples by a real broker: with a retained header, and while the broker is killed and starts again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from multires_edge.runtime.ecg.sources import live
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format, Note, Piece, Source
from tests.runtime.ecg.sinks.receivers import Broker, broker
from tests.runtime.ecg.sources.devices.test_devices import HEADER, values
from tests.waiting import PATIENCE, until

__all__ = ["broker"]


class Device:
    """Publishes lines to a topic."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def send(self, line: str, **options: Any) -> None:
        self._client.publish("ward/7", line, qos=1, **options).wait_for_publish(PATIENCE)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def read_until(source: Source, pieces: list[Piece], condition: Callable[[], bool]) -> None:
    """Read pieces until a condition holds."""

    def holds() -> bool:
        pieces.extend(source.read(100))
        return condition()

    until(holds)


def test_the_header_is_retained(broker: Broker) -> None:
    device = Device(broker.port)
    device.send(HEADER, retain=True)
    source = open_source(f"mqtt://127.0.0.1:{broker.port}/ward/7")
    pieces: list[Piece] = []
    source.read(1)
    for i in range(5):
        device.send(f"[{i}]")
    device.send("[5]\n[6]")
    read_until(source, pieces, lambda: len(values(pieces)) == 7)
    assert values(pieces) == [0, 1, 2, 3, 4, 5, 6]
    source.close()
    device.close()


def test_a_broker_that_is_killed_and_starts_again(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_RETRY", 0.05)
    device = Device(broker.port)
    device.send(HEADER, retain=True)
    source = open_source(f"mqtt://127.0.0.1:{broker.port}/ward/7", Format(reconnect=1000))
    pieces: list[Piece] = []
    device.send("[1]")
    read_until(source, pieces, lambda: len(values(pieces)) == 1)
    device.close()
    broker.kill()
    read_until(source, pieces, lambda: any(_is(piece, "lost") for piece in pieces))
    broker.start()
    device = Device(broker.port)
    device.send(HEADER, retain=True)
    read_until(source, pieces, lambda: any(_is(piece, "connected") for piece in pieces))
    time.sleep(0.05)
    device.send("[2]")
    read_until(source, pieces, lambda: 2 in values(pieces))
    found = [value for value in values(pieces) if not math.isnan(value)]
    assert found == [1, 2]
    source.close()
    device.close()


def _is(piece: Piece, kind: str) -> bool:
    return isinstance(piece, Note) and piece.kind == kind
