"""Reads messages of a stream in order, each once, from a sequence on."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
    from nats.js import JetStreamContext

# Messages that are on their way at most: the broker keeps the others, so a slow reader needs no memory.
_AT_ONCE = 256
_EXPIRES, _HEARTBEAT = 5.0, 1.0
# Without a message or heartbeat for so long, the consumer is gone: the broker started again, or the network.
_LOST_AFTER = 2.5
_RETRY = 0.25
_INACTIVE = 10.0
_NANO = 1_000_000_000


@dataclass(frozen=True)
class Entry:
    """A message of a stream. ``time`` is the broker's, in seconds since 1970. ``left``: messages after it."""

    subject: str
    data: bytes
    sequence: int
    time: float
    left: int


class LogReader:
    """Reads a stream's messages of one subject, which may have wildcards.

    The consumer is made again after the last message whenever the broker forgot it or a message is missing
    in between. So each message comes once, in order, through restarts of the broker and of the network.
    """

    def __init__(
        self, client: Client, context: JetStreamContext, stream: str, subject: str, start: int
    ) -> None:
        self._client, self._context = client, context
        self._stream, self._subject, self._next = stream, subject, max(1, start)
        self._subscription: Subscription | None = None
        self._arrived = asyncio.Event()
        self._waiting: deque[Msg] = deque()
        self._pull = self._consumer = ""
        self._delivered = self._outstanding = 0
        self.left = 0  # messages of the stream that did not come yet, as known at the last one

    async def open(self) -> None:
        """Make the consumer, as soon as the broker answers."""
        from nats.errors import Error

        await self.close()
        while True:
            try:
                await self._open()
                return
            except (Error, OSError, asyncio.TimeoutError):
                await asyncio.sleep(_RETRY)

    async def _open(self) -> None:
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        info = await self._context.add_consumer(
            self._stream,
            ConsumerConfig(
                filter_subject=self._subject,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self._next,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=_INACTIVE,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        self.left = info.num_pending or 0
        self._consumer = info.name
        inbox = self._client.new_inbox()
        waiting = self._waiting = deque()

        async def take(message: Msg) -> None:
            waiting.append(message)
            self._arrived.set()

        self._subscription = await self._client.subscribe(inbox, cb=take)
        self._pull = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{info.name}"
        self._inbox = inbox
        self._delivered = self._outstanding = 0
        await self._ask()

    async def _ask(self) -> None:
        if self._outstanding > _AT_ONCE // 2:
            return
        count = _AT_ONCE - self._outstanding
        self._outstanding += count
        request = {
            "batch": count, "expires": int(_EXPIRES * _NANO), "idle_heartbeat": int(_HEARTBEAT * _NANO),
        }  # fmt: skip
        await self._client.publish(self._pull, json.dumps(request).encode(), reply=self._inbox)

    async def read(self) -> list[Entry]:
        """Wait for the next messages; at least one."""
        while True:
            entries = await self._read()
            if entries:
                return entries

    async def _read(self) -> list[Entry]:
        from nats.errors import Error

        if self._subscription is None:
            await self.open()
        if not self._waiting:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), _LOST_AFTER)
            except asyncio.TimeoutError:
                await self.open()
                return []
        entries: list[Entry] = []
        while self._waiting:
            message = self._waiting.popleft()
            if message.headers and "Status" in message.headers and not message.data:
                if not self._goes_on(message):
                    await self.open()
                    return entries
                continue
            numbers = message.metadata.sequence
            self._delivered += 1
            self._outstanding -= 1
            if numbers.consumer != self._delivered:
                await self.open()
                return entries
            self._next = numbers.stream + 1
            self.left = message.metadata.num_pending
            time = message.metadata.timestamp.timestamp()
            entries.append(Entry(message.subject, message.data, numbers.stream, time, self.left))
        try:
            await self._ask()
        except (Error, OSError):
            await self.open()
        return entries

    def _goes_on(self, message: Msg) -> bool:
        """Whether the consumer goes on after a message about its state."""
        assert message.headers is not None
        status = message.headers["Status"]
        if status == "100":
            return True
        # The end of a request: by time, or because all of its messages came.
        left = message.headers.get("Nats-Pending-Messages")
        if status == "408" and left is not None:
            self._outstanding = max(0, self._outstanding - int(left))
            return True
        return False

    async def close(self) -> None:
        """Give the consumer back."""
        from nats.errors import Error

        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        try:
            await subscription.unsubscribe()
            if self._client.is_connected:
                await self._client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}", b"")
        except (Error, OSError):
            pass  # the broker forgets consumers that nobody uses
