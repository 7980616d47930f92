"""A ward on three workers while processes are killed and stopped, the broker restarts, the network is cut and
the bundle changes: every decision is there once, with the bytes of a run alone.

    unshare -n python -m tests.runtime.fleet.acceptance out/demo.bundle OTHER.bundle --patients 40
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from multires_edge.runtime import EcgStream, open_bundle
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.fleet.broker import connect, options_of
from multires_edge.runtime.fleet.log import LogReader
from multires_edge.runtime.fleet.model import Model
from multires_edge.runtime.fleet.publisher import Publisher
from tests.runtime.fleet.cluster import SERVER_ADDRESS, Server, Wire, WorkerProcess, running, ward_module
from tests.waiting import PATIENCE

THRESHOLD = "STTC=0.3:0.25"
OPTIONS = ("--threshold", THRESHOLD)
# Decisions that are on their way when something happens are late because of it.
_BEFORE = 0.3


@dataclass
class Report:
    """What came of a run. ``late`` is the most that a decision came after its samples, by fault, in s."""

    decisions: int = 0
    missing: int = 0
    doubled: int = 0
    different: int = 0
    alarms: int = 0
    bundles: int = 0
    workers: int = 0
    late: dict[str, float] = field(default_factory=dict)
    median: float = 0.0


@dataclass
class Fault:
    """Something that happens ``at`` seconds after the start of the ward."""

    at: float
    name: str
    act: Callable[[], Any]


async def read_all(address: str, stream: str, subject: str) -> list[Any]:
    """All messages of a stream, with their headers."""
    client = await connect(options_of(address), "reader", print)
    context = client.jetstream()
    info = await context.stream_info(stream)
    found: list[Any] = []
    reader = LogReader(client, context, stream, subject, 1)
    await reader.open()
    while len(found) < info.state.messages:
        found += await reader.read()
    await reader.close()
    await client.close()
    return found


def check(entries: list[Any], bundles: list[Path], patients: int, seconds: float, recording: int) -> Report:
    """Compare decisions with those of runs alone, one for each bundle."""
    ward, report = ward_module(), Report()
    models = {Model(open_bundle(b), StreamOptions()).digest: open_bundle(b) for b in bundles}
    used, shape = set(), (patients, seconds)
    by_patient: dict[str, list[Any]] = {}
    for entry in entries:
        by_patient.setdefault(entry.subject.rpartition(".")[2], []).append(entry)
    assert len(by_patient) == patients, (len(by_patient), shape)
    for patient in range(patients):
        name = f"bed-{patient}"
        alone = {d: _alone(b, ward, name, patient, seconds, recording) for d, b in models.items()}
        times = list(next(iter(alone.values())))
        seen: dict[float, int] = {}
        for entry in by_patient[name]:
            lines = entry.data.split(b"\n")
            decision = json.loads(lines[0])
            if decision["type"] != "decision":
                continue
            at = decision["time"]
            seen[at] = seen.get(at, 0) + 1
            digest = decision["made"]["bundle"]
            used.add(digest)
            expected = dict(alone[digest][at]) | {"made": decision["made"]}
            report.different += json.dumps(expected).encode() != lines[0]
            report.alarms += len(lines) - 1
        report.decisions += len(seen)
        report.missing += sum(at not in seen for at in times)
        report.doubled += sum(count - 1 for count in seen.values())
    report.bundles = len(used)
    return report


def _alone(
    bundle: Any, ward: Any, name: str, patient: int, seconds: float, recording: int
) -> dict[float, dict[str, Any]]:
    stream = _stream(bundle, ward, name)
    samples = ward.Ward().samples(patient, 0, int(seconds * ward.RATE))
    lines = [decision.to_json() | {"recording": recording} for decision in stream.feed(samples)]
    return {line["time"]: line for line in lines}


def _stream(bundle: Any, ward: Any, name: str) -> EcgStream:
    return EcgStream(bundle, leads=ward.LEADS, rate=ward.RATE, unit="uV", name=name, thresholds=(THRESHOLD,))


def lateness(entries: list[Any], begun: float, delay: float) -> list[tuple[float, float]]:
    """For each decision, when the last sample that it needs was sent, and how long after that it was stored.

    ``delay`` are the seconds of samples that a decision needs after its own time.
    """
    found = []
    for entry in entries:
        decision = json.loads(entry.data.split(b"\n")[0])
        if decision["type"] == "decision":
            due = begun + decision["time"] + delay
            found.append((due - begun, entry.time - due))
    return found


async def run(
    folder: Path, bundles: list[Path], *, patients: int, packet: int,
    every: float, wire: Wire | None,
) -> Report:  # fmt: skip
    """Play a ward while the faults of ``plan`` happen, then compare what was decided."""
    server = Server(folder / "broker", "127.0.0.1" if wire is None else SERVER_ADDRESS)
    server.start()
    context = Context(folder, server, bundles, wire)
    with running(server, context):
        for name in "abc":
            context.start(name, bundles[0], wire if name == "c" else None)
        faults = plan(context, every)
        seconds = faults[-1].at + max(5.0, every)
        client = await connect(options_of(server.address), "ward", lambda _: None)
        await context.ready(client)
        ward = ward_module()
        publisher = Publisher(client.jetstream())
        recording, begun = int(time.time() * 1e6), time.time()
        playing = asyncio.create_task(
            ward.play(
                ward.Ward(), publisher.put, range(patients), recording, seconds=seconds, packet=packet,
                speed=1.0,
            )
        )  # fmt: skip
        for fault in faults:
            await asyncio.sleep(max(0.0, begun + fault.at - time.time()))
            await asyncio.to_thread(fault.act)
        await playing
        await publisher.flush()
        expected = await asyncio.to_thread(_count_alone, bundles[0], seconds)
        await context.decided(client, patients * expected)
        await client.close()
        entries = await read_all(server.address, "decisions", "decisions.>")
        report = await asyncio.to_thread(check, entries, bundles, patients, seconds, recording)
        late = lateness(entries, begun, _stream(open_bundle(bundles[0]), ward, "x").delay)
        marks = [Fault(0.0, "start", print), *[f for f in faults if f.name]]
        for mark, after in zip(marks, [*[m.at for m in marks[1:]], float("inf")], strict=True):
            report.late[mark.name] = max(
                (s for at, s in late if mark.at - _BEFORE < at <= after - _BEFORE), default=0.0
            )
        report.median = float(np.median([seconds for _, seconds in late]))
        report.workers = len(context.workers)
    return report


def _count_alone(bundle: Path, seconds: float) -> int:
    ward = ward_module()
    return len(_alone(open_bundle(bundle), ward, "x", 0, seconds, 0))


class Context:
    """The processes of a run."""

    def __init__(self, folder: Path, server: Server, bundles: list[Path], wire: Wire | None) -> None:
        self._folder, self.server, self.bundles, self.wire = folder, server, bundles, wire
        self.workers: dict[str, WorkerProcess] = {}

    def start(self, name: str, bundle: Path, wire: Wire | None = None) -> None:
        self.workers[name] = WorkerProcess(
            bundle, self.server.address, self._folder / f"{name}.log", *OPTIONS, wire=wire
        )

    def roll(self, old: str, new: str) -> None:
        """Replace a worker by another with the second bundle."""
        self.start(new, self.bundles[1])
        self.workers[old].end()

    def restart_broker(self, seconds: float) -> None:
        self.server.kill()
        time.sleep(seconds)
        self.server.start()

    def kill(self) -> None:
        for worker in self.workers.values():
            worker.kill()

    async def ready(self, client: Any) -> None:
        """Wait until the workers have shared the partitions, and their shares no longer change."""
        from nats.js.errors import Error

        context, before, since = client.jetstream(), None, time.monotonic()
        deadline = since + PATIENCE
        while True:
            assert time.monotonic() < deadline, "the workers do not share the partitions"
            assert all(worker.running for worker in self.workers.values())
            await asyncio.sleep(0.2)
            try:
                bucket = await context.key_value("decisions-leases")
                keys = await bucket.keys()
                holders = tuple([(await bucket.get(key)).value for key in sorted(keys)])
            except Error:
                continue
            if holders != before:
                before, since = holders, time.monotonic()
            if len(set(holders)) == len(self.workers) and time.monotonic() - since > 1.0:
                return

    async def decided(self, client: Any, count: int, patience: float = 30.0) -> None:
        """Wait until the stream has so many decisions, or no more come."""
        context, since, before = client.jetstream(), time.monotonic(), -1
        while time.monotonic() - since < patience:
            messages = (await context.stream_info("decisions")).state.messages
            if messages >= count:
                await asyncio.sleep(1.0)  # for what should not come
                return
            if messages != before:
                before, since = messages, time.monotonic()
            await asyncio.sleep(0.2)


def plan(context: Context, every: float) -> list[Fault]:
    """Every kind of fault, one after the other, with so many seconds for each to heal."""
    workers, wire = context.workers, context.wire
    faults: list[tuple[str, Callable[[], Any]]] = [
        ("kill -9", workers["a"].kill),
        ("join", lambda: context.start("d", context.bundles[0])),
        ("SIGSTOP", lambda: workers["b"].send(signal.SIGSTOP)),
        ("SIGCONT", lambda: workers["b"].send(signal.SIGCONT)),
        ("broker restart", lambda: context.restart_broker(1.0)),
    ]
    if wire is not None:
        faults += [("network cut", wire.cut), ("network back", wire.mend)]
    for i, (old, new) in enumerate((("b", "e"), ("c", "f"), ("d", "g"))):
        faults.append((f"bundle {i + 1} of 3", partial(context.roll, old, new)))
    return [Fault((i + 1) * every, *fault) for i, fault in enumerate(faults)]


def can_cut() -> bool:
    """Whether this process may make namespaces with a network of their own, and is in one."""
    return os.geteuid() == 0 and [name for _, name in socket.if_nameindex()] == ["lo"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundles", nargs=2, type=Path)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between faults")
    parser.add_argument("--packet", type=int, default=50)
    given = parser.parse_args()
    wire = Wire() if can_cut() else None
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = asyncio.run(
                run(
                    Path(folder), given.bundles, patients=given.patients, every=given.every,
                    packet=given.packet, wire=wire,
                )
            )  # fmt: skip
        finally:
            for log in sorted(Path(folder).glob("*.log")):
                print(f"{log.name}: {log.read_text()}", file=sys.stderr)
            if wire is not None:
                wire.kill()
    print(json.dumps(vars(report), indent=1))


if __name__ == "__main__":
    main()
