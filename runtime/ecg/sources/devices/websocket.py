"""Devices behind a WebSocket: ws://HOST:PORT/PATH, wss:// with TLS. A message has one or more lines."""

from __future__ import annotations

import contextlib

from multires_edge.base.errors import DataError, require_extra
from multires_edge.runtime.ecg.sources.connections import Connection
from multires_edge.runtime.ecg.sources.devices.failures import reason_of
from multires_edge.runtime.ecg.sources.devices.messages import Messages

_MESSAGE_MOST = 1 << 22
_PING = 5.0  # seconds, between questions whether the device is there


def connect(address: str, silence: float | None, patience: float) -> Connection:
    """Raises DataError, and MissingExtraError without the library."""
    require_extra("websocket", "reading a WebSocket", "websockets")
    from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidURI, WebSocketException
    from websockets.sync.client import connect as open_socket

    stack = contextlib.ExitStack()
    try:
        opening = open_socket(
            address, open_timeout=patience, close_timeout=1, ping_interval=_PING, ping_timeout=_PING,
            max_size=_MESSAGE_MOST, proxy=None,
        )  # fmt: skip
        socket = stack.enter_context(opening)
    except InvalidURI:
        raise DataError("the address of the WebSocket is none, expected ws://HOST:PORT/PATH") from None
    except (OSError, WebSocketException) as error:
        raise DataError(f"the WebSocket cannot be reached ({reason_of(error)})") from error

    def pull(seconds: float) -> bytes | None:
        try:
            message = socket.recv(timeout=seconds)
        except TimeoutError:
            return None
        except ConnectionClosedOK:
            return b""
        except ConnectionClosed as error:
            raise OSError("the WebSocket broke off") from error
        # An empty message is no end.
        return (message.encode() if isinstance(message, str) else bytes(message)) or b"\n"

    def close() -> None:
        with contextlib.suppress(OSError, WebSocketException):
            stack.close()

    return Messages(pull, close, silence).connection
