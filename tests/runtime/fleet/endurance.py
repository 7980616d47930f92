"""Memory of workers over a long run, faster than real time: prints it minute by minute of the record.

python -m tests.runtime.fleet.endurance out/demo.bundle --minutes 100 --speed 10
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import psutil

from multires_edge.runtime.fleet.broker import connect, options_of
from multires_edge.runtime.fleet.publisher import Publisher
from tests.runtime.fleet.cluster import Server, WorkerProcess, running, ward_module


async def run(folder: Path, bundle: Path, patients: int, minutes: float, speed: float, packet: int) -> None:
    """Play a ward to two workers; the samples are kept for 200 s of the clock."""
    server = Server(folder / "broker")
    server.start()
    workers = [WorkerProcess(bundle, server.address, folder / f"{i}.log", "--keep", "200s") for i in range(2)]
    with running(server, *workers):
        client = await connect(options_of(server.address), "ward", print)
        await asyncio.sleep(5)
        ward = ward_module()
        publisher = Publisher(client.jetstream())
        playing = asyncio.create_task(
            ward.play(
                ward.Ward(), publisher.put, range(patients), int(time.time() * 1e6), seconds=minutes * 60,
                packet=packet, speed=speed,
            )
        )  # fmt: skip
        pids = [*(worker.pid for worker in workers), server.pid]
        begun, processes = time.monotonic(), [psutil.Process(pid) for pid in pids]
        while not playing.done():
            await asyncio.sleep(60 / speed * 5)
            used = [process.memory_info().rss / 1e6 for process in processes]
            spent = [sum(process.cpu_times()[:2]) for process in processes]
            stored = (await client.jetstream().stream_info("decisions")).state.messages
            print(
                f"{(time.monotonic() - begun) * speed / 60:6.1f} min: {stored} decisions; workers and broker "
                f"{', '.join(f'{m:.1f} MB {s:.0f} s' for m, s in zip(used, spent, strict=True))}, "
                f"{publisher.waiting} packets wait",
                flush=True,
            )
        await client.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=100, help="of the record")
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--packet", type=int, default=250)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder), given.bundle, given.patients, given.minutes, given.speed, given.packet))


if __name__ == "__main__":
    main()
