"""Lines to a server: http://HOST/PATH and https://. A request has a JSON array of lines."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence

from multires_edge.runtime.ecg.sinks.address import SinkAddress
from multires_edge.runtime.ecg.sinks.choice import COMMON_OPTIONS
from multires_edge.runtime.ecg.sinks.http_receiver import HTTP_OPTIONS, HttpReceiver
from multires_edge.runtime.ecg.sinks.protocol import About, Line, Sink

SIGNATURE = "X-Multires-Signature"


def open_sink(address: SinkAddress, about: About) -> Sink:
    """Raises InputError."""
    address.check_options("secret", *HTTP_OPTIONS, *COMMON_OPTIONS)
    return Webhook(address)


class Webhook(Sink):
    """Posts lines with their ids. With a ``secret``, a header has the time and a signature of both."""

    def __init__(self, address: SinkAddress) -> None:
        self._receiver = HttpReceiver(address)
        self._secret = address.secret("secret")

    def send(self, lines: Sequence[Line]) -> None:
        body = f"[{','.join(line.with_id for line in lines)}]".encode()
        headers = {"Content-Type": "application/json"}
        if self._secret is not None:
            headers[SIGNATURE] = signature(self._secret(), body, int(time.time()))
        self._receiver.post(body, headers)

    def close(self) -> None:
        self._receiver.close()


def signature(secret: str, body: bytes, seconds: int) -> str:
    """The header of a body sent ``seconds`` after 1970: HMAC-SHA256 of the seconds, a point and the body."""
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"
