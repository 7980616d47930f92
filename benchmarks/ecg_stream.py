"""A day of electrodes: speed, memory, many sources at once, and being killed.

    python -m benchmarks.ecg_stream speed RECORD          # times real time, of a two-lead WFDB record
    python -m benchmarks.ecg_stream latency RECORD        # from a sample to its decision, in real time
    python -m benchmarks.ecg_stream look-ahead RECORD     # the same with and without prepare(), by packets
    python -m benchmarks.ecg_stream day RECORD... [--hours 24]
    python -m benchmarks.ecg_stream sources RECORD [--count 32] [--seconds 30]
    python -m benchmarks.ecg_stream kills RECORD [--count 200]

Without --bundle on a network with random weights, for the record's leads, of the paper's size (--size
paper) or of the demonstration's (--size demo). One thread each; trust the ratios.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from multires_edge.cli.commands.stream import stream as command
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.bench.paced import use_caches
from multires_edge.runtime.ecg.conversion import Conversion
from multires_edge.runtime.ecg.decision import Decision
from multires_edge.runtime.ecg.leads import LeadMap
from multires_edge.runtime.ecg.session import Session
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import Samples, SignalSpec, Source
from multires_edge.runtime.ecg.stream import EcgStream
from multires_edge.runtime.ecg.streams import EcgStreams, preprocessing_of

SIZES = {"paper": (128, 6), "demo": (64, 4)}  # d_model, n_layers
_POOL = "window:10s"
# Samples of a packet, and tens of seconds of a measurement.
_PACKETS, _TENS_AHEAD = (1, 10, 25), 3


def main() -> None:
    """Parse, make a bundle, measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["speed", "latency", "look-ahead", "day", "sources", "kills"])
    parser.add_argument("records", nargs="+")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--size", choices=sorted(SIZES), default="demo")
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = arguments.bundle or random_bundle(arguments.records[0], arguments.size, folder)
        if arguments.what == "speed":
            speed(open_bundle(path), arguments.records[0])
        elif arguments.what == "latency":
            latency(open_bundle(path), arguments.records[0], arguments.seconds)
        elif arguments.what == "look-ahead":
            look_ahead(open_bundle(path), arguments.records[0])
        elif arguments.what == "day":
            day(open_bundle(path), arguments.records, arguments.hours)
        elif arguments.what == "sources":
            sources(path, arguments.records[0], arguments.count or 32, arguments.seconds, folder)
        else:
            kills(path, arguments.records[0], arguments.count or 200, folder)


def speed(bundle: Bundle, record: str) -> None:
    """The whole record through a session, reading included, against its length."""
    best = np.inf
    for _ in range(3):
        source = open_source(record)
        started = time.perf_counter()
        session = Session(EcgStreams(bundle, [source.signal], pool=_POOL), [source])
        last = [item for items in session.run() for item in items if isinstance(item, Decision)]
        best = min(best, time.perf_counter() - started)
    print(f"{last[-1].time:.1f} s of {len(source.signal.leads)} leads, {len(last)} decisions: {best:.2f} s,")
    print(f"{last[-1].time / best:.0f} times real time")


def latency(bundle: Bundle, record: str, seconds: float) -> None:
    """Sample by sample as a device sends them: from the last sample that a decision needs to the decision."""
    source = open_source(record)
    given = source.signal
    stream = EcgStream(bundle, leads=given.leads, rate=given.rate, unit=given.unit, every=0.02, pool=_POOL)
    count = round(seconds * given.rate)
    samples = first_samples(source, count)
    taken, started = [], time.perf_counter()
    for i, sample in enumerate(samples):
        time.sleep(max(0.0, started + i / given.rate - time.perf_counter()))
        came = time.perf_counter()
        decisions = stream.feed(sample[None])
        if decisions:
            taken.append(1e3 * (time.perf_counter() - came))
    print(f"{len(taken)} decisions in {seconds:.0f} s at {given.rate:g} Hz, from the sample to the decision:")
    print_percentiles(taken)


def look_ahead(bundle: Bundle, record: str) -> None:
    """From the last packet that a decision needs to the decision, after prepare() and without.

    Hot, and after other work with much memory, which comes between prepare() and that packet.
    """
    given = open_source(record).signal
    samples = np.concatenate(list(_repeated([record], 0, _TENS_AHEAD)))
    print("milliseconds without and with prepare(), their ratio, and milliseconds of a prepare():")
    for every, size in itertools.product((1.0, 0.1), _PACKETS):
        for name, before in (("hot", lambda: None), ("cold", use_caches)):
            (without, prepared), ahead = time_decisions(bundle, given, samples, size, every, before)
            print(
                f"every {every:3g} s, packets of {size:2}, {name:4} {without:8.3f} {prepared:8.3f} "
                f"{without / prepared:6.2f} {ahead:8.3f}"
            )


def time_decisions(
    bundle: Bundle,
    given: SignalSpec,
    samples: NDArray[np.float64],
    size: int,
    every: float,
    before: Callable[[], None],
) -> tuple[list[float], float]:
    """Milliseconds to a decision without and with prepare(), in turns, and those of a prepare(); medians.

    ``before`` is called before each packet that completes a decision.
    """
    streams = [EcgStreams(bundle, [given], every=every, pool=_POOL) for _ in range(2)]
    taken: list[list[float]] = [[], []]
    ahead = list[float]()
    for start in range(0, len(samples), size):
        packet = samples[start : start + size]
        decisions = []
        for stream, seconds in zip(streams, taken, strict=True):
            decides = stream.fronts[0].awaited <= len(packet)
            if decides:
                before()
            started = time.perf_counter()
            stream.feed(0, packet)
            decisions.append(stream.pump())
            if decides:
                seconds.append(1e3 * (time.perf_counter() - started))
        if decisions[0] != decisions[1]:
            raise SystemExit("the decisions differ")
        started = time.perf_counter()
        streams[1].prepare(0)
        ahead.append(1e3 * (time.perf_counter() - started))
    return [float(np.median(seconds)) for seconds in taken], float(np.median(ahead))


def first_samples(source: Source, count: int) -> NDArray[np.float64]:
    """The first ``count`` samples (n, leads) of a recording, or all there are."""
    return np.concatenate([piece.values for piece in source.read(count) if isinstance(piece, Samples)])


def samples_needed(bundle: Path, spec: SignalSpec) -> Callable[[int], int]:
    """How many samples since the start so many steps of the network need."""
    preprocessing = preprocessing_of(open_bundle(bundle))
    return Conversion(preprocessing, LeadMap(spec, preprocessing), spec.rate, "hold").needed


def print_percentiles(taken: list[float]) -> None:
    """Of milliseconds."""
    p50, p99, p999 = np.percentile(taken, [50, 99, 99.9])
    print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99.9 {p999:.2f} ms, max {max(taken):.2f} ms")


def day(bundle: Bundle, records: list[str], hours: float) -> None:
    """Hours at full speed: resident memory, time a decision, and the last hour against a fresh stream."""
    source = open_source(records[0])
    spec = source.signal
    options: dict[str, Any] = {
        "leads": spec.leads,
        "rate": spec.rate,
        "unit": spec.unit,
        "pool": _POOL,
    }
    stream = EcgStream(bundle, **options)
    tens = round(hours * 360)
    compared_from = tens - 360
    kept = np.ones((7200, len(stream.labels)), np.float32)
    count = 0
    started = time.perf_counter()
    resident = []
    for i, samples in enumerate(_repeated(records, 0, tens)):
        decisions = stream.feed(samples)
        if i >= compared_from:
            for decision in decisions:
                kept[count] = decision.logits
                count += 1
        if i % 360 == 5 or i == tens - 1:
            resident.append(psutil.Process().memory_info().rss)
            seconds = time.perf_counter() - started
            print(f"{(i + 1) / 360:6.2f} h: {resident[-1] / 1e6:.2f} MB, {seconds:.0f} s", flush=True)
    print(f"memory at the end to that after a minute: {resident[-1] / resident[0]:.4f}")
    # What the filters and the window remember is less than two minutes.
    fresh = EcgStream(bundle, **options)
    again = [
        d.logits for samples in _repeated(records, compared_from - 12, tens) for d in fresh.feed(samples)
    ]
    off = np.abs(np.stack(again[-count:]) - kept[:count]).max(1)
    print(f"last hour: {count} decisions, {np.count_nonzero(off == 0)} identical to a fresh stream's")
    print(f"the largest difference of a logit: {off.max():.1e}")


def sources(bundle: Path, record: str, count: int, seconds: float, folder: Path) -> None:
    """Sources at their own speed in one session, on the cores that this process may use."""
    opened = open_bundle(bundle)
    spec = open_source(record).signal
    stop = int(seconds * spec.rate)
    signals = np.concatenate(list(_repeated([record], 0, int(seconds // 10) + 1)))[:stop]
    inputs = []
    for i in range(count):
        path = folder / f"{i}.npz"
        np.savez(path, samples=signals, leads=list(spec.leads), rate=spec.rate, unit=np.array("mV"))
        inputs.append(open_source(str(path)))
    streams = EcgStreams(opened, [source.signal for source in inputs], pool=_POOL)
    session = Session(streams, inputs, realtime=True)
    before = time.process_time()
    ages = [i.timing.age for items in session.run() for i in items if isinstance(i, Decision) and i.timing]
    busy = (time.process_time() - before) / seconds
    half, most = np.percentile(ages, [50, 99])
    print(f"{count} sources of {spec.rate:g} Hz, {len(ages)} decisions: {busy:.0%} of one core")
    print(f"age of a decision's newest sample: p50 {half:.3f} s, p99 {most:.3f} s, at most {max(ages):.3f} s")


def kills(bundle: Path, record: str, count: int, folder: Path) -> None:
    """SIGKILL at random moments, start again, compare the union with a run that was left alone."""
    signals = np.concatenate(list(_repeated([record], 0, 60)))
    spec = open_source(record).signal
    path = folder / "a.npz"
    np.savez(path, samples=signals, leads=list(spec.leads), rate=spec.rate, unit=np.array("mV"))
    options = [str(bundle), str(path), "--pool", _POOL, "--every", "0.1s", "--state-every", "5ms"]
    started = time.perf_counter()
    _forked([*options, "--output", str(folder / "whole")], None)
    alone = time.perf_counter() - started
    chance = random.Random(0)
    killed = rounds = 0
    same = True
    while killed < count:
        out, state = folder / f"out{rounds}", folder / f"state{rounds}"
        kept = [*options, "--output", str(out), "--state-file", str(state)]
        while True:
            done = _forked(kept, chance.random() * alone / 8 if killed < count else None)
            killed += not done
            if done:
                break
        same &= out.read_bytes() == (folder / "whole").read_bytes()
        rounds += 1
    print(f"{killed} kills in {rounds} runs: the union is {'byte-identical' if same else 'DIFFERENT'}")
    if not same:
        sys.exit(1)


def _forked(arguments: list[str], kill_after: float | None) -> bool:
    """Run the command in a process of its own; whether it ended by itself."""
    child = os.fork()
    if child == 0:
        try:
            command(arguments, standalone_mode=False)
        except SystemExit as error:
            os._exit(int(error.code or 0))
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status):
        sys.exit("the command failed")
    return True


def _repeated(records: list[str], start: int, stop: int) -> Iterator[NDArray[np.float64]]:
    """Ten seconds at a time of the records in turn, each time with other noise."""
    pieces = []
    for record in records:
        source = open_source(record)
        pieces.append(first_samples(source, int(10 * source.signal.rate)))
    for i in range(start, stop):
        noise = np.random.default_rng(i).standard_normal(pieces[i % len(pieces)].shape)
        yield pieces[i % len(pieces)] + 0.01 * noise


def random_bundle(record: str, size: str, folder: Path) -> Path:
    """A network for the leads of a record, of random weights, as a bundle."""
    # Exporting takes more memory than a device has; with --bundle, none of it is in what is measured.
    from benchmarks.networks import PAPER_SIZE, random_checkpoint
    from multires_edge.export import export_bundle

    leads = list(open_source(record).signal.leads)
    card = {
        "preprocessing": {"sampling_rate": 100, "channels": leads, "unit": "mV", "mean": 0.0, "std": 0.24},
        "labels": ["CD", "HYP", "MI", "NORM", "STTC"],
        "output": "sigmoid",
    }
    (folder / "card.json").write_text(json.dumps(card))
    d_model, n_layers = SIZES[size]
    config = replace(PAPER_SIZE, d_input=len(leads), d_model=d_model, n_layers=n_layers)
    checkpoint = random_checkpoint(config, folder)
    return export_bundle(checkpoint, folder / "bundle", card=folder / "card.json").path


if __name__ == "__main__":
    main()
