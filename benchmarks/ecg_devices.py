"""Devices on sockets that send each sample as it is taken, and the command that decides on them.

    python -m benchmarks.ecg_devices latency RECORD [--seconds 30]    # from a sample sent to a decision read
    python -m benchmarks.ecg_devices many RECORD [--count 32] [--packet 1]

Without --bundle on a network with random weights, see benchmarks.ecg_stream. Devices and decisions are on
the same cores, and the devices' own share is said.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ecg_stream import SIZES, first_samples, print_percentiles, random_bundle, samples_needed
from multires_edge.runtime import open_bundle
from multires_edge.runtime.ecg.sources.opening import open_source

_START_SECONDS = 3.0  # while the command starts


def main() -> None:
    """Parse, make a bundle, measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["latency", "many"])
    parser.add_argument("record")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--size", choices=sorted(SIZES), default="demo")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--packet", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = arguments.bundle or random_bundle(arguments.record, arguments.size, Path(name))
        if arguments.what == "latency":
            latency(path, arguments.record, arguments.seconds)
        else:
            many(path, arguments.record, arguments.seconds, arguments.count, arguments.packet)


def latency(bundle: Path, record: str, seconds: float) -> None:
    """From the sending of the last sample that a decision needs to its line on standard output."""
    preprocessing = open_bundle(bundle).preprocessing
    assert preprocessing is not None
    spec = open_source(record).signal
    needed_by = samples_needed(bundle, spec)
    decisions, sent, _ = run_devices(bundle, record, seconds, 1, 1, "0.02s")
    taken = []
    for came, entry in decisions:
        needed = needed_by(round(entry["time"] * preprocessing.sampling_rate))
        if needed <= len(sent):  # the last ones come when the device hangs up
            taken.append(1e3 * (came - sent[needed - 1]))
    print(f"{len(taken)} decisions in {seconds:.0f} s at {spec.rate:g} Hz, from a sample sent to a line:")
    print_percentiles(taken)


def many(bundle: Path, record: str, seconds: float, count: int, packet: int) -> None:
    """Many devices at once: how far decisions lag behind their newest samples, and what it takes."""
    decisions, sent, busy = run_devices(bundle, record, seconds, count, packet, "0.5s")
    taken = [1e3 * entry["timing"]["latency"] for _, entry in decisions if "timing" in entry]
    half, most = np.percentile(taken, [50, 99])
    rate = open_source(record).signal.rate
    print(f"{count} devices of {rate:g} Hz, {packet} samples a packet, {len(taken)} decisions:")
    print(f"latency p50 {half:.0f} ms, p99 {most:.0f} ms, max {max(taken):.0f} ms")
    print(f"{busy:.0%} of one core; sending {sent[-1] - sent[0]:.1f} s for {seconds:.1f} s of samples")


def run_devices(
    bundle: Path,
    record: str,
    seconds: float,
    count: int,
    packet: int,
    every: str,
    options: Sequence[str] = (),
) -> tuple[list[tuple[float, dict[str, Any]]], list[float], float]:
    """Decisions with the time at which they were read, times of sending, and cores that the command took.

    ``options`` are more of the command's.
    """
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    mine, theirs = multiprocessing.Pipe(duplex=False)
    devices = multiprocessing.get_context("fork").Process(
        target=_send, args=(listeners, record, seconds, packet, theirs)
    )
    devices.start()
    addresses = [f"tcp://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    command = [sys.executable, "-m", "multires_edge", "stream", str(bundle), *addresses, "--json", *options]
    decisions = []
    with subprocess.Popen(
        [*command, "--every", every, "--pool", "window:10s"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            now, entry = time.perf_counter(), json.loads(line)
            if entry["type"] == "decision":
                decisions.append((now, entry))
        _, _, usage = os.wait4(process.pid, 0)
    sent: list[float] = mine.recv()
    devices.join()
    for listener in listeners:
        listener.close()
    return decisions, sent, (usage.ru_utime + usage.ru_stime) / (seconds + _START_SECONDS)


def _send(listeners: list[socket.socket], record: str, seconds: float, packet: int, results: Any) -> None:
    source = open_source(record)
    spec = source.signal
    count = round(seconds * spec.rate)
    samples = first_samples(source, count)
    lines = [f"{json.dumps([round(float(value), 6) for value in sample])}\n".encode() for sample in samples]
    header = {"leads": list(spec.leads), "rate": spec.rate, "unit": spec.unit}
    clients = []
    for listener in listeners:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(f"{json.dumps(header)}\n".encode())
        clients.append(client)
    time.sleep(_START_SECONDS)
    sent, started, busy = [], time.perf_counter(), time.process_time()
    for i in range(0, count, packet):
        data = b"".join(lines[(i + k) % len(lines)] for k in range(min(packet, count - i)))
        time.sleep(max(0.0, started + (i + packet - 1) / spec.rate - time.perf_counter()))
        sent += [time.perf_counter()] * min(packet, count - i)
        for client in clients:
            client.sendall(data)
    print(f"(the devices took {(time.process_time() - busy) / seconds:.0%} of one core)")
    for client in clients:
        client.close()
    results.send(sent)


if __name__ == "__main__":
    main()
