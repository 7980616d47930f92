"""Lines to a real broker, which is killed, starts again, and refuses."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from multires_edge.runtime.ecg.sinks import follower, mqtt
from multires_edge.runtime.ecg.sinks.choice import Choice
from multires_edge.runtime.ecg.sinks.follower import Follower
from multires_edge.runtime.ecg.sinks.protocol import DeliveryError
from multires_edge.runtime.ecg.sinks.waiting import MemoryLines
from tests.ports import free_port
from tests.runtime.ecg.certificates import make_certificate
from tests.runtime.ecg.sinks.receivers import (
    MOSQUITTO,
    Broker,
    Subscriber,
    broker,
    decision,
    event,
    line,
    opened,
    texts,
)
from tests.waiting import PATIENCE, ends, until

__all__ = ["broker"]

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto")


@contextlib.contextmanager
def listening(port: int, topic: str = "#") -> Iterator[Subscriber]:
    subscriber = Subscriber(port, topic)
    yield subscriber
    subscriber.close()


def test_a_message_is_a_line_with_its_id(broker: Broker) -> None:
    sink = opened(f"mqtt://127.0.0.1:{broker.port}/ward/{{source}}/{{type}}")
    lines = [
        line(decision(1.0, source="tcp://10.0.0.7:5000"), "aa-0"),
        line(event(1.0, "gap", source="a+b#c$"), "aa-1"),
        line(event(None, "continued", source=None), "aa-2"),
    ]
    with listening(broker.port) as subscriber:
        sink.send(lines)
        until(lambda: len(subscriber.messages) == 3)
    assert [topic for topic, _ in subscriber.messages] == [
        "ward/tcp:__10.0.0.7:5000/decision", "ward/a_b_c_/event", "ward/run/event",
    ]  # fmt: skip
    for (_, text), sent in zip(subscriber.messages, lines, strict=True):
        assert json.loads(text) == {"id": sent.id, **sent.entry}
    assert subscriber.retained == [False] * 3
    sink.close()


def test_the_last_line_may_be_retained(broker: Broker) -> None:
    sink = opened(f"mqtt://127.0.0.1:{broker.port}/a#retain=1&qos=2")
    sink.send([line(decision(1.0)), line(decision(2.0))])
    with listening(broker.port) as subscriber:
        until(lambda: subscriber.messages)
    assert subscriber.times == [2.0] and subscriber.retained == [True]
    sink.close()


def test_a_broker_that_is_killed_and_starts_again(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is missing; what was not confirmed comes again with the same id."""
    monkeypatch.setattr(follower, "_FIRST_WAIT", 0.02)
    monkeypatch.setattr(follower, "_LONGEST_WAIT", 0.1)
    said: list[str] = []
    waiting = MemoryLines()
    sink = opened(f"mqtt://127.0.0.1:{broker.port}/a")
    run = Follower("mqtt", sink, Choice(), waiting, None, said.append)
    run.start()
    found: dict[str, float] = {}

    with listening(broker.port) as subscriber:
        waiting.put(texts(0, 50))
        until(lambda: len(subscriber.messages) == 50)
    found |= {json.loads(text)["id"]: json.loads(text)["time"] for _, text in subscriber.messages}
    broker.kill()
    waiting.put(texts(50, 100))
    until(lambda: run.failing is not None)
    broker.start()
    with listening(broker.port) as subscriber:
        until(lambda: run.failing is None or run.sent >= 100)
        waiting.put(texts(100, 120))
        waiting.close()
        run.join(10)
        until(lambda: subscriber.messages and subscriber.times[-1] == 119)
    found |= {json.loads(text)["id"]: json.loads(text)["time"] for _, text in subscriber.messages}
    # Those that the broker confirmed before the subscriber was back are not heard.
    assert sorted(found.values())[:50] == list(range(50)) and {*range(100, 120)} <= {*found.values()}
    assert run.sent == 120 and len(said) == 2 and "takes lines again" in said[1]
    assert said[0].startswith("warning: mqtt: the broker")


@needs_mosquitto
def test_wrong_credentials(tmp_path: Path) -> None:
    hasher = Path(str(MOSQUITTO)).parents[1] / "bin" / "mosquitto_passwd"
    subprocess.run([hasher, "-c", "-b", tmp_path / "users", "ann", "right"], check=True, capture_output=True)
    guarded = Broker(tmp_path, "allow_anonymous false", f"password_file {tmp_path}/users")
    password = tmp_path / "password"
    password.write_text("wrong\n")
    try:
        sink = opened(f"mqtt://ann@127.0.0.1:{guarded.port}/a#password=file:{password}")
        with pytest.raises(DeliveryError, match=r"takes no connection \(.*(authori|password)") as refused:
            sink.send([line(decision(1.0))])
        assert "wrong" not in str(refused.value)
        password.write_text("right\n")  # read again
        sink.send([line(decision(1.0))])
        sink.close()
    finally:
        guarded.kill()


def test_no_broker() -> None:
    with pytest.raises(DeliveryError, match=r"the broker cannot be reached \(Connection refused\)"):
        opened(f"mqtt://127.0.0.1:{free_port()}/a").send([line(decision(1.0))])


@pytest.mark.parametrize("greeting", [b"", b"\x20\x02\x00\x00", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_is_no_broker_or_hangs(greeting: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It greets or not, and then says nothing."""
    monkeypatch.setattr(mqtt, "_CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(mqtt, "_RECEIPT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(greeting)
                ended.wait(PATIENCE)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        sink = opened(f"mqtt://127.0.0.1:{listener.getsockname()[1]}/a")
        with pytest.raises(
            DeliveryError, match=r"takes no connection|confirmed nothing|ended the connection"
        ):
            ends(lambda: sink.send([line(decision(1.0))]))
        ended.set()
        thread.join(PATIENCE)


@needs_mosquitto
@pytest.mark.slow
def test_tls(tmp_path: Path) -> None:
    """With an authority of the user's own, and not without it."""
    certificate, key = make_certificate(tmp_path, "DNS:localhost,IP:127.0.0.1")
    secured = Broker(tmp_path, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    try:
        sink = opened(f"mqtts://localhost:{secured.port}/a#ca={certificate}")
        sink.send([line(decision(1.0))])
        sink.close()
        with pytest.raises(DeliveryError, match="certificate verify failed"):
            opened(f"mqtts://localhost:{secured.port}/a").send([line(decision(1.0))])
    finally:
        secured.kill()
