"""Devices on this computer, through each way to connect: their lines arrive, and they come back."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multires_edge.base.errors import DataError, MissingExtraError
from multires_edge.runtime.ecg.sources import live
from multires_edge.runtime.ecg.sources.connections import Connection
from multires_edge.runtime.ecg.sources.devices import registry
from multires_edge.runtime.ecg.sources.devices.messages import Messages
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Format, Note, Piece, Samples, Source
from tests.waiting import PATIENCE, until

HEADER = '{"leads": ["I"], "rate": 100, "unit": "mV"}'


def values(pieces: list[Piece]) -> list[float]:
    return [v for piece in pieces if isinstance(piece, Samples) for v in piece.values[:, 0].tolist()]


def read(source: Source, count: int) -> list[Piece]:
    """Pieces with so many samples, or until the end."""
    pieces: list[Piece] = []

    def is_enough() -> bool:
        pieces.extend(source.read(100))
        return len(values(pieces)) >= count or source.ended

    until(is_enough)
    return pieces


def _quiet(seconds: float) -> None:
    time.sleep(seconds)


def test_messages_are_lines() -> None:
    messages = iter([b"a", b"b\n", None, b"c\nd", b""])
    connection = Messages(lambda _: next(messages), lambda: None, None).connection
    received = [connection.receive() for _ in range(4)]
    assert received == [b"a\n", b"b\n", b"c\nd\n", b""]


def test_a_silence_ends_a_connection() -> None:
    connection = Messages(_quiet, lambda: None, 0.3).connection
    with pytest.raises(TimeoutError, match=r"sent nothing for 0\.3 s"):
        connection.receive()


def test_closing_ends_the_waiting() -> None:
    connection = Messages(_quiet, lambda: None, None).connection
    threading.Timer(0.1, connection.close).start()
    assert connection.receive() == b""


class TestWebSocket:
    @pytest.fixture
    def serve(self) -> Iterator[Callable[[Callable[[Any], None]], str]]:
        from websockets.sync.server import serve

        with contextlib.ExitStack() as stack:

            def start(device: Callable[[Any], None]) -> str:
                server = stack.enter_context(serve(device, "127.0.0.1", 0))
                thread = threading.Thread(target=server.serve_forever, daemon=True)
                thread.start()
                stack.callback(thread.join, PATIENCE)
                stack.callback(server.shutdown)
                return f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ecg"

            yield start

    def test_a_message_is_a_line_or_several(self, serve: Callable[..., str]) -> None:
        def device(client: Any) -> None:
            for message in (HEADER, "[1]", b"[2]\n[3]", "", "[4]\n"):
                client.send(message)

        source = open_source(serve(device))
        assert values(read(source, 9)) == [1, 2, 3, 4] and source.ended
        source.close()

    def test_comes_back(self, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live, "_RETRY", 0.05)
        lives = iter([[HEADER, "[1]"], [HEADER, "[2]"]])

        def device(client: Any) -> None:
            for message in next(lives, []):
                client.send(message)

        source = open_source(serve(device), Format(reconnect=5))
        pieces = read(source, 2)
        assert values(pieces) == [1, 2]
        kinds = [piece.kind for piece in pieces if isinstance(piece, Note)]
        assert kinds[0] == "lost" and "connected" in kinds
        source.close()

    @pytest.mark.parametrize("address", ["ws://127.0.0.1:1/", "ws://"])
    def test_without_a_server(self, address: str) -> None:
        with pytest.raises(DataError, match=r"cannot be reached|the address of the WebSocket"):
            open_source(address)


class TestSerial:
    @pytest.fixture
    def is_open(self, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        """Set when a port was opened. Opening it clears what came before."""
        import serial

        opened, find = threading.Event(), serial.serial_for_url

        def open_port(*arguments: Any, **options: Any) -> Any:
            port = find(*arguments, **options)
            opened.set()
            return port

        monkeypatch.setattr(serial, "serial_for_url", open_port)
        return opened

    def test_lines_of_a_port(self, is_open: threading.Event) -> None:
        device, port = os.openpty()
        name = os.ttyname(port)

        def begin() -> None:
            assert is_open.wait(PATIENCE)
            os.write(device, b"4\nI,II\n1,2\n")

        threading.Thread(target=begin, daemon=True).start()
        source = open_source(f"serial:{name}?baud=9600", Format(100, "mV"))
        assert source.live
        os.write(device, b"5,")
        os.write(device, b"6\n7,8\n")
        pieces = read(source, 3)
        assert values(pieces) == [1, 5, 7]
        source.close()
        os.close(device)
        os.close(port)

    def test_a_url_of_pyserial(self, is_open: threading.Event) -> None:
        was_read = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"serial:socket://127.0.0.1:{listener.getsockname()[1]}"

            def device() -> None:
                client, _ = listener.accept()
                with client:
                    assert is_open.wait(PATIENCE)
                    client.sendall(f"{HEADER}\n[1]\n[2]\n".encode())
                    assert was_read.wait(PATIENCE)

            thread = threading.Thread(target=device, daemon=True)
            thread.start()
            source = open_source(address)
            pieces = read(source, 2)
            was_read.set()
            pieces += read(source, 1)
            thread.join(PATIENCE)
        assert values(pieces) == [1, 2]
        last = pieces[-1]
        assert isinstance(last, Note) and last.kind == "lost"
        source.close()

    @pytest.mark.parametrize("address", ["serial:/dev/none", "serial:/dev/none?speed=1"])
    def test_without_a_port(self, address: str) -> None:
        with pytest.raises(DataError, match=r"cannot be opened|expected serial:PORT"):
            open_source(address)


class Broker:
    """As much of an MQTT broker as a subscriber needs; publishes messages to each that subscribes."""

    def __init__(self, *lives: list[bytes], user: bytes | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.topics: list[bytes] = []
        self._lives, self._user = lives, user
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for messages in self._lives:
            client, _ = self._listener.accept()
            with client:
                packet = self._packet(client)
                right = self._user is None or self._user in packet
                client.sendall(bytes([0x20, 2, 0, 0 if right else 5]))
                if not right:
                    continue
                packet = self._packet(client)
                size = struct.unpack(">H", packet[2:4])[0]
                self.topics.append(packet[4 : 4 + size])
                client.sendall(bytes([0x90, 3, packet[0], packet[1], 0]))
                for message in messages:
                    body = struct.pack(">H", 1) + b"t" + message
                    client.sendall(bytes([0x30, len(body)]) + body)
                time.sleep(0.3)
        self._listener.close()

    @staticmethod
    def _packet(client: socket.socket) -> bytes:
        head = client.recv(2, socket.MSG_WAITALL)
        return client.recv(head[1], socket.MSG_WAITALL)

    def join(self) -> None:
        self._thread.join(PATIENCE)


class TestMqtt:
    def test_a_message_is_a_line(self) -> None:
        broker = Broker([HEADER.encode(), b"[1]", b"[2]\n[3]"], user=b"ann")
        source = open_source(f"mqtt://ann:secret@127.0.0.1:{broker.port}/ward/7/#")
        pieces = read(source, 4)
        assert values(pieces) == [1, 2, 3] and broker.topics == [b"ward/7/#"]
        last = pieces[-1]
        assert isinstance(last, Note) and last.fault and "the broker is away" in last.details["message"]
        assert "secret" not in source.signal.name and "ann" not in source.signal.name
        source.close()
        broker.join()

    def test_comes_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live, "_RETRY", 0.05)
        broker = Broker([HEADER.encode(), b"[1]"], [b"[2]"])
        source = open_source(f"mqtt://127.0.0.1:{broker.port}/a", Format(reconnect=5))
        pieces = read(source, 2)
        assert values(pieces) == [1, 2]
        kinds = [piece.kind for piece in pieces if isinstance(piece, Note)]
        assert kinds[0] == "lost" and "connected" in kinds
        source.close()
        broker.join()

    def test_that_is_refused(self) -> None:
        broker = Broker([], user=b"bob")
        with pytest.raises(DataError, match="takes no subscription") as refused:
            open_source(f"mqtt://ann:secret@127.0.0.1:{broker.port}/a")
        assert "secret" not in str(refused.value)
        broker.join()
        with pytest.raises(DataError, match="the broker cannot be reached"):
            open_source("mqtt://127.0.0.1:1/a")
        with pytest.raises(DataError, match="expected mqtt://HOST:PORT/TOPIC"):
            open_source("mqtt://127.0.0.1")


class TestLsl:
    @pytest.fixture
    def outlet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        pylsl = pytest.importorskip("pylsl")
        info = pylsl.StreamInfo("multires-test", "ECG", 2, 250, "float32", f"test{os.getpid()}")
        channels = info.desc().append_child("channels")
        for label in ("I", "II"):
            channel = channels.append_child("channel")
            channel.append_child_value("label", label).append_child_value("unit", "microvolts")
        return pylsl.StreamOutlet(info)

    @pytest.mark.slow
    def test_a_stream(self, outlet: Any) -> None:
        sent = np.arange(500.0).reshape(250, 2)

        def device() -> None:
            assert outlet.wait_for_consumers(PATIENCE)
            start = 1000.0
            outlet.push_chunk(sent[:125].tolist(), start + 124 / 250)
            outlet.push_chunk(sent[125:].tolist(), start + 2 + 249 / 250)

        thread = threading.Thread(target=device, daemon=True)
        thread.start()
        source = open_source(f"lsl:source_id=test{os.getpid()}")
        assert (source.signal.leads, source.signal.rate) == (["I", "II"], 250)
        assert source.signal.unit == ["uV", "uV"]
        pieces = read(source, 125)
        thread.join(PATIENCE)
        assert values(pieces)[:125] == sent[:125, 0].tolist()
        source.close()

    @pytest.mark.slow
    def test_without_a_stream(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live, "_CONNECT_SECONDS", 0.2)
        with pytest.raises(DataError, match=r"lsl:nobody: no such stream within 0\.2 s"):
            open_source("lsl:nobody")
        with pytest.raises(DataError, match="expected lsl:NAME"):
            open_source("lsl:colour=red")


class TestOtherSchemes:
    def test_one_of_another_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = iter([f"{HEADER}\n".encode(), b"[1]\n[2]\n", b""])
        asked: list[tuple[str, float | None, float]] = []

        def connect(address: str, silence: float | None, patience: float) -> Connection:
            asked.append((address, silence, patience))
            return Connection(lines.__next__)

        class Point:
            def load(self) -> Any:
                return connect

        monkeypatch.setattr(registry, "_installed", lambda: {"ble": Point()})
        source = open_source("ble://strap/7")
        assert values(read(source, 3)) == [1, 2] and asked == [("ble://strap/7", None, 10.0)]
        source.close()

    def test_an_unknown_one(self) -> None:
        with pytest.raises(DataError, match="an address of an unknown kind, expected one of tcp, ws"):
            open_source("gopher://127.0.0.1:70")

    def test_a_file_with_a_colon(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("a:b.jsonl").write_text(f"{HEADER}\n{json.dumps([1])}\n")
        source = open_source("a:b.jsonl")
        assert values(source.read(5)) == [1]
        source.close()

    @pytest.mark.parametrize(
        ("address", "module", "extra"),
        [
            ("ws://x", "websockets", "websocket"),
            ("serial:x", "serial", "serial"),
            ("mqtt://x/y", "paho", "mqtt"),
            ("lsl:x", "pylsl", "lsl"),
        ],
    )
    def test_without_the_extra(
        self, address: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        find: Any = lambda name: None if name == module else object()  # noqa: E731
        monkeypatch.setattr("importlib.util.find_spec", find)
        with pytest.raises(MissingExtraError, match=rf"{module}.*\[{extra}\]"):
            open_source(address)
