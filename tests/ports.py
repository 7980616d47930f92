"""Ports for servers that must be told one."""

from __future__ import annotations

import contextlib
import random
import socket

# Below those that systems give to whoever asks for any: no other program gets such a port by chance.
_FIRST, _LAST = 10_000, 30_000


def free_port() -> int:
    """A port of 127.0.0.1 that no program listens on, also a while later."""
    draw = random.SystemRandom()
    for _ in range(100):
        port = draw.randrange(_FIRST, _LAST)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError(f"no port between {_FIRST} and {_LAST} is free")
