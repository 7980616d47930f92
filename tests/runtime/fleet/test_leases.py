"""Leases: one worker has a partition at a time, and a lease ends here before it ends at the broker."""

from __future__ import annotations

import asyncio
import time

from nats.js.kv import KeyValue

from multires_edge.runtime.fleet.broker import connect, options_of
from multires_edge.runtime.fleet.leases import Leases
from tests.runtime.fleet.cluster import Server
from tests.runtime.fleet.test_log import run

SECONDS = 0.8


async def bucket_of(server: Server, ttl: float = SECONDS) -> KeyValue:
    client = await connect(options_of(server.address), "test", print)
    return await client.jetstream(timeout=1).create_key_value(bucket="leases", ttl=ttl, history=1)


def test_a_lease_moves_when_it_ends_or_is_given_back(server: Server) -> None:
    async def body() -> None:
        bucket = await bucket_of(server)
        one, two = Leases(bucket, "one", SECONDS), Leases(bucket, "two", SECONDS)
        assert await one.obtain(7) and not await two.obtain(7) and await two.obtain(8)
        # Renewed, it stays; and no request is made while that is not due.
        deadline = time.monotonic() + 2 * SECONDS
        while time.monotonic() < deadline:
            assert await one.obtain(7) and not await two.obtain(7)
            await asyncio.sleep(SECONDS / 8)
        await one.release(7)
        assert not one.valid(7) and await two.obtain(7)
        # Its worker stops: it ends for itself first, then for the other.
        begun = time.monotonic()
        while not await one.obtain(7):
            await asyncio.sleep(0.02)
        assert SECONDS / 2 < time.monotonic() - begun < 2 * SECONDS
        assert not two.valid(7) and not await two.obtain(7)

    run(body)


def test_an_answer_that_was_lost(server: Server) -> None:
    """The broker renewed the lease, but its answer did not come: the next renewal still works."""

    async def body() -> None:
        bucket = await bucket_of(server)
        leases = Leases(bucket, "one", SECONDS)
        assert await leases.obtain(1)
        await bucket.put("partition.1", b"one")
        deadline = time.monotonic() + 2 * SECONDS
        while time.monotonic() < deadline:
            assert await leases.obtain(1)
            await asyncio.sleep(SECONDS / 8)
        # Another worker's entry is not taken for its own.
        await bucket.put("partition.1", b"two")
        await asyncio.sleep(SECONDS / 2)
        assert not await leases.obtain(1) and not leases.valid(1)

    run(body)


def test_leases_outlive_a_restart_of_the_broker(server: Server) -> None:
    async def body() -> None:
        bucket = await bucket_of(server, 1.5)
        one, two = Leases(bucket, "one", 1.5), Leases(bucket, "two", 1.5)
        assert await one.obtain(1)
        server.kill()
        server.start()
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            await one.obtain(1)
            assert one.valid(1) and not await two.obtain(1)
            await asyncio.sleep(0.2)

    run(body)
