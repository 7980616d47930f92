"""Devices behind TLS: a real broker and a WebSocket, with a certificate of their own."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.sources.opening import open_source
from tests.runtime.ecg.certificates import make_certificate
from tests.runtime.ecg.sinks.receivers import MOSQUITTO, Broker
from tests.runtime.ecg.sources.devices.test_devices import HEADER, read, values
from tests.waiting import PATIENCE

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key of localhost, signed by themselves."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def web_socket(certificate: tuple[Path, Path]) -> Iterator[str]:
    from websockets.sync.server import serve

    def device(client: Any) -> None:
        for message in (HEADER, "[1]", "[2]"):
            client.send(message)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with serve(device, "127.0.0.1", 0, ssl=context) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"wss://localhost:{server.socket.getsockname()[1]}/ecg"
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture
def broker(certificate: tuple[Path, Path], tmp_path: Path) -> Iterator[str]:
    if MOSQUITTO is None:
        pytest.skip("needs mosquitto")
    made, key = certificate
    running = Broker(tmp_path, "allow_anonymous true", f"certfile {made}", f"keyfile {key}")
    yield f"mqtts://localhost:{running.port}/ecg"
    running.kill()


@pytest.mark.parametrize("kind", ["web_socket", "broker"])
def test_a_certificate_of_nobody_known(kind: str, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue(kind)
    with pytest.raises(
        DataError, match="its certificate is not trusted: self-signed certificate; set SSL_CERT_FILE"
    ) as refused:
        open_source(address)
    assert "\n" not in str(refused.value)


def test_a_device_without_tls(web_socket: str) -> None:
    with contextlib.closing(_NoTls()) as port, pytest.raises(DataError, match="cannot be reached"):
        open_source(f"wss://localhost:{port.number}/")


class _NoTls:
    """A server that answers nothing that is TLS."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.number = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client:
                client.sendall(b"220 this is no TLS\r\n")

    def close(self) -> None:
        self._listener.close()
        self._thread.join(PATIENCE)


@pytest.mark.parametrize("kind", ["web_socket", "broker"])
def test_its_authority_is_trusted(
    kind: str, certificate: tuple[Path, Path], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = request.getfixturevalue(kind)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    sender = _publisher(address, certificate[0]) if kind == "broker" else contextlib.nullcontext()
    with sender:
        source = open_source(address)
        assert values(read(source, 2))[:2] == [1, 2]
        source.close()


@contextlib.contextmanager
def _publisher(address: str, trusted: Path) -> Iterator[None]:
    """Publishes a header that the broker keeps, and samples again and again."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2)
    client.tls_set(ca_certs=str(trusted))
    client.connect("localhost", int(address.rpartition(":")[2].partition("/")[0]))
    client.loop_start()
    client.publish("ecg", HEADER, qos=1, retain=True).wait_for_publish(PATIENCE)
    over = threading.Event()

    def publish() -> None:
        while not over.wait(0.05):
            client.publish("ecg", "[1]\n[2]", qos=1)

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE)
        client.disconnect()
        client.loop_stop()
