"""Which workers are there: each says so on a subject, which no stream keeps."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from multires_edge.runtime.fleet.names import LEASE_SECONDS

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

_EVERY = 0.5
_MOST = 10_000
_LONGEST = 100


class Members:
    """The workers that were heard during the last seconds, and this one. Their clocks do not matter."""

    def __init__(self, client: Client, subject: str, me: str, seconds: float = LEASE_SECONDS) -> None:
        self._client, self._subject, self._me, self._seconds = client, subject, me, seconds
        self._heard: dict[str, float] = {}

    @property
    def alive(self) -> list[str]:
        now = time.monotonic()
        self._heard = {name: at for name, at in self._heard.items() if now - at < self._seconds}
        return sorted({self._me, *self._heard})

    async def open(self) -> None:
        """Listen to the others."""
        await self._client.subscribe(self._subject, cb=self._hear)

    async def speak(self) -> None:
        """Say again and again that this worker is there."""
        while True:
            await self._say(leaves=False)
            await asyncio.sleep(_EVERY)

    async def leave(self) -> None:
        """Say that this worker ends, so that the others need not wait."""
        await self._say(leaves=True)

    async def _say(self, *, leaves: bool) -> None:
        from nats.errors import Error

        # What waits while the broker is away would come too late.
        if self._client.is_connected:
            try:
                await self._client.publish(
                    self._subject, json.dumps({"worker": self._me, "leaves": leaves}).encode()
                )
            except (Error, OSError):
                return

    async def _hear(self, message: Msg) -> None:
        try:
            said = json.loads(message.data)
            name, leaves = said["worker"], said["leaves"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return  # not of a worker
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or name == self._me:
            return
        if leaves is True:
            self._heard.pop(name, None)
        elif len(self._heard) < _MOST or name in self._heard:
            self._heard[name] = time.monotonic()
