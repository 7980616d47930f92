"""The command: run every check, time the graphs, write the report."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from multires_edge.format.fields import printable

from .checks import Checker
from .description import KIT
from .files import KitError, check_writable, to_json, write_whole
from .kit import Kit
from .machine import machine
from .onnxruntime import OnnxRuntime
from .report import REPORT, Report
from .runners import Backend
from .tensorrt import TensorRT
from .timing import time_precision


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}, expected KEY=VALUE")
    return key, value


def _counts(text: str) -> list[int]:
    names = _names(text)
    if not names or not all(name.isdecimal() and int(name) > 0 for name in names):
        raise argparse.ArgumentTypeError(f"{text!r}, expected positive numbers such as 1,8,64")
    return [int(name) for name in names]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    here = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(
        prog="check_device.py",
        description="Check a MultiresNet on this device, time it, and write device_report.json.",
        epilog="Exit code 0: all checks passed; 1: a check failed; 2: the check could not run.",
    )
    add = parser.add_argument
    add("--backend", choices=("tensorrt", "onnxruntime"), default="tensorrt", help="default: tensorrt")
    add("--provider", default="CPUExecutionProvider", help="of ONNX Runtime (default: %(default)s)")
    add(
        "--provider-option", type=_pair, action="append", default=[], dest="provider_options",
        metavar="KEY=VALUE", help="an option of the provider; may be repeated",
    )  # fmt: skip
    add("--precision", type=_names, default=[], metavar="P,...", help="to check (default: all in the kit)")
    add("--streams", type=_counts, default=[1, 8, 64], metavar="N,...", help="to time (default: 1,8,64)")
    add("--steps", type=int, default=1000, metavar="N", help="to time; 0 skips timing (default: %(default)s)")
    add("--name", metavar="NAME", help="of this device, for the report (default: its model)")
    add(
        "--report", type=Path, default=Path("device_report.json"), metavar="FILE", help="default: %(default)s"
    )
    add("--engines", type=Path, default=here / "engines", metavar="DIR", help="folder of the built engines")
    add("--rebuild", action="store_true", help="build every engine again")
    add("--kit", type=Path, default=here, metavar="DIR", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def check_device(options: argparse.Namespace) -> Report:
    """Run all checks and measurements. Returns the report. Raises KitError."""
    started = datetime.datetime.now(datetime.timezone.utc)
    kit = Kit(options.kit)
    precisions = kit.precisions(options.precision)
    backend: Backend
    if options.backend == "onnxruntime":
        backend = OnnxRuntime(options.provider, dict(options.provider_options))
    else:
        most = max(
            [*options.streams, *(len(c.streams) for p in precisions for c in kit.description.cases[p])]
        )
        backend = TensorRT(options.engines, most, rebuild=options.rebuild)
    facts = machine()
    if facts.absent:
        print(f"-[ ] not found on this machine: {', '.join(facts.absent)}")
    checker, timings = Checker(kit, backend), []
    checker.run_files()
    for precision in precisions:
        try:
            checker.run(precision)
        except KitError as error:
            if not kit.changed:
                raise
            raise KitError(f"{error}; {', '.join(kit.changed)} was changed: unpack the kit again") from error
    for precision in precisions if options.steps > 0 else []:
        for timing in time_precision(kit, backend, precision, options.streams, options.steps):
            print(timing.line(), flush=True)
            timings.append(timing)
    described = kit.description
    return Report(
        name=printable(options.name or facts.model or f"{platform.node()} {facts.machine}"),
        passed=checker.passed,
        started=started.isoformat(timespec="seconds"),
        target=described.target,
        bundle=described.bundle,
        kit_sha256=KIT.to_json(described)["sha256"],
        backend={"name": backend.name, **backend.describe()},
        device=facts,
        precisions=tuple(precisions),
        checks=tuple(checker.checks),
        notes=tuple(checker.notes),
        timing=tuple(timings),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    options = _arguments(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # not every terminal can show ✓
    try:
        check_writable(options.report)
        report = check_device(options)
        write_whole(options.report, to_json(REPORT.to_json(report)))
    except KitError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Drop the buffered output: Python would report the broken pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("error: the output pipe was closed; no report was written", file=sys.stderr)
        return 2
    except MemoryError:
        print("error: out of memory; try fewer --streams, or one --precision at a time", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no report was written", file=sys.stderr)
        return 130
    failed = [check for check in report.checks if not check.passed]
    print(f"report: {options.report}")
    if failed:
        print(f"FAILED: {len(failed)} of {len(report.checks)} checks; first {failed[0].line()[5:]}")
    else:
        print(f"passed: all {len(report.checks)} checks")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
