"""A lease for each partition, in a key-value bucket whose entries end by themselves."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multires_edge.runtime.fleet.names import LEASE_SECONDS

if TYPE_CHECKING:
    from nats.js.kv import KeyValue

_TIMEOUT = 1.0


@dataclass
class _Held:
    revision: int
    until: float  # by time.monotonic()
    renewed: float


class Leases:
    """The leases of this worker, which is ``me``.

    A lease ends here ``seconds`` after its last renewal was *sent*, and at the broker after it arrived there:
    so never there before here. A worker that was stopped for longer finds its leases ended when it goes on.
    """

    def __init__(self, bucket: KeyValue, me: str, seconds: float = LEASE_SECONDS) -> None:
        self._bucket, self._me, self._seconds = bucket, me.encode(), seconds
        self._held: dict[int, _Held] = {}

    @property
    def held(self) -> list[int]:
        """The partitions whose leases are valid."""
        return [partition for partition in self._held if self.valid(partition)]

    def valid(self, partition: int) -> bool:
        """Whether this worker has the partition now."""
        held = self._held.get(partition)
        return held is not None and time.monotonic() < held.until

    async def obtain(self, partition: int) -> bool:
        """Take a free lease, or renew this worker's when that is due. Returns whether it is valid."""
        from nats.errors import Error
        from nats.js.errors import KeyWrongLastSequenceError

        held, sent = self._held.get(partition), time.monotonic()
        if held is not None and sent < held.renewed + self._seconds / 3:
            return self.valid(partition)
        key = _key(partition)
        try:
            if held is None or not held.revision:
                change = self._bucket.create(key, self._me)
            else:
                change = self._bucket.update(key, self._me, last=held.revision)
            revision = await asyncio.wait_for(change, _TIMEOUT)
        except KeyWrongLastSequenceError:
            await self._look(partition, sent)
        except (Error, OSError, asyncio.TimeoutError):
            pass  # the lease ends by itself, unless the broker answers before
        else:
            self._held[partition] = _Held(revision, sent + self._seconds, sent)
        return self.valid(partition)

    async def release(self, partition: int) -> None:
        """Give a lease back, so that another worker can take it at once."""
        from nats.errors import Error

        held = self._held.pop(partition, None)
        if held is None or not held.revision:
            return
        try:
            await asyncio.wait_for(self._bucket.delete(_key(partition), last=held.revision), _TIMEOUT)
        except (Error, OSError, asyncio.TimeoutError):
            return  # it ends by itself

    async def _look(self, partition: int, now: float) -> None:
        """Ask the broker whose the lease is. The answer to an earlier request may have been lost."""
        from nats.errors import Error
        from nats.js.errors import KeyNotFoundError

        held = self._held.get(partition)
        until = now if held is None else held.until
        try:
            entry = await asyncio.wait_for(self._bucket.get(_key(partition)), _TIMEOUT)
        except KeyNotFoundError:
            # The broker started again and forgot it. Until it ends, no other worker can have had it.
            self._held[partition] = _Held(0, until, 0.0)
            return
        except (Error, OSError, asyncio.TimeoutError):
            return
        if entry.value == self._me and entry.revision is not None:
            self._held[partition] = _Held(entry.revision, until, 0.0)
        else:
            self._held.pop(partition, None)


def _key(partition: int) -> str:
    return f"partition.{partition}"
