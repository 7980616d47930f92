"""How fast recordings of each common format stream, in times real time of processor time.

    python -m benchmarks.ecg_formats RECORD... --bundle BUNDLE [--minutes 30] [--formats csv,edf]
    python -m benchmarks.ecg_formats ... --other "OTHER/bin/multires-edge OTHER_BUNDLE"    # ratios to it

The records in turn, each time with other noise, are written in each format. The command reads the files in a
process of its own. Its time for a short file, which is that of its start, is taken away. With --other a
second installation reads the same files in turns with this one, and a ratio above 1 says that this one is
faster. Processor time hardly depends on what else the machine does. Beside it stands the largest memory for
the short file and for the long one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.ecg_stream import first_samples
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.protocol import SignalSpec

_START_SECONDS = 60
_MICROVOLTS = 1000.0
Block = NDArray[np.int64]  # (500 or so, leads), microvolt


def main() -> None:
    """Parse, write the files, measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("records", nargs="+", help="records in mV with the same leads and rate")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--other", help="command and bundle of another installation")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", default="10s")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--formats", default=",".join(FORMATS))
    arguments = parser.parse_args()
    mine = [str(Path(sys.executable).with_name("multires-edge")), str(arguments.bundle)]
    commands = [mine, *([arguments.other.split()] if arguments.other else [])]
    seconds = 60 * arguments.minutes
    for name in arguments.formats.split(","):
        with tempfile.TemporaryDirectory() as folder:
            spec = open_source(arguments.records[0]).signal
            files = []
            for length in (_START_SECONDS, seconds):
                place = Path(folder) / f"{length:g}"
                place.mkdir()
                files.append(FORMATS[name](place, spec, partial(_blocks, arguments.records, length)))
            size = sum(each.stat().st_size for each in files[1].parent.iterdir())
            runs = _runs(commands, files, f"{spec.rate:g}", seconds - _START_SECONDS, arguments)
        ratio = f"  ratio {runs[0].speed / runs[1].speed:.2f}" if len(runs) > 1 else ""
        print(f"{name:12s} {size / 1e6:6.1f} MB  {'  '.join(map(str, runs))}{ratio}", flush=True)


@dataclass(frozen=True)
class _Run:
    """Times real time of a command, and its largest memory in MB for the short file and the long one."""

    speed: float
    short: float
    long: float

    def __str__(self) -> str:
        return f"{self.speed:6.0f}x ({self.short:.1f} then {self.long:.1f} MB)"


def _runs(
    commands: Sequence[Sequence[str]],
    files: Sequence[Path],
    rate: str,
    seconds: float,
    arguments: argparse.Namespace,
) -> list[_Run]:
    """The least times of each command, which other programs disturbed least, and its memory."""
    taken: list[list[list[tuple[float, float]]]] = [[[] for _ in files] for _ in commands]
    for _ in range(arguments.repeats):
        for times, (program, bundle) in zip(taken, commands, strict=True):
            for each, file in zip(times, files, strict=True):
                options = ["--rate", rate, "--unit", "mV"] if file.suffix == ".csv" else []
                command = [program, "stream", bundle, str(file), "--every", arguments.every, *options]
                each.append(_usage(command))
    runs = []
    for both in taken:
        (short, before), (long, after) = (map(min, zip(*each, strict=True)) for each in both)
        runs.append(_Run(seconds / (long - short), before, after))
    return runs


def _usage(command: Sequence[str]) -> tuple[float, float]:
    """User and system time of a process in seconds, and its largest memory in MB."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        memory, ended = 0.0, 0
        while not ended:  # the kernel's own figure at the end includes this process, which started it
            memory = max(memory, _peak(process.pid))
            time.sleep(0.02)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{command[0]} failed: {errors.read().decode()}")
    return usage.ru_utime + usage.ru_stime, memory


def _peak(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return max((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), default=0.0)


def _blocks(records: Sequence[str], seconds: float) -> Iterator[Block]:
    """The records in turn, a second at a time, in microvolt."""
    opened = [open_source(record) for record in records]
    rate = round(opened[0].signal.rate)
    parts = [first_samples(source, 10 * rate) * _MICROVOLTS for source in opened]
    for second in range(round(seconds)):
        part = parts[second // 10 % len(parts)]
        start = second % 10 * rate
        values = part[start : start + rate]
        noise = np.random.default_rng(second).normal(0, 10, values.shape)
        yield np.clip(np.round(values + noise), -2047, 2047).astype(np.int64)


Blocks = Callable[[], Iterator[Block]]


def _csv(timed: bool) -> Callable[[Path, SignalSpec, Blocks], Path]:
    def write(folder: Path, spec: SignalSpec, blocks: Blocks) -> Path:
        path = folder / "a.csv"
        row = ("%.3f," if timed else "") + ",".join(["%.3f"] * len(spec.leads)) + "\n"
        with path.open("w") as file:
            file.write(("time," if timed else "") + ",".join(spec.leads) + "\n")
            index = 0
            for block in blocks():
                table = block / _MICROVOLTS
                if timed:
                    times = np.arange(index, index + len(block)) / spec.rate
                    table = np.column_stack([times, table])
                index += len(block)
                file.write(row * len(table) % tuple(table.reshape(-1)))
        return path

    return write


def _wfdb(encoding: str) -> Callable[[Path, SignalSpec, Blocks], Path]:
    def write(folder: Path, spec: SignalSpec, blocks: Blocks) -> Path:
        length = 0
        with (folder / "a.dat").open("wb") as file:
            for block in blocks():
                length += len(block)
                numbers = block.reshape(-1)
                if encoding == "212":
                    low, high = numbers[::2] & 0xFFF, numbers[1::2] & 0xFFF
                    triples = np.stack([low & 0xFF, low >> 8 | high >> 8 << 4, high & 0xFF], 1)
                    file.write(triples.astype(np.uint8).tobytes())
                else:
                    file.write(numbers.astype("<i2").tobytes())
        lines = [f"a {len(spec.leads)} {spec.rate:g} {length}"]
        lines += [f"a.dat {encoding} 1000/mV 12 0 0 0 0 {lead}" for lead in spec.leads]
        path = folder / "a.hea"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def _edf(folder: Path, spec: SignalSpec, blocks: Blocks) -> Path:
    path, count, records = folder / "a.edf", len(spec.leads), 0
    with path.open("wb") as file:
        file.seek(256 * (1 + count))
        for block in blocks():
            file.write(np.ascontiguousarray(block.T).astype("<i2").tobytes())
            records += 1

        def fields(width: int, values: Sequence[str]) -> bytes:
            return b"".join(value.encode().ljust(width) for value in values)

        file.seek(0)
        file.write(fields(8, ["0"]) + b"X".ljust(80) + b"Startdate X".ljust(80) + b"01.01.2000.00.00")
        file.write(fields(8, [str(256 * (1 + count))]) + b" " * 44 + fields(8, [str(records), "1"]))
        file.write(fields(4, [str(count)]) + fields(16, list(spec.leads)) + b" " * 80 * count)
        for value in ("uV", "-32768", "32767", "-32768", "32767"):
            file.write(fields(8, [value] * count))
        file.write(b" " * 80 * count + fields(8, [f"{spec.rate:g}"] * count) + b" " * 32 * count)
    return path


FORMATS: dict[str, Callable[[Path, SignalSpec, Blocks], Path]] = {
    "wfdb16": _wfdb("16"),
    "wfdb212": _wfdb("212"),
    "edf": _edf,
    "csv": _csv(timed=False),
    "csv-time": _csv(timed=True),
}

if __name__ == "__main__":
    main()
