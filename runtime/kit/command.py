"""The command: run every check, time the graphs, write the report."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BackendError, BundleError, MissingExtraError, MultiresError
from multires_edge.base.files import check_file, staged_file, write_file
from multires_edge.base.names import printable
from multires_edge.runtime.backends.device.gpu import find_gpu
from multires_edge.runtime.backends.providers import load_onnxruntime
from multires_edge.runtime.backends.registry import backend_named
from multires_edge.runtime.backends.tensorrt.host import InPlaceOnHost, TapsOnHost
from multires_edge.runtime.kit.checks import Checker
from multires_edge.runtime.kit.description import KIT
from multires_edge.runtime.kit.engines import build_engines
from multires_edge.runtime.kit.machine import machine
from multires_edge.runtime.kit.opened import Kit
from multires_edge.runtime.kit.report import REPORT, EngineRun, Report
from multires_edge.runtime.kit.timing import time_precision

# The tensorrt backend without its device, by name.
_ON_HOST = {backend.name: backend for backend in (TapsOnHost, InPlaceOnHost)}


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
    here = Path(__file__).resolve().parents[3]
    parser = argparse.ArgumentParser(
        prog="check_device.py",
        description="Check a MultiresNet on this device, time it, and write device_report.json.",
        epilog="Exit code 0: all checks passed; 1: a check failed; 2: the check could not run.",
    )
    add = parser.add_argument
    add(
        "--backend", choices=("tensorrt", "cuda", "native", "onnxruntime", *_ON_HOST), default="tensorrt",
        help="default: tensorrt. cuda is one kernel on a GPU. taps and in-place run the graphs of TensorRT's "
        "engines in ONNX Runtime, with the same rings and buffers",
    )  # fmt: skip
    add("--provider", default="cpu", help="of ONNX Runtime (default: %(default)s)")
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
    add("--rebuild", action="store_true", help="build every engine again")
    add("--kit", type=Path, default=here, metavar="DIR", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def check_device(options: argparse.Namespace) -> Report:
    """Run all checks and measurements. Returns the report. Raises MultiresError."""
    started = datetime.datetime.now(datetime.timezone.utc)
    kit = Kit(options.kit)
    precisions = kit.precisions(options.precision)
    runs = _Runs(options, kit)
    facts = machine()
    if facts.absent:
        print(f"-[ ] not found on this machine: {', '.join(facts.absent)}")
    checker, timings = Checker(kit, runs.way), []
    checker.run_files()
    for precision in precisions:
        try:
            checker.run(precision, runs.prepare(precision))
        except Exception as error:
            if not kit.changed:
                raise
            changed = ", ".join(kit.changed)
            raise BundleError(f"{error}; {changed} was changed: unpack the kit again") from error
    for precision in precisions if options.steps > 0 else []:
        for timing in time_precision(kit, runs.way, precision, options.streams, options.steps):
            print(timing.line(), flush=True)
            timings.append(timing)
    described = kit.description
    return Report(
        name=printable(options.name or facts.model or f"{platform.node()} {facts.machine}"),
        passed=all(check.passed for check in checker.checks),
        started=started.isoformat(timespec="seconds"),
        target=described.target,
        bundle=described.bundle,
        kit_sha256=KIT.to_json(described)["sha256"],
        backend={"name": options.backend, **runs.facts},
        engines=tuple(runs.engines),
        device=facts,
        precisions=tuple(precisions),
        checks=tuple(checker.checks),
        notes=tuple(checker.notes),
        timing=tuple(timings),
    )


class _Runs:
    """How the bundle is run: the options that select the backend, its facts, and the engines used."""

    def __init__(self, options: argparse.Namespace, kit: Kit) -> None:
        self._options, self._kit, self._name = options, kit, options.backend
        self._backend = _ON_HOST[self._name]() if self._name in _ON_HOST else backend_named(self._name)
        self.way: dict[str, Any] = {"backend": self._backend}
        self.engines: list[EngineRun] = []
        self.facts: dict[str, str] = {}
        if self._backend.needs_gpu:
            self._gpu = find_gpu()
            self.facts |= {"gpu": str(self._gpu), "compute_capability": self._gpu.compute_capability}
        elif self._backend.runs_graphs:
            self._find_onnxruntime()
        elif self._backend.missing():
            raise BackendError(
                "the kit has no native engine for this Python and processor: make the kit again with "
                "multires-edge kit --wheel FILE"
            )
        if self._name == "onnxruntime":
            given = dict(options.provider_options)
            self.way |= {"provider": options.provider, "provider_options": given}
            self.facts["provider"] = options.provider
            if given:
                pairs = ", ".join(f"{key}={value}" for key, value in given.items())
                self.facts["provider_options"] = printable(pairs)

    def _find_onnxruntime(self) -> None:
        try:
            self.facts["onnxruntime"] = load_onnxruntime().__version__
        except MissingExtraError:
            raise BackendError(
                f"onnxruntime is not installed for {sys.executable}: python3 -m venv --system-site-packages "
                "venv && venv/bin/pip install onnxruntime"
            ) from None

    def prepare(self, precision: str) -> str:
        """Build the engines of a precision. Returns what runs its streams."""
        bundle = self._kit.bundle
        if self._backend.checked_as is None:  # it needs engines
            most = max(*self._options.streams, self._kit.description.most_streams)
            used = build_engines(self._kit, precision, most, self._gpu, rebuild=self._options.rebuild)
            self.engines += used
            release = used[0].sidecar.tensorrt
            self.facts[release.package] = release.version
            return used[0].what
        if precision not in self._backend.precisions(bundle.path, bundle.manifest):
            raise BundleError(f"the kit has nothing in {precision} for --backend {self._name}")
        return self._backend.checked_as


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    options = _arguments(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # not every terminal can show ✓
    try:
        check_file(options.report, force=True)
        with staged_file(options.report, b""):
            pass  # the folder can be written to
        report = check_device(options)
        write_file(options.report, REPORT.to_bytes(report), force=True)
    except BrokenPipeError:
        # Drop the buffered output: Python would report the broken pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _failed("the output pipe was closed; no report was written")
    except MemoryError:
        return _failed("out of memory; try fewer --streams, or one --precision at a time")
    except KeyboardInterrupt:
        print("interrupted; no report was written", file=sys.stderr)
        return 130
    except Exception as error:
        return _failed(str(error) if isinstance(error, MultiresError) else f"{type(error).__name__}: {error}")
    print(f"report: {options.report}")
    print(report.verdict)
    return 0 if report.passed else 1


def _failed(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
