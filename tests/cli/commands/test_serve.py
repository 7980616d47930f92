"""``multires-edge serve``: bad input at every door is one line, and loses nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from nats.aio.client import Client
from nats.js.api import StreamConfig, SubjectTransform

from multires_edge.cli.main import main
from multires_edge.runtime import EcgStream, open_bundle
from multires_edge.runtime.fleet.broker import connect, options_of
from multires_edge.runtime.fleet.packet import Packet, Signal
from tests.ports import free_port
from tests.runtime.conftest import beats, named_leads, two_leads
from tests.runtime.fleet.cluster import Server, WorkerProcess, running
from tests.runtime.fleet.conftest import server
from tests.waiting import PATIENCE

__all__ = ["server", "two_leads"]

RATE, SECONDS = 250, 20
SIGNAL = Signal(("I", "II"), RATE, "uV")


def refused(*words: object) -> str:
    """The one line of a command that cannot start."""
    result: Result = CliRunner().invoke(main, ["serve", *map(str, words)])
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def with_client(server: Server, body: Callable[[Client], Awaitable[Any]]) -> Any:
    """What ``body`` returns, with a connection."""

    async def limited() -> Any:
        client = await connect(options_of(server.address), "test", print)
        try:
            return await asyncio.wait_for(body(client), PATIENCE)
        finally:
            await client.close()

    return asyncio.run(limited())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--nats", "http://127.0.0.1"], "expected nats://HOST:PORT"),
        (["--nats", "127.0.0.1"], "has no scheme"),
        (["--nats", "nats://127.0.0.1#password=secret"], "expected password=env:NAME"),
        (["--nats", "nats://user:secret@127.0.0.1"], "other users of the machine can read"),
        (["--nats", "nats://127.0.0.1#creds=nowhere"], "there is no file nowhere"),
        (["--nats", "nats://127.0.0.1#colour=red"], "the option 'colour' is unknown"),
        (["--samples", "a.b"], "letters, digits, - or _"),
        (["--decisions", "ecg"], "expected two names"),
        (["--isa", "mmx"], "give another --isa"),
        (["--pool", "cumulative"], "a pool such as window:10s|one such as window:10s"),
        (["--keep", "1s"], "expected at least"),
        (["--lease", "soon"], "expected a duration"),
        (["--threshold", "Z=0.5"], "the labels are A, B, C"),
    ],
)
def test_bad_options(two_leads: Path, words: list[str], reason: str) -> None:
    line = refused(two_leads, *words)
    assert any(part in line for part in reason.split("|")), line
    assert "secret" not in line


def test_a_bundle_without_a_card(exported: Path) -> None:
    assert "has no card" in refused(exported)


def test_streams_of_others(two_leads: Path, server: Server, tmp_path: Path) -> None:
    """A stream that no worker made, and one whose workers have other settings or another bundle's labels."""
    at = ["--nats", server.address]

    async def foreign(client: Client) -> None:
        context = client.jetstream(timeout=PATIENCE)
        await context.add_stream(StreamConfig(name="plain", subjects=["plain.*"]))
        transform = SubjectTransform(src="short.*", dest="short.{{partition(4,1)}}.{{wildcard(1)}}")
        await context.add_stream(
            StreamConfig(name="short", subjects=["short.*"], subject_transform=transform, max_age=1)
        )

    with_client(server, foreign)
    assert "has no partitions" in refused(two_leads, *at, "--samples", "plain")
    assert "keeps samples for 1 s" in refused(two_leads, *at, "--samples", "short")
    assert "is not of a fleet" in refused(two_leads, *at, "--decisions", "plain")

    async def streams(client: Client) -> set[str | None]:
        return {info.config.name for info in await client.jetstream(timeout=PATIENCE).streams_info()}

    assert with_client(server, streams) == {"plain", "short"}  # nothing was made for what is refused
    worker = WorkerProcess(two_leads, server.address, tmp_path / "log")
    with running(worker):

        async def made(client: Client) -> None:
            while "decisions" not in await streams(client):
                await asyncio.sleep(0.05)

        with_client(server, made)
        assert 'has every "0.5s", this worker "1s"' in refused(two_leads, *at, "--every", "1s")
        (tmp_path / "other").mkdir()
        other = named_leads(tmp_path / "other", ["I", "II"], ["X", "Y", "Z"])
        assert 'has labels ["A", "B", "C"], this worker ["X", "Y", "Z"]' in refused(other, *at)
        assert worker.running and worker.end() == 0


def test_a_server_without_jetstream(two_leads: Path, tmp_path: Path) -> None:
    server = Server(tmp_path / "broker", jetstream=False)
    with running(server):
        server.start()
        assert "the broker has no JetStream" in refused(two_leads, "--nats", server.address)


def by_mqtt(server: Server, topic: str, payloads: list[bytes]) -> None:
    """Publish as a device with MQTT does."""
    from paho.mqtt.client import Client as Device
    from paho.mqtt.enums import CallbackAPIVersion

    device = Device(CallbackAPIVersion.VERSION2)
    device.connect("127.0.0.1", server.mqtt_port)
    device.loop_start()
    for payload in payloads:
        device.publish(topic, payload, qos=1).wait_for_publish(PATIENCE)
    device.disconnect()
    device.loop_stop()


def test_foreign_messages_disturb_no_patient(two_leads: Path, server: Server, tmp_path: Path) -> None:
    """By NATS and MQTT, beside good packets by both; metrics and health tell of it."""
    samples = np.asarray(beats(SECONDS, RATE) * 1000, np.int16)
    recording, port = int(time.time() * 1e6), free_port()
    worker = WorkerProcess(two_leads, server.address, tmp_path / "log", "--metrics", str(port))
    packets = [
        Packet(SIGNAL, recording, first, samples[first : first + 125]).to_bytes()
        for first in range(0, len(samples), 125)
    ]
    other = Packet(Signal(("V1",), RATE, "uV"), recording, 0, samples[:50, :1])

    async def body(client: Client) -> dict[str, list[bytes]]:
        context = client.jetstream(timeout=PATIENCE)
        while "ecg" not in [info.config.name for info in await context.streams_info()]:
            await asyncio.sleep(0.05)
        for i, packet in enumerate(packets):
            await context.publish("ecg.good", packet)
            if i % 8 == 0:
                for wrong in (b"", b"hello", packet[:-1], packet + b"\0", other.to_bytes()):
                    await context.publish("ecg.good", wrong)
            await context.publish("ecg.leadless", other.to_bytes())
        # No name of a patient: the stream of decisions could not have it.
        await context.publish("ecg.näme", packets[0])
        await asyncio.to_thread(by_mqtt, server, "ecg/mqtt", [*packets[:40], b"not a packet", *packets[40:]])
        found: dict[str, list[bytes]] = {"good": [], "mqtt": []}
        while min(map(len, found.values())) < len(expected):
            await asyncio.sleep(0.1)
            last = (await context.stream_info("decisions")).state.last_seq
            messages = [await context.get_msg("decisions", seq) for seq in range(1, last + 1)]
            for name in found:
                found[name] = [m.data or b"" for m in messages if m.subject == f"decisions.{name}"]
        assert {m.subject for m in messages} == {"decisions.good", "decisions.mqtt"}
        return found

    stream = EcgStream(open_bundle(two_leads), leads=SIGNAL.leads, rate=RATE, unit="uV", name="good")
    expected = [decision.to_json() for decision in stream.feed(samples)]
    with running(worker):
        found = with_client(server, body)
        for name, bodies in found.items():
            lines = [json.loads(body) for body in bodies]
            assert [line["time"] for line in lines] == [line["time"] for line in expected]
            keys = ("probabilities", "quality", "seen")
            assert [[e[k] for k in keys] for e in lines] == [[e[k] for k in keys] for e in expected], name
        address = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{address}/healthz", timeout=PATIENCE) as answer:
            assert json.load(answer) == {"status": "ok", "faults": [], "warnings": []}
        with urllib.request.urlopen(f"{address}/metrics", timeout=PATIENCE) as answer:
            values = dict(
                line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#"
            )
        assert float(values["multires_fleet_refused_messages_total"]) >= 50
        decided = [
            float(v) for k, v in values.items() if k.startswith('multires_decisions_total{source="good"')
        ]
        assert sum(decided) == len(expected)
        assert worker.end() == 0
    said = worker.said.splitlines()
    assert len([line for line in said if line.startswith("warning: good: message")]) == 1
    assert len([line for line in said if line.startswith("warning: leadless: ")]) == 1
    assert len([line for line in said if line.startswith("warning: mqtt: message 4")]) <= 1
    assert not any("Traceback" in line for line in said) and len(said) <= 5, said
    shutil.rmtree(tmp_path / "broker", ignore_errors=True)
