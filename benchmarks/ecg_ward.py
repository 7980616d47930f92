"""Sixteen live devices, four of which misbehave: what the other twelve notice of it.

    python -m benchmarks.ecg_ward RECORD [--minutes 10] [--bundle BUNDLE]

The four: a clock that is 0.2 % fast with 10 ms of jitter; bad lines in turn with good ones as fast as they
are taken; gaps of an hour, again and again; power that is lost without a word, and a device that then sends
on without its header. Devices and decisions are on the same cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.ecg_stream import SIZES, first_samples, print_percentiles, random_bundle, samples_needed
from multires_edge.runtime import open_bundle
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.streams import preprocessing_of

_GOOD = 12
_EVERY = 0.5
_PACKET = 0.02  # seconds of samples
_START_SECONDS = 5.0  # while the command starts
_AWAY, _AGAIN = 12.0, 25.0  # seconds without power, and with power before the next time


class Device:
    """The samples of a recording again and again, as lines, and a socket that a client asks for them."""

    def __init__(self, listener: socket.socket, record: str, header: bool = True) -> None:
        source = open_source(record)
        self.rate = source.signal.rate
        self._rows = [[round(float(v), 4) for v in row] for row in first_samples(source, 10_000)]
        self._listener, self._header = listener, header
        entry = {"leads": list(source.signal.leads), "rate": self.rate, "unit": source.signal.unit}
        self.header = json.dumps(entry).encode() + b"\n"

    def connected(self, *, header: bool = True) -> socket.socket:
        client, _ = self._listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if header:
            client.sendall(self.header)
        return client

    def rows(self, start: int, count: int) -> list[list[float]]:
        return [self._rows[i % len(self._rows)] for i in range(start, start + count)]

    def line(self, start: int, count: int, at: float | None) -> bytes:
        """Samples ``start`` and the next ones; ``at`` is their time, if they have one."""
        entry: dict[str, Any] = {"samples": self.rows(start, count)}
        if at is not None:
            entry["time"] = round(at, 3)
        return json.dumps(entry).encode() + b"\n"


def good(device: Device, until: float, *, number: int, results: Any) -> None:
    """Packets of 20 ms, at the rate of the device, every second device with times.

    Puts its number and that of its samples into ``results``.
    """
    timed = number % 2 == 1
    client, packet = device.connected(), round(_PACKET * device.rate)
    # Made before, so that the devices cost as little as they can.
    count = 10_000 // packet * packet
    lines = [device.line(i, packet, 0.0 if timed else None) for i in range(0, count, packet)]
    lines = [line.rsplit(b'"time"', 1)[0] if timed else line for line in lines]
    time.sleep(2 * _EVERY * random.random())  # they decide at different times
    sent, started = 0, time.monotonic()
    while time.time() < until:
        line = lines[sent // packet % len(lines)]
        client.sendall(line + b'"time": %.3f}\n' % (sent / device.rate) if timed else line)
        sent += packet
        time.sleep(max(0.0, started + sent / device.rate - time.monotonic()))
    results.put((number, sent))
    time.sleep(5)


def drifting(device: Device, until: float) -> None:
    """A clock that is 0.2 % fast, in steps of 10 ms, with jitter."""
    client, packet, sent = device.connected(), round(_PACKET * device.rate), 0
    started = time.monotonic()
    while time.time() < until:
        at = 1.002 * sent / device.rate + random.uniform(-0.01, 0.01)
        client.sendall(device.line(sent, packet, round(at, 2)))
        sent += packet
        time.sleep(max(0.0, started + sent / device.rate - time.monotonic()))


def flood(device: Device, until: float) -> None:
    """Good lines and bad lines as fast as they are taken."""
    client = device.connected()
    lines = b"".join(device.line(i, 1, None) + b"nonsense\n" for i in range(1000))
    while time.time() < until:
        client.sendall(lines)


def hours(device: Device, until: float) -> None:
    """Every second 800 lines; after each four of them the clock is an hour further."""
    client, sent = device.connected(), 0
    while time.time() < until:
        data = b""
        for _ in range(800):
            data += device.line(sent, 1, sent / device.rate + 3599 * (sent // 4))
            sent += 1
        client.sendall(data)
        time.sleep(1)


def power(device: Device, until: float) -> None:
    """No sample and no end for seconds, then a new connection, without a header."""
    client, packet, sent = device.connected(), round(_PACKET * device.rate), 0
    off = time.time() + _AGAIN
    while time.time() < until:
        try:
            client.sendall(device.line(sent, packet, None))
        except OSError:
            client = device.connected(header=False)
        sent += packet
        time.sleep(_PACKET)
        if time.time() > off:
            time.sleep(_AWAY)
            client.close()
            client, off = device.connected(header=False), time.time() + _AGAIN


def until_the_end(act: Callable[[Device, float], None], device: Device, until: float) -> None:
    """Be a device until ``until``, or until the command ends."""
    with contextlib.suppress(ConnectionError):
        act(device, until)


BAD: tuple[Callable[[Device, float], None], ...] = (drifting, flood, hours, power)


def main() -> None:
    """Parse, make a bundle, start the devices and the command, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("record")
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--size", choices=sorted(SIZES), default="demo")
    parser.add_argument("--without", action="store_true", help="leave the four out, to compare")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = arguments.bundle or random_bundle(arguments.record, arguments.size, folder)
        run(bundle, arguments.record, 60 * arguments.minutes, () if arguments.without else BAD, folder)


def run(bundle: Path, record: str, seconds: float, bad: tuple[Any, ...], folder: Path) -> None:
    """Run the command on the devices, and print what became of the good ones."""
    context = multiprocessing.get_context("fork")
    until, results = time.time() + _START_SECONDS + seconds, context.Queue()
    addresses, processes = [], []
    for number in range(_GOOD + len(bad)):
        listener = socket.create_server(("127.0.0.1", 0))
        addresses.append(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        device = Device(listener, record)
        act = partial(good, number=number, results=results) if number < _GOOD else bad[number - _GOOD]
        target = partial(until_the_end, act, device, until)
        processes.append(context.Process(target=target, daemon=True))
    for process in processes:
        process.start()
    output = folder / "decisions.jsonl"
    command = [sys.executable, "-m", "multires_edge", "stream", str(bundle), *addresses, "--json"]
    options = ["--every", f"{_EVERY}s", "--pool", "window:10s", "--reconnect", "1min"]
    with subprocess.Popen(
        [*command, *options, "--output", str(output)], stderr=subprocess.PIPE, text=True
    ) as program:
        memory = watched(program, until)
        sent = dict(results.get() for _ in range(_GOOD))
        program.send_signal(signal.SIGTERM)
        started = time.monotonic()
        program.wait()
        stopped = time.monotonic() - started
        assert program.stderr is not None
        print(program.stderr.read()[-300:], end="")
    for process in processes:
        process.terminate()
        process.join()
    entries = [json.loads(line) for line in output.read_text().splitlines()]
    by_device = [[entry for entry in entries if entry["source"] == address] for address in addresses]
    report_good(by_device[:_GOOD], sent, record, bundle)
    for act, mine in zip(bad, by_device[_GOOD:], strict=True):
        kinds = Counter(entry.get("event", "decisions") for entry in mine)
        print(f"  {act.__name__}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    first, last = memory[0], memory[-1]
    print(f"memory: {first:.1f} MB at the start, {last:.1f} MB at the end, at most {max(memory):.1f} MB")
    print(f"SIGTERM: ended after {stopped:.2f} s; {output.stat().st_size / 1e6:.1f} MB of output")


def watched(program: subprocess.Popen[str], until: float) -> list[float]:
    """Megabytes in memory, five seconds after the start, then every ten seconds."""
    memory = []
    time.sleep(2 * _START_SECONDS)
    while time.time() < until + 0.5 and program.poll() is None:
        status = Path(f"/proc/{program.pid}/status").read_text()
        memory.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
        time.sleep(min(10.0, max(0.0, until + 0.5 - time.time())))
    return memory


def report_good(
    by_device: list[list[dict[str, Any]]], sent: dict[int, int], record: str, bundle: Path
) -> None:
    """Print the decisions on the good devices, and how long they took."""
    spec = open_source(record).signal
    steps = round(_EVERY * preprocessing_of(open_bundle(bundle)).sampling_rate)
    needed = samples_needed(bundle, spec)
    expected = found = 0
    taken, events = [], Counter[str]()
    for number, entries in enumerate(by_device):
        decisions = [entry for entry in entries if entry["type"] == "decision"]
        events.update(entry["event"] for entry in entries if entry["type"] == "event")
        times = {entry["time"] for entry in decisions}
        count = 0
        while needed((count + 1) * steps) <= sent[number]:
            count += 1
            found += round(count * _EVERY, 6) in times
        expected += count
        taken += [1e3 * entry["timing"]["latency"] for entry in decisions]
    seconds, leads = sum(sent.values()) / spec.rate / len(sent), len(spec.leads)
    print(f"{len(by_device)} good devices of {leads} leads at {spec.rate:g} Hz, {seconds:.0f} s each:")
    print(f"{found} of {expected} decisions; events: {dict(events) or 'none'}; latency:")
    print_percentiles(taken)


if __name__ == "__main__":
    main()
