"""Publishes the samples of a device or a ward, in order and through restarts of the broker."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from multires_edge.runtime.fleet.names import check_token
from multires_edge.runtime.fleet.packet import Packet
from multires_edge.runtime.fleet.tasks import ended

if TYPE_CHECKING:
    from nats.js import JetStreamContext

_TIMEOUT, _RETRY = 2.0, 0.2
_AT_ONCE = 64


class Publisher:
    """Sends packets of several patients; each stays in its patient's queue until the broker has stored it.

    A queue has room for ``most`` packets. While the broker is away for longer, the oldest are dropped: the
    worker sees that samples are missing. ``dropped`` counts packets.
    """

    def __init__(self, context: JetStreamContext, samples: str = "ecg", most: int = 6000) -> None:
        self._context, self._samples, self._most = context, samples, most
        self._queues: dict[str, deque[tuple[str, bytes]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.stored = self.dropped = 0

    @property
    def waiting(self) -> int:
        """Packets that the broker has not stored yet."""
        return sum(map(len, self._queues.values()))

    def put(self, patient: str, packet: Packet) -> None:
        """Send a packet after those before it. Raises InputError for an impossible name."""
        queue = self._queues.get(patient)
        if queue is None:
            check_token(patient, "a patient")
            queue = self._queues[patient] = deque()
        # The broker stores a message with this id once, however often it is sent.
        queue.append((f"{patient}/{packet.recording}/{packet.first}", packet.to_bytes()))
        if len(queue) > self._most:
            queue.popleft()
            self.dropped += 1
        task = self._tasks.get(patient)
        if task is None or task.done():
            self._tasks[patient] = asyncio.create_task(self._send(patient, queue))

    async def flush(self) -> None:
        """Wait until the broker has stored everything."""
        while tasks := [task for task in self._tasks.values() if not task.done()]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Stop sending."""
        await asyncio.gather(*map(ended, self._tasks.values()))

    async def _send(self, patient: str, queue: deque[tuple[str, bytes]]) -> None:
        from nats.errors import Error

        subject = f"{self._samples}.{patient}"
        while queue:
            name, data = queue[0]
            try:
                async with self._slots:
                    await self._context.publish(
                        subject, data, timeout=_TIMEOUT, headers={"Nats-Msg-Id": name}
                    )
            except (Error, OSError, asyncio.TimeoutError):
                await asyncio.sleep(_RETRY)
                continue
            self.stored += 1
            if queue and queue[0][0] == name:
                queue.popleft()
