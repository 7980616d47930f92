"""What sinks cost the thread that decides: four of them, one of which hangs, against none.

    python -m benchmarks.ecg_sinks RECORD [--seconds 15] [--count 16] [--bundle BUNDLE]

First the time that the thread needs to write a line, then the latency of the decisions of live devices.
Receivers, devices and decisions are on the same cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ecg_devices import run_devices
from benchmarks.ecg_stream import SIZES, random_bundle
from multires_edge.runtime.ecg.output import Output
from multires_edge.runtime.ecg.output_file import OutputFile
from multires_edge.runtime.ecg.sinks.output import SinkOutput
from multires_edge.runtime.ecg.sinks.protocol import About
from multires_edge.runtime.ecg.sinks.registry import open_sinks

_LINES, _PAUSE = 3000, 0.002


def main() -> None:
    """Parse, start the receivers, measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("record")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--size", choices=sorted(SIZES), default="demo")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--count", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, receivers(Path(name)) as sinks:
        writing(Path(name), sinks)
        bundle = arguments.bundle or random_bundle(arguments.record, arguments.size, Path(name))
        deciding(bundle, arguments.record, arguments.seconds, arguments.count, sinks)


@contextlib.contextmanager
def receivers(folder: Path) -> Iterator[list[str]]:
    """The addresses of four sinks: a webhook, a FHIR server, a server that never answers, and a folder."""
    (folder / "annotations").mkdir()
    mine, theirs = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("fork").Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    port = mine.recv()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield [
            f"http://127.0.0.1:{port}/hook",
            f"fhir+http://127.0.0.1:{port}/Observation",
            f"http://127.0.0.1:{silent.getsockname()[1]}/",
            f"wfdb:{folder}/annotations",
        ]
    server.terminate()


def _serve(results: Any) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    results.send(server.server_address[1])
    server.serve_forever()


def writing(folder: Path, sinks: list[str]) -> None:
    """The time that a line takes the thread that decides, 500 lines a second."""
    took = {}
    for count in (0, len(sinks)):
        inner = OutputFile(folder / f"out{count}", None)
        output: Output = inner
        if count:
            opened = open_sinks(sinks, About({"a": 500.0}, ["A"]))
            output = SinkOutput(inner, opened, say=lambda _: None, hurry=lambda: True)
        took[count] = _time(output)
        output.close()
    for count, times in took.items():
        half, most = 1e6 * np.percentile(times, [50, 99])
        print(f"{count} sinks: a line takes p50 {half:.0f} us, p99 {most:.0f} us")
    print(f"ratio of the medians {np.median(took[len(sinks)]) / np.median(took[0]):.2f}")


def _time(output: Output) -> list[float]:
    chances = dict.fromkeys(("CD", "HYP", "MI", "NORM", "STTC"), 0.123456)
    entry = {"type": "decision", "source": "a", "time": 0.0, "seen": 10.0, "probabilities": chances}
    times = []
    for i in range(_LINES):
        line = json.dumps({**entry, "time": i / 2, "quality": {}})
        started = time.perf_counter()
        output.write([line])
        times.append(time.perf_counter() - started)
        time.sleep(_PAUSE)
    return times


def deciding(bundle: Path, record: str, seconds: float, count: int, sinks: list[str]) -> None:
    """The latency of decisions of live devices, every half second, without and with sinks."""
    found = {}
    for number in (0, len(sinks)):
        options = [word for sink in sinks[:number] for word in ("--sink", sink)]
        decisions, _, busy = run_devices(bundle, record, seconds, count, 10, "0.5s", options)
        taken = [1e3 * entry["timing"]["latency"] for _, entry in decisions if "timing" in entry]
        found[number] = taken
        half, most = np.percentile(taken, [50, 99])
        print(
            f"{number} sinks: {count} devices, {len(taken)} decisions, latency p50 {half:.2f} ms, "
            f"p99 {most:.2f} ms, {busy:.0%} of one core"
        )
    print(f"ratio of the medians {np.median(found[len(sinks)]) / np.median(found[0]):.2f}")


if __name__ == "__main__":
    main()
