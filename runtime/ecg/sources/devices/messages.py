"""Makes lines of messages that arrive, and of a device that is asked for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from multires_edge.runtime.ecg.sources.connections import Connection

# A device is asked this often, so that closing the source ends the waiting.
_TURN = 0.2


class Messages:
    """Lines from ``pull``, which waits for a message for so many seconds at most.

    It returns a message, None if there was none in that time, and b"" at the end of the connection. A message
    has one or more lines. ``raw``: lines may go on in the next message.
    """

    def __init__(
        self,
        pull: Callable[[float], bytes | None],
        close: Callable[[], None],
        silence: float | None,
        *,
        raw: bool = False,
    ) -> None:
        self._pull, self._close, self._silence, self._raw = pull, close, silence, raw
        self._next: bytes | None = None
        self._closed = threading.Event()

    @property
    def connection(self) -> Connection:
        """The same as a connection."""
        return Connection(self._receive, self._end, self._ready)

    def _ready(self, seconds: float) -> bool:
        if self._next is None:
            self._next = self._pull(seconds)
        return self._next is not None

    def _receive(self) -> bytes:
        quiet_since = time.monotonic()
        while not self._closed.is_set():
            if self._ready(_TURN):
                message, self._next = self._next or b"", None
                return message if self._raw or not message or message.endswith(b"\n") else message + b"\n"
            if self._silence is not None and time.monotonic() - quiet_since > self._silence:
                raise TimeoutError(f"sent nothing for {self._silence:g} s")
        return b""

    def _end(self) -> None:
        self._closed.set()
        self._close()
