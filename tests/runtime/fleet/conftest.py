"""A broker for the tests of a fleet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.fleet.cluster import Server, running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running nats-server with JetStream and its MQTT gateway."""
    server = Server(tmp_path / "broker", mqtt=True)
    with running(server):
        server.start()
        yield server
