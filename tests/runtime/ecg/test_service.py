"""Signs of life for a service manager."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from multires_edge.cli.main import main
from multires_edge.runtime.ecg.service import Service
from tests.runtime.conftest import beats


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """What listens; the environment says where."""
    path = str(tmp_path / "notify") if request.param == "path" else f"@multires-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path.replace("@", "\0", 1) if path.startswith("@") else path)
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield listener


def heard(listener: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(listener.recv(100).decode())
        except BlockingIOError:
            return messages


def test_says_once_that_it_is_ready(manager: socket.socket) -> None:
    service = Service()
    assert heard(manager) == []
    service.alive()
    service.alive()
    assert heard(manager) == ["READY=1"]


def test_is_alive_when_that_is_due(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    now = [100.0]
    monkeypatch.setattr("multires_edge.runtime.ecg.service.time.monotonic", lambda: now[0])
    service = Service()
    for at in (100.0, 104.9, 105.0, 109.9, 110.1):
        now[0] = at
        service.alive()
    assert heard(manager) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]


def test_a_watchdog_of_another_process_is_none_of_its_business(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    service = Service()
    service.alive()
    service.alive()
    assert heard(manager) == ["READY=1"]


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Service().alive()


def test_the_command_tells(manager: socket.socket, two_leads: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", samples=beats(3, 250), leads=["I", "II"], rate=250, unit="mV")
    result = CliRunner().invoke(main, ["stream", str(two_leads), str(tmp_path / "a.npz")])
    assert result.exit_code == 0
    assert heard(manager) == ["READY=1"]
