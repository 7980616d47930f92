"""A whole worker, with a broker that has no room, patients who pause, and foreign decisions."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from multires_edge.runtime import Bundle, EcgStream
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.fleet import partition
from multires_edge.runtime.fleet.broker import Wanted, connect, options_of
from multires_edge.runtime.fleet.fleet_metrics import FleetMetrics
from multires_edge.runtime.fleet.model import Model
from multires_edge.runtime.fleet.names import Names
from multires_edge.runtime.fleet.packet import Packet, Signal
from multires_edge.runtime.fleet.publisher import Publisher
from multires_edge.runtime.fleet.worker import Worker
from tests.runtime.conftest import beats
from tests.runtime.fleet.cluster import Server
from tests.runtime.fleet.test_log import run
from tests.waiting import PATIENCE

RATE, SECONDS = 250, 30
SIGNAL = Signal(("I", "II"), RATE, "uV")
SAMPLES = np.asarray(1000 * beats(SECONDS, RATE), np.int16)
OPTIONS = StreamOptions(pool="window:1s")

Body = Callable[[Client, JetStreamContext, FleetMetrics, list[str]], Awaitable[None]]


def with_worker(server: Server, bundle: Bundle, body: Body) -> None:
    """Run ``body`` beside a worker; it gets a connection, metrics, and what is said."""

    async def whole() -> None:
        model, said, stop = Model(bundle, OPTIONS), list[str](), asyncio.Event()
        metrics = FleetMetrics(program="0", bundle="test", made=model.provenance, labels=bundle.class_names)
        wanted = Wanted(model.settings(), model.replay_seconds, partitions=4)
        worker = Worker(
            options_of(server.address), Names(), model, wanted, metrics, said.append, lease=PATIENCE
        )
        running = asyncio.create_task(worker.run(stop))
        client = await connect(options_of(server.address), "test", print)
        try:
            while metrics.partitions < 4:
                await asyncio.sleep(0.02)
            await body(client, client.jetstream(timeout=PATIENCE), metrics, said)
        finally:
            stop.set()
            await running
            await client.close()

    run(whole)


def alone(bundle: Bundle, name: str) -> list[dict[str, Any]]:
    stream = EcgStream(bundle, leads=SIGNAL.leads, rate=RATE, unit="uV", name=name, options=OPTIONS)
    return [decision.to_json() for decision in stream.feed(SAMPLES)]


async def publish(context: JetStreamContext, names: list[str], start: int, stop: int, recording: int) -> None:
    publisher = Publisher(context)
    for first in range(start, stop, 125):
        for name in names:
            publisher.put(name, Packet(SIGNAL, recording, first, SAMPLES[first : min(first + 125, stop)]))
    await publisher.flush()


async def decided(context: JetStreamContext, name: str, count: int) -> list[dict[str, Any]]:
    """The decisions of a patient, when there are so many, without what is of the fleet."""
    while True:
        last = (await context.stream_info("decisions")).state.last_seq
        messages = [await context.get_msg("decisions", seq) for seq in range(1, last + 1)]
        lines = [
            json.loads(m.data or b"") for m in messages if m.subject == f"decisions.{name}" and m.headers
        ]
        if len(lines) >= count:
            return [{k: v for k, v in line.items() if k not in ("made", "recording")} for line in lines]
        await asyncio.sleep(0.1)


def test_decisions_wait_for_room(server: Server, opened: Bundle) -> None:
    """The stream is full: nothing is dropped, and nothing is lost when there is room again."""

    async def body(_: Client, context: JetStreamContext, metrics: FleetMetrics, __: list[str]) -> None:
        config = (await context.stream_info("decisions")).config
        await context.update_stream(config.evolve(max_msgs=10))
        await publish(context, ["a", "b"], 0, len(SAMPLES), int(time.time() * 1e6))
        while metrics.problem is None:
            await asyncio.sleep(0.02)
        assert "does not store decisions" in metrics.health()[1].decode() and metrics.health()[0] == 200
        assert (await context.stream_info("decisions")).state.messages == 10
        await context.update_stream(config.evolve(max_msgs=-1))
        for name in ("a", "b"):
            expected = alone(opened, name)
            assert await decided(context, name, len(expected)) == expected
        assert metrics.problem is None

    with_worker(server, opened, body)


def test_a_patient_who_pauses_needs_no_memory(
    server: Server, opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition, "_IDLE_SECONDS", PATIENCE)

    async def body(_: Client, context: JetStreamContext, metrics: FleetMetrics, __: list[str]) -> None:
        recording, half = int(time.time() * 1e6), len(SAMPLES) // 2
        await publish(context, ["a"], 0, half, recording)
        await decided(context, "a", SECONDS // 2)
        for patients, idle in ((1, 0.0), (0, PATIENCE)):
            while metrics.patients != patients:
                await asyncio.sleep(0.02)
            monkeypatch.setattr(partition, "_IDLE_SECONDS", idle)
        await publish(context, ["a"], half, len(SAMPLES), recording)
        expected = alone(opened, "a")
        assert await decided(context, "a", len(expected)) == expected
        assert metrics.totals["refused_messages"] == 0 and metrics.totals["replays"] == 2

    with_worker(server, opened, body)


def test_foreign_decisions_stop_one_patient_only(server: Server, opened: Bundle) -> None:
    async def body(_: Client, context: JetStreamContext, metrics: FleetMetrics, said: list[str]) -> None:
        await context.publish("decisions.a", b"no decision")
        await context.publish("decisions.b", b"{}", headers={"Multires-Replay": '{"recording": -1}'})
        await publish(context, ["a", "b", "c"], 0, len(SAMPLES), int(time.time() * 1e6))
        expected = alone(opened, "c")
        assert await decided(context, "c", len(expected)) == expected
        assert (await context.stream_info("decisions")).state.messages == len(expected) + 2
        assert sorted(line.partition(": ")[2][:1] for line in said) == ["a", "b"]
        assert all("\n" not in line for line in said)

    with_worker(server, opened, body)
