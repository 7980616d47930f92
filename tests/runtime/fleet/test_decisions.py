"""Decisions are stored once and in order: with two writers, lost answers, and a broker that is away."""

from __future__ import annotations

import asyncio
from typing import Any

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from multires_edge.runtime.fleet.broker import connect, options_of
from multires_edge.runtime.fleet.decisions import Outlet, last_position
from multires_edge.runtime.fleet.names import Names
from multires_edge.runtime.fleet.patient import Message
from multires_edge.runtime.fleet.position import Position
from tests.runtime.fleet.cluster import Server
from tests.runtime.fleet.test_log import run
from tests.waiting import PATIENCE

NAMES = Names()
COUNT = 40


def message(time: float, body: bytes = b"") -> Message:
    position = Position(5, 0, 0, 1, time, -1.0, "0" * 64)
    return Message(body or f"{time}".encode(), f"bed/5/decision/{time}", position, (), 0.0)


async def opened(server: Server) -> tuple[Client, JetStreamContext]:
    client = await connect(options_of(server.address), "test", print)
    context = client.jetstream(timeout=PATIENCE)
    await context.add_stream(StreamConfig(name="decisions", subjects=["decisions.*"], duplicate_window=1))
    return client, context


def outlet(context: JetStreamContext, worker: str, last: int = 0, **others: Any) -> Outlet:
    hooks: dict[str, Any] = {"may_write": lambda: True, "told": lambda _: None, "problem": lambda _: None}
    hooks |= {"overtaken": lambda: None} | others
    return Outlet(context, NAMES, "bed", last, worker, **hooks)


async def emptied(*outlets: Outlet) -> None:
    while any(each.waiting for each in outlets):
        await asyncio.sleep(0.01)


async def stored(context: JetStreamContext) -> list[bytes]:
    info = await context.stream_info("decisions")
    found = [await context.get_msg("decisions", seq) for seq in range(1, info.state.last_seq + 1)]
    return [each.data or b"" for each in found]


def test_two_writers_store_each_decision_once(server: Server) -> None:
    async def body() -> None:
        client, context = await opened(server)
        writers = [outlet(context, "one"), outlet(context, "two")]
        # The second is a worker that was stopped and goes on, after the broker forgot the ids.
        for time in range(COUNT):
            writers[time % 2].put([message(float(time))])
            writers[1 - time % 2].put([message(float(time))])
            if time == COUNT // 2:
                await emptied(*writers)
                await asyncio.sleep(1.5)
        await emptied(*writers)
        assert await stored(context) == [f"{float(time)}".encode() for time in range(COUNT)]
        assert sum(each.fenced + each.doubled for each in writers) > 1
        last, position = await last_position(context, NAMES, "bed")
        assert (last, position and position.decided) == (COUNT, COUNT - 1)
        await client.close()

    run(body)


def test_a_late_writer_changes_nothing(server: Server) -> None:
    """Its decisions are older, and of another bundle: none is stored."""

    async def body() -> None:
        client, context = await opened(server)
        owner, zombie = outlet(context, "one"), outlet(context, "two")
        owner.put([message(float(time)) for time in range(10)])
        await emptied(owner)
        await asyncio.sleep(1.5)
        zombie.put([message(float(time), b"other") for time in range(5)])
        await emptied(zombie)
        assert len(await stored(context)) == 10 and zombie.fenced
        zombie.put([message(10.0, b"next")])
        await emptied(zombie)
        owner.put([message(10.0), message(11.0)])
        await emptied(owner)
        assert (await stored(context))[10:] == [b"next", b"11.0"]
        await client.close()

    run(body)


def test_decisions_wait_for_the_broker(server: Server) -> None:
    async def body() -> None:
        client, context = await opened(server)
        problems: list[str | None] = []
        writer = outlet(context, "one", problem=problems.append)
        writer.put([message(0.0)])
        await emptied(writer)
        server.kill()
        writer.put([message(float(time)) for time in range(1, 5)])
        await asyncio.sleep(0.5)
        assert writer.waiting == 4
        server.start()
        await emptied(writer)
        assert await stored(context) == [f"{float(time)}".encode() for time in range(5)]
        assert problems[-1] is None
        await client.close()

    run(body)


def test_nothing_is_written_without_the_lease(server: Server) -> None:
    async def body() -> None:
        client, context = await opened(server)
        writer = outlet(context, "one", may_write=lambda: False)
        writer.put([message(0.0)])
        await asyncio.sleep(0.2)
        assert await stored(context) == [] and writer.waiting == 1
        await writer.close()
        assert writer.waiting == 0
        await client.close()

    run(body)
