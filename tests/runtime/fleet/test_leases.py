"""Leases: one worker has a partition at a time, and a lease ends here before it ends at the broker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from multires_edge.runtime.fleet import leases
from multires_edge.runtime.fleet.broker import connect, options_of
from multires_edge.runtime.fleet.leases import Leases
from tests.runtime.fleet.cluster import Server
from tests.runtime.fleet.test_log import run
from tests.waiting import PATIENCE

SECONDS = 0.8


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The time of the leases, which only a test advances. The broker keeps its entries meanwhile."""
    hands = SimpleNamespace(now=100.0)
    hands.monotonic = lambda: hands.now
    monkeypatch.setattr(leases, "time", hands)
    monkeypatch.setattr(leases, "_TIMEOUT", PATIENCE)
    return hands


async def bucket_of(server: Server) -> tuple[JetStreamContext, KeyValue]:
    client = await connect(options_of(server.address), "test", print)
    context = client.jetstream(timeout=PATIENCE)
    return context, await context.create_key_value(bucket="leases", ttl=10 * PATIENCE, history=1)


def test_a_lease_moves_when_it_ends_or_is_given_back(server: Server, clock: Any) -> None:
    async def body() -> None:
        context, bucket = await bucket_of(server)
        one, two = Leases(bucket, "one", SECONDS), Leases(bucket, "two", SECONDS)
        assert await one.obtain(7) and not await two.obtain(7) and await two.obtain(8)
        first = (await bucket.get("partition.7")).revision or 0
        # Renewed, it stays; and no request is made while that is not due.
        for _ in range(16):
            clock.now += SECONDS / 8
            assert await one.obtain(7) and not await two.obtain(7)
        # In every third round. The lease of 8 is the other change.
        assert (await bucket.get("partition.7")).revision == first + 1 + 5
        await one.release(7)
        assert not one.valid(7) and await two.obtain(7)
        # Its worker stops: it ends for itself first, then at the broker, and so for the other.
        clock.now += SECONDS
        assert not two.valid(7) and not await one.obtain(7)
        await context.purge_stream("KV_leases", subject="$KV.leases.partition.7")
        assert await one.obtain(7)
        assert not two.valid(7) and not await two.obtain(7)

    run(body)


def test_an_answer_that_was_lost(server: Server, clock: Any) -> None:
    """The broker renewed the lease, but its answer did not come: the next renewal still works."""

    async def body() -> None:
        _, bucket = await bucket_of(server)
        leases = Leases(bucket, "one", SECONDS)
        assert await leases.obtain(1)
        await bucket.put("partition.1", b"one")
        for _ in range(16):
            clock.now += SECONDS / 8
            assert await leases.obtain(1)
        # Another worker's entry is not taken for its own.
        await bucket.put("partition.1", b"two")
        clock.now += SECONDS / 2
        assert not await leases.obtain(1) and not leases.valid(1)

    run(body)


def test_leases_outlive_a_restart_of_the_broker(
    server: Server, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_TIMEOUT", 1.0)  # no answer comes to what the broker was asked before

    async def body() -> None:
        _, bucket = await bucket_of(server)
        one, two = Leases(bucket, "one", SECONDS), Leases(bucket, "two", SECONDS)
        assert await one.obtain(1)
        server.kill()
        server.start()
        clock.now += SECONDS / 2
        while one._held[1].renewed != clock.now:
            await one.obtain(1)
            assert one.valid(1) and not await two.obtain(1)
            await asyncio.sleep(0.02)
        clock.now += 0.9 * SECONDS
        assert one.valid(1)

    run(body)
