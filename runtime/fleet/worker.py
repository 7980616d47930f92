"""A worker of a fleet: takes the partitions that fall to it, and gives them back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from multires_edge.runtime.fleet.broker import Broker, Wanted, connect, open_broker
from multires_edge.runtime.fleet.fleet_metrics import FleetMetrics
from multires_edge.runtime.fleet.leases import Leases
from multires_edge.runtime.fleet.members import Members
from multires_edge.runtime.fleet.model import Model
from multires_edge.runtime.fleet.names import LEASE_SECONDS, Names
from multires_edge.runtime.fleet.partition import Partition, Turns
from multires_edge.runtime.fleet.spread import owner_of
from multires_edge.runtime.fleet.tasks import ended

_ROUND = 0.2
# Two signs of life of the other workers.
_LISTEN = 1.0
# A bug that shows again and again must not fill the log.
_AFTER_BUG = 5.0


def worker_id() -> str:
    """A name that no other worker has, also after a restart."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass
class Worker:
    """Decides on its share of the patients until ``stop`` is set.

    ``connection`` are the options of the connection, and ``wanted`` the streams. ``alive`` is called in each
    round.
    """

    connection: dict[str, Any]
    names: Names
    model: Model
    wanted: Wanted
    metrics: FleetMetrics
    say: Callable[[str], None]
    alive: Callable[[], None] = lambda: None
    lease: float = LEASE_SECONDS
    me: str = field(default_factory=worker_id)

    def __post_init__(self) -> None:
        self._tasks: dict[int, tuple[Partition, asyncio.Task[None]]] = {}
        self._again = 0.0
        self._turns = Turns()

    async def run(self, stop: asyncio.Event) -> None:
        """Raises InputError if the broker refuses the worker or its settings."""
        opening = asyncio.create_task(self._open(stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            await ended(opening)
            return
        broker = await opening
        members = Members(broker.client, self.names.workers, self.me, self.lease)
        leases = Leases(broker.leases, self.me, self.lease)
        await members.open()
        await _sleep(stop, _LISTEN)
        # Only now, because the others give their partitions to a worker as soon as it speaks.
        speaking = asyncio.create_task(members.speak())
        try:
            while not stop.is_set():
                await self._round(broker, members, leases)
                await _sleep(stop, _ROUND)
        finally:
            await ended(speaking)
            await members.leave()
            await asyncio.gather(*(self._end(number, leases) for number in list(self._tasks)))
            with contextlib.suppress(Exception):
                await asyncio.wait_for(broker.client.close(), 2.0)
            await ended(stopping)

    async def _open(self, stop: asyncio.Event) -> Broker:
        client = await connect(
            self.connection, self.me, lambda text: None if stop.is_set() else self.say(text)
        )
        return await open_broker(client, self.names, self.wanted, self.lease)

    async def _round(self, broker: Broker, members: Members, leases: Leases) -> None:
        self.alive()
        alive = members.alive
        mine = {number for number in range(broker.partitions) if owner_of(number, alive) == self.me}
        others = [number for number in self._tasks if number not in mine]
        await asyncio.gather(*(self._end(number, leases) for number in others))
        if broker.client.is_connected:
            # Renewing comes first: it must not wait for partitions that start.
            await asyncio.gather(*(leases.obtain(number) for number in sorted(mine)))
        for number in sorted(mine):
            if leases.valid(number):
                self._begin(number, broker, leases)
            elif number in self._tasks:
                self.metrics.count("leases_lost")
                await self._end(number, leases)
        for partition, _ in self._tasks.values():
            await partition.tidy()
        self._note(broker, len(alive))

    def _begin(self, number: int, broker: Broker, leases: Leases) -> None:
        """Run a partition, and again if it ended by a bug."""
        if number in self._tasks:
            task = self._tasks[number][1]
            if not task.done() or time.monotonic() < self._again:
                return
            self._again = time.monotonic() + _AFTER_BUG
            self.say(f"warning: partition {number} starts again after a bug: {task.exception()!r}")
        partition = Partition(
            number, broker, self.model, self.me, self.metrics, self._turns, lambda: leases.valid(number),
            self.say,
        )  # fmt: skip
        self._tasks[number] = partition, asyncio.create_task(partition.run())

    async def _end(self, number: int, leases: Leases) -> None:
        _, task = self._tasks.pop(number)
        await ended(task)
        await leases.release(number)

    def _note(self, broker: Broker, workers: int) -> None:
        metrics, partitions = self.metrics, [partition for partition, _ in self._tasks.values()]
        metrics.round()
        metrics.connected, metrics.workers = broker.client.is_connected, workers
        metrics.partitions = len(partitions)
        metrics.patients = sum(partition.patients for partition in partitions)
        metrics.waiting = sum(partition.waiting for partition in partitions)
        metrics.behind = sum(partition.behind for partition in partitions)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
