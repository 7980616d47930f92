"""The log is read in order and once, while the broker forgets consumers and starts again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from multires_edge.runtime.fleet import log
from multires_edge.runtime.fleet.broker import connect, options_of
from multires_edge.runtime.fleet.log import Entry, LogReader
from tests.runtime.fleet.cluster import Server
from tests.waiting import PATIENCE

COUNT = 1200


async def opened(server: Server) -> Client:
    return await connect(options_of(server.address), "test", print)


async def fill(client: Client, first: int, count: int) -> None:
    context = client.jetstream(timeout=PATIENCE)
    for i in range(first, first + count):
        await context.publish(f"log.{i % 3}", str(i).encode())


def test_each_message_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_LOST_AFTER", 1.5)

    async def body() -> None:
        client = await opened(server)
        context = client.jetstream(timeout=PATIENCE)
        await context.add_stream(StreamConfig(name="log", subjects=["log.*"]))
        await fill(client, 0, COUNT)
        reader = LogReader(client, client.jetstream(), "log", "log.*", 101)
        found: list[Entry] = []
        await reader.open()
        assert reader.left == COUNT - 100
        while len(found) < 400:
            found += await reader.read()
        # The consumer vanishes, then the whole broker.
        for consumer in await context.consumers_info("log"):
            await context.delete_consumer("log", consumer.name)
        while len(found) < 800:
            found += await reader.read()
        server.kill()
        server.start()
        while len(found) < COUNT - 100:
            found += await reader.read()
        await fill(client, COUNT, 10)
        while len(found) < COUNT - 90:
            found += await reader.read()
        assert [int(entry.data) for entry in found] == list(range(100, COUNT + 10))
        assert [entry.sequence for entry in found] == list(range(101, COUNT + 11))
        assert found[-1].left == 0
        await reader.close()
        while await context.consumers_info("log"):
            await asyncio.sleep(0.02)
        await client.close()

    run(body)


def test_one_subject_of_many(server: Server) -> None:
    async def body() -> None:
        client = await opened(server)
        context = client.jetstream()
        await context.add_stream(StreamConfig(name="log", subjects=["log.*"]))
        await fill(client, 0, 60)
        reader = LogReader(client, context, "log", "log.1", 1)
        found: list[Entry] = []
        while len(found) < 20:
            found += await reader.read()
        assert [int(entry.data) for entry in found] == list(range(1, 60, 3))
        await reader.close()
        await client.close()

    run(body)


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(body(), PATIENCE)

    asyncio.run(limited())
