"""Connections to devices: what the system is asked to notice, and a silence."""

from __future__ import annotations

import socket

import pytest

from multires_edge.runtime.ecg.sources.connections import TcpAddress


@pytest.fixture
def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_device_without_power_is_noticed_within_seconds(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends no end. The system asks it, and gives up after idle + interval * count seconds."""
    opened = []
    plain = socket.create_connection

    def kept(*arguments: object, **keywords: object) -> socket.socket:
        opened.append(plain(*arguments, **keywords))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(socket, "create_connection", kept)
    with listener:
        connection = TcpAddress(f"tcp://127.0.0.1:{listener.getsockname()[1]}").connect(None, 5)
        (client,) = opened
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if not hasattr(socket, "TCP_KEEPIDLE"):
            pytest.skip("this system has its own times")
        idle, interval, count = (
            client.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert 1 <= idle + interval * count <= 10
        connection.close()


def test_a_silence_ends_a_connection_that_can_be_made_again(listener: socket.socket) -> None:
    with listener:
        connection = TcpAddress(f"tcp://127.0.0.1:{listener.getsockname()[1]}").connect(0.05, 5)
        device, _ = listener.accept()
        with device:
            device.sendall(b"1\n")
            assert connection.receive() == b"1\n"
            with pytest.raises(TimeoutError, match=r"sent nothing for 0\.05 s"):
                connection.receive()
        connection.close()
