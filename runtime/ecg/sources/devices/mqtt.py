"""Devices behind an MQTT broker: mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC, mqtts:// with TLS.

A message has one or more lines. A broker keeps a header that is published with ``retain``.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Any
from urllib.parse import unquote, urlsplit

from multires_edge.base.errors import DataError, require_extra
from multires_edge.runtime.ecg.sources.connections import Connection
from multires_edge.runtime.ecg.sources.devices.failures import reason_of
from multires_edge.runtime.ecg.sources.devices.messages import Messages

_PORTS = {"mqtt": 1883, "mqtts": 8883}
# Seconds after which the broker is asked whether it is there.
_KEEP_ALIVE = 5
_MESSAGES_MOST = 4096


def connect(address: str, silence: float | None, patience: float) -> Connection:
    """Raises DataError, and MissingExtraError without the library."""
    require_extra("mqtt", "reading from an MQTT broker", "paho")
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    scheme, host, port, user, password, topic = _parts(address)
    messages: queue.Queue[bytes | Exception] = queue.Queue(_MESSAGES_MOST)
    subscribed, refused = threading.Event(), list[str]()
    client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
    if user:
        client.username_pw_set(user, password)
    if scheme == "mqtts":
        client.tls_set()

    def connected(_: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        if reason.is_failure:
            refused.append(str(reason))
            subscribed.set()
        else:
            client.subscribe(topic, qos=1)

    def ended(*_: Any) -> None:
        with contextlib.suppress(queue.Full):
            messages.put_nowait(OSError("the broker is away"))

    client.on_connect = connected
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _, __, message: messages.put(bytes(message.payload))
    client.on_disconnect = ended
    client.connect_timeout = patience
    try:
        client.connect(host, port, keepalive=_KEEP_ALIVE)
    except (OSError, ValueError) as error:
        raise DataError(f"the broker cannot be reached ({reason_of(error)})") from error
    client.loop_start()

    def close() -> None:
        client.disconnect()
        client.loop_stop()

    if not subscribed.wait(patience) or refused:
        close()
        raise DataError(f"the broker takes no subscription ({refused[0] if refused else 'no answer'})")

    def pull(seconds: float) -> bytes | None:
        try:
            message = messages.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(message, Exception):
            raise message
        return message or b"\n"

    return Messages(pull, close, silence).connection


def _parts(address: str) -> tuple[str, str, int, str, str, str]:
    """Scheme, host, port, user, password and topic. A topic may have a #, which starts no fragment."""
    scheme, _, rest = address.partition("://")
    where, _, topic = rest.partition("/")
    try:
        parts = urlsplit(f"//{where}")
        host, port = parts.hostname, parts.port or _PORTS[scheme.casefold()]
    except ValueError:
        host = None
    if not host or not topic:
        raise DataError("the address of the broker is none, expected mqtt://HOST:PORT/TOPIC")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return scheme.casefold(), host, port, user, password, unquote(topic)
