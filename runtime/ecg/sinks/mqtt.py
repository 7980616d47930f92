"""Lines to an MQTT broker: mqtt://[USER@]HOST[:PORT]/TOPIC, mqtts:// with TLS. A message is a line."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from multires_edge.base.errors import InputError, require_extra
from multires_edge.runtime.ecg.sinks.address import Secret, SinkAddress
from multires_edge.runtime.ecg.sinks.choice import COMMON_OPTIONS
from multires_edge.runtime.ecg.sinks.protocol import About, DeliveryError, Line, Sink

if TYPE_CHECKING:
    import ssl

    from paho.mqtt.client import Client

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_OPTIONS = ("password", "ca", "cert", "key", "qos", "retain", *COMMON_OPTIONS)
# Seconds for a connection, and for the broker's receipt of a batch.
_CONNECT_SECONDS, _RECEIPT_SECONDS = 10.0, 10.0
_KEEP_ALIVE = 15
# Characters of topics that have a meaning there, and control characters.
_SPECIAL = re.compile(r"[/+#$\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Target:
    """A broker, the template of topics, and how messages are sent."""

    name: str
    host: str
    port: int
    topic: str
    user: str = ""
    password: Secret | None = None
    tls: ssl.SSLContext | None = None
    qos: int = 1
    retain: bool = False

    def topic_of(self, line: Line) -> str:
        """The topic of a line. What a source is called adds no levels to it."""
        source = line.entry.get("source") or "run"
        values = {"source": _SPECIAL.sub("_", str(source)), "type": str(line.entry.get("type"))}
        return re.sub(r"\{(source|type)\}", lambda match: values[match[1]], self.topic)


def open_sink(address: SinkAddress, about: About) -> Sink:
    """Raises InputError, and MissingExtraError without the library."""
    require_extra("mqtt", "sending to an MQTT broker", "paho")
    address.check_options(*_OPTIONS)
    parts, host, port = address.url("an MQTT broker", _PORTS[address.scheme])
    topic = unquote(parts.path[1:])
    if not topic or parts.query or re.search(r"[+#\x00]|\{(?!(?:source|type)\})", topic):
        raise InputError(
            f"{address.name}: expected {address.scheme}://HOST/TOPIC; the topic may have "
            "{source} and {type}, and no +, ? or other field"
        )
    qos, retain = address.options.get("qos", "1"), address.options.get("retain", "0")
    if qos not in ("0", "1", "2") or retain not in ("0", "1"):
        given = f"qos={qos:.20} and retain={retain:.20}"
        raise InputError(f"{address.name}: has {given}, expected 0, 1 or 2 and 0 or 1")
    return MqttSink(
        Target(
            address.name, host, port, topic, unquote(parts.username or ""), address.secret("password"),
            address.tls() if address.scheme == "mqtts" else None, int(qos), retain == "1",
        )
    )  # fmt: skip


class MqttSink(Sink):
    """Publishes each line with its id, and waits until the broker has confirmed it (QoS 1).

    A connection that fails is replaced by a new one, which knows nothing of the old: the lines that were not
    confirmed are published again.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client: Client | None = None
        self._lost = threading.Event()

    def send(self, lines: Sequence[Line]) -> None:
        client = self._client or self._connected()
        target = self._target
        try:
            receipts = [
                client.publish(target.topic_of(line), line.with_id, target.qos, target.retain)
                for line in lines
            ]
            until = time.monotonic() + _RECEIPT_SECONDS
            for receipt in receipts:
                while not receipt.is_published():
                    if self._lost.is_set():
                        raise DeliveryError("the broker ended the connection")
                    if time.monotonic() > until:
                        raise DeliveryError(f"the broker confirmed nothing for {_RECEIPT_SECONDS:g} s")
                    receipt.wait_for_publish(0.1)
        except BaseException as error:
            self.close()
            if isinstance(error, ValueError | RuntimeError):  # the library's, for a lost connection
                raise DeliveryError("the broker is away") from error
            raise

    def _connected(self) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        target, answered, lost = self._target, threading.Event(), threading.Event()
        refusals: list[str] = []
        client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        if target.user:
            client.username_pw_set(target.user, None if target.password is None else target.password())
        if target.tls is not None:
            client.tls_set_context(target.tls)
        client.connect_timeout = _CONNECT_SECONDS

        def connected(_: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
            if reason.is_failure:
                refusals.append(str(reason))
            answered.set()

        def ended(*_: Any) -> None:
            lost.set()
            answered.set()

        client.on_connect, client.on_disconnect = connected, ended
        try:
            client.connect(target.host, target.port, keepalive=_KEEP_ALIVE)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DeliveryError(f"the broker cannot be reached ({reason})") from error
        client.loop_start()
        self._client, self._lost = client, lost
        if not answered.wait(_CONNECT_SECONDS) or refusals or lost.is_set():
            self.close()
            silent = "it hung up" if lost.is_set() else "no answer"
            raise DeliveryError(f"the broker takes no connection ({refusals[0] if refusals else silent})")
        return client

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError, ValueError):
                client.disconnect()
            client.loop_stop()
