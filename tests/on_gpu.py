"""Everything that needs an NVIDIA GPU, and a report of it: `make gpu-test`.

    python -m tests.on_gpu REPORT [BUNDLE] [--streams N,...] [--calls N]

Without a bundle it exports a network of the paper's size with random weights, in every precision. Exit code
0: all passed; 1: a check failed; 2: there is no GPU.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.networks import PAPER_SIZE, random_checkpoint
from multires_edge.base.errors import BackendError, MultiresError
from multires_edge.base.files import write_file
from multires_edge.export import Int8Options, export_bundle
from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs import full
from multires_edge.format.comparison import LIMITS, Check
from multires_edge.format.manifest import Manifest
from multires_edge.format.pooling import Cumulative
from multires_edge.format.targets import TARGETS, Target
from multires_edge.runtime.backends.cuda.backend import CudaBackend
from multires_edge.runtime.backends.cuda.planned import PlannedStepper, planned_stepper
from multires_edge.runtime.backends.cuda.plans import plans_path
from multires_edge.runtime.backends.device.cuda import WAIT, WAITS, CudaDevice
from multires_edge.runtime.backends.device.gpu import Gpu, find_gpu
from multires_edge.runtime.backends.protocol import RunOptions
from multires_edge.runtime.backends.providers import why_no_cuda
from multires_edge.runtime.backends.registry import backend_named, backend_names
from multires_edge.runtime.backends.tensorrt.api import load_api
from multires_edge.runtime.bench.candidate import random_inputs, random_sample
from multires_edge.runtime.bench.timing import Timing, calls
from multires_edge.runtime.bundle import Bundle, open_bundle
from multires_edge.runtime.engine_builder.build import Builder
from multires_edge.runtime.engine_builder.kernels import build_kernels
from multires_edge.runtime.engine_builder.shapes import Range
from multires_edge.runtime.kit.cases import assemble, roll, stream_cases
from tests.conftest import random_net
from tests.export.every_graph import unproven_bundle

STREAMS = (1, 4, 16, 64, 256, 1024)
SEQUENCE = 1000  # steps
RATE = 100  # Hz
SANITIZERS = ("memcheck", "racecheck", "synccheck")
TOOLKIT = "/usr/local/cuda/bin"
# The precision and the options of each way to run a bundle, by its name.
Ways = dict[str, tuple[str, dict[str, Any]]]
_HEAD = "| | p50 | p99 | at 100 Hz |\n| --- | ---: | ---: | ---: |"


class Report:
    """Lines of Markdown, printed and written as they come: a GPU may end or stop the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self.passed = True

    def say(self, text: str) -> None:
        """Add a line."""
        print(text, flush=True)
        self._lines.append(text)
        write_file(self._path, "\n".join([*self._lines, ""]).encode(), force=True)

    def check(self, name: str, work: Callable[[], object]) -> None:
        """Add whether some work succeeds, with its error. What fails for any reason costs no other check."""
        try:
            work()
        except Exception as error:
            self.passed = False
            self.say(f"- [ ] {name}: {type(error).__name__}: {error}")
        else:
            self.say(f"- [x] {name}")

    def time(
        self,
        name: str,
        make: Callable[[], Callable[[], object]],
        times: int,
        allowed: tuple[type[Exception], ...] = (),
    ) -> None:
        """Add a row with the time of what ``make`` makes, or with its error: a failure unless ``allowed``."""
        try:
            self.say(row(name, *timed(make(), times)))
        except Exception as error:
            self.passed &= isinstance(error, allowed)
            self.say(f"| {name}: {' '.join(str(error).split())} | | | |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.on_gpu")
    parser.add_argument("report", type=Path)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--streams", type=lambda text: [int(n) for n in text.split(",")], default=STREAMS)
    parser.add_argument("--calls", type=int, default=500, help="of each timing; a tenth of them paced")
    options = parser.parse_args(arguments)
    try:
        gpu = find_gpu()
    except BackendError as error:
        print(f"no GPU: {error}", file=sys.stderr)
        return 2
    report = Report(options.report)
    report.say(f"# {gpu}, compute capability {gpu.compute_capability}\n")
    with tempfile.TemporaryDirectory() as folder:
        bundle = open_bundle(options.bundle or export(Path(folder)))
        check_kernels(report, bundle, gpu)
        # Before anything else holds the device: how a thread waits is chosen once.
        report.check("floors", partial(time_floors, report, options.calls))
        build_engines(report, bundle, gpu, max(options.streams))
        ways = ways_to_run(report, bundle)
        for name, (precision, way) in ways.items():
            check_parity(report, bundle, name, precision, way)
        time_steps(report, bundle, ways, options.streams, options.calls)
        for target in targets_of(gpu):
            time_filters(report, target, gpu, options.calls)
    return 0 if report.passed else 1


def export(folder: Path) -> Path:
    """A bundle of the paper's size in every precision and form."""
    data = folder / "records.npz"
    np.savez(data, x=np.random.default_rng(0).standard_normal((16, PAPER_SIZE.channels, 1000), np.float32))
    return export_bundle(
        random_checkpoint(PAPER_SIZE, folder), folder / "paper.bundle", target="tensorrt10",
        precisions=("fp32", "fp16", "int8"), int8=Int8Options(data=data),
    ).path  # fmt: skip


def check_kernels(report: Report, bundle: Bundle, gpu: Gpu) -> None:
    """The ring kernels and our own by the real driver, also under NVIDIA's sanitizers."""
    report.say("## Kernels\n")
    code = "from tests.runtime.backends.tensorrt.test_rings import check_widths; check_widths()"
    commands = {"ring kernels": [sys.executable, "-c", code]}
    report.check("ring kernels as numpy", partial(run, *commands["ring kernels"]))
    if (missing := backend_named("cuda").missing()) is not None:
        report.say(f"- our own kernel: {missing}")
    else:
        report.check("kernels as PTX, with their plans", partial(build_kernels, bundle, ()))
        code = f"from tests.on_gpu import run_steps; run_steps({str(bundle.path)!r}, {gpu.multiprocessors})"
        commands["our own kernel"] = [sys.executable, "-c", code]
    sanitizer = shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ["PATH"], TOOLKIT]))
    if sanitizer is None:
        report.say("- compute-sanitizer is not installed")
    for tool in SANITIZERS if sanitizer else ():
        under = (str(sanitizer), "--tool", tool, "--error-exitcode", "1")
        for name, command in commands.items():
            report.check(f"{tool} of {name}", partial(run, *under, *command))


def run_steps(bundle: str, multiprocessors: int) -> None:
    """A step and a chunk by our own kernel in every precision, with one and with four streams in a block."""
    opened = open_bundle(Path(bundle))
    for precision in opened.manifest.native:
        for streams in (3, 8 * multiprocessors):
            stream = opened.stream(streams, backend="cuda", precision=precision)
            stream.step(random_sample(opened.manifest, streams))
            stream.run(random_inputs(opened.manifest, streams, 2))


def run(*command: str) -> None:
    """Run a program. Its error has what it wrote."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"


def build_engines(report: Report, bundle: Bundle, gpu: Gpu, most: int) -> None:
    """Engines of all stream graphs for each TensorRT that is installed."""
    report.say("\n## Engines\n")
    for target in targets_of(gpu):
        builder, ranges = builder_of(target, gpu), {"streams": Range(1, min(64, most), most)}
        for kind in ("taps", "step"):
            for precision in bundle.manifest.graphs[kind]:
                work = partial(build_engine, builder, bundle, kind, precision, ranges)
                report.check(f"{kind}.{precision}.{target.name} by {builder.api.name}", work)


def build_engine(
    builder: Builder, bundle: Bundle, kind: str, precision: str, ranges: dict[str, Range]
) -> None:
    """Build an engine again."""
    builder.build(builder.plan(bundle, kind, precision, ranges, force=True))


def builder_of(target: Target, gpu: Gpu) -> Builder:
    """The builder of a target for a device."""
    return Builder.here(target.name, [gpu.compute_capability] if target.ahead_of_time else None)


def targets_of(gpu: Gpu) -> Iterator[Target]:
    """A target of each TensorRT that is installed and fits a device."""
    yield from filter(None, (target_of(package, gpu) for package in ("tensorrt", "tensorrt_rtx")))


def target_of(package: str, gpu: Gpu) -> Target | None:
    """The first target of an installed package that fits a device."""
    try:
        api = load_api(package)
    except BackendError:
        return None
    return next(
        (
            target
            for target in TARGETS.values()
            if target.package == package
            and target.takes_version(api.version)
            and gpu.compute_capability in (target.compute_capabilities or gpu.compute_capability)
        ),
        None,
    )


class ByPlan(CudaBackend):
    """The kernels that the bundle carries, by their plans: without NVRTC and the native engine."""

    def precisions(self, folder: Path, manifest: Manifest) -> list[str]:
        return [name for name in manifest.native if plans_path(folder, name).exists()]

    def make_stepper(
        self, folder: Path, manifest: Manifest, batch: int, options: RunOptions
    ) -> PlannedStepper:
        return planned_stepper(folder, manifest, options.precision, batch, None)


def ways_to_run(report: Report, bundle: Bundle) -> Ways:
    """How the bundle can be run here; first natively, to compare with."""
    backends = {name: backend_named(name) for name in backend_names()} | {"cuda by plan": ByPlan()}
    options: dict[str, dict[str, Any]] = {name: {"backend": backend} for name, backend in backends.items()}
    options["onnxruntime"] |= {"provider": "cuda"}
    report.say("\n## Backends\n")
    ways: Ways = {}
    for name, way in options.items():
        missing = why_no_cuda() if "provider" in way else backends[name].missing()
        known = backends[name].precisions(bundle.path, bundle.manifest)
        precisions = [precision for precision in LIMITS if precision in known]
        report.say(f"- {name}: {missing or ', '.join(precisions) or 'no engine'}")
        if not missing:
            ways |= {f"{name} {precision}": (precision, way) for precision in precisions}
    return ways


def check_parity(report: Report, bundle: Bundle, name: str, precision: str, way: dict[str, Any]) -> None:
    """Recorded streams, rows that restart, by steps and in chunks, against the float64 reference."""
    golden, model, pooling = bundle.golden(), bundle.manifest.model, bundle.manifest.pooling
    sums = [] if pooling is None else pooling.sums(model.d_model)
    steps = min(golden.inputs.shape[-1], bundle.manifest.calibrated_steps(precision) or 10**9)
    for case in stream_cases(len(golden.inputs), steps, pooling, sums, LIMITS[precision]):
        if not case.outputs:
            continue
        for in_chunks in (False, True):
            what = Check(f"{name}, {case.name}{', in chunks' if in_chunks else ''}", "step", "", precision)

            def compare(case: Any = case, in_chunks: bool = in_chunks, what: Check = what) -> None:
                stream = bundle.stream(len(case.streams), precision=precision, **way)
                outputs = roll(stream, case, golden.inputs, in_chunks=in_chunks)
                what.compare(outputs, assemble(golden.stepwise, case.streams, case.steps), over_time=True)
                assert what.passed, what.line()

            report.check(what.name, compare)


def time_floors(report: Report, times: int) -> None:
    """What a step costs before any arithmetic: a launch, its nodes, copies, and each way to wait for them."""
    report.say(f"\n## Floors, µs\n\n{_HEAD}")
    for wait in ("", *WAITS):
        with patch.dict(os.environ, {WAIT: wait}):
            device = CudaDevice()
        for name, nodes in floors_of(device).items():

            def graph(nodes: Callable[[], None] = nodes, device: CudaDevice = device) -> Callable[[], None]:
                return partial(finish, device, device.capture(nodes))

            report.time(f"graph of {name}{wait and f', {wait}'}", graph, times)
        device.close()


def floors_of(device: CudaDevice) -> dict[str, Callable[[], None]]:
    """What to capture, by name."""
    memory, (sample, mapped) = device.allocate(64), device.mapped((16,), np.float32)

    def zero(nodes: int, at: int = memory) -> None:
        for _ in range(nodes):
            device.zero(at, 64)

    def copied() -> None:
        device.upload(memory, sample)
        zero(1)
        device.download(sample, memory)

    return {
        "1 node": partial(zero, 1),
        "20 nodes": partial(zero, 20),
        "1 node and the copies of 64 bytes there and back": copied,
        "1 node on 64 bytes of mapped memory": partial(zero, 1, mapped),
    }


def finish(device: CudaDevice, launch: Callable[[], None]) -> None:
    """Launch and wait."""
    launch()
    device.synchronize()


def timed(work: Callable[[], object], times: int) -> tuple[Timing, Timing]:
    """The time of a call without a pause, and at the rate."""
    calls(work)(times // 10 + 1)
    hot, seconds = Timing.of(calls(work)(times)), np.empty(times // 10 + 1)
    for i in range(len(seconds)):
        time.sleep(1 / RATE)
        seconds[i : i + 1] = calls(work)(1)
    return hot, Timing.of(seconds)


def row(name: str, hot: Timing, paced: Timing) -> str:
    """A row of a table in microseconds."""
    return f"| {name} | {hot.p50 * 1e6:.1f} | {hot.p99 * 1e6:.1f} | {paced.p50 * 1e6:.1f} |"


def time_steps(report: Report, bundle: Bundle, ways: Ways, streams: Sequence[int], times: int) -> None:
    """A step by way and number of streams."""
    report.say(f"\n## Steps, µs\n\n{_HEAD}")
    for name, (precision, way) in ways.items():
        for count in streams:
            step = partial(step_of, bundle, count, precision, way)
            # An engine may be built for fewer streams, and a device have no memory for so many.
            report.time(f"{name}, {count} streams", step, times, allowed=(MultiresError, MemoryError))


def step_of(bundle: Bundle, count: int, precision: str, way: dict[str, Any]) -> Callable[[], object]:
    """A step of new streams."""
    stream = bundle.stream(count, precision=precision, **way)
    return partial(stream.step, random_sample(bundle.manifest, count))


def time_filters(report: Report, target: Target, gpu: Gpu, times: int) -> None:
    """A full graph with its filters as convolutions, a kernel each, and as sums of shifted sequences.

    TensorRT fuses the sums of a layer into one kernel. Only a GPU can tell whether that is faster.
    """
    builder = builder_of(target, gpu)
    x = np.random.default_rng(0).standard_normal((1, PAPER_SIZE.channels, SEQUENCE), np.float32)
    outputs: list[Any] = []
    report.say(f"\n## A sequence of {SEQUENCE} steps by {builder.api.name}, µs\n\n{_HEAD}")
    for name, filters in (("convolutions", full._depthwise), ("sums of shifted sequences", shifted_sums)):

        def time_them(name: str = name, filters: Any = filters) -> None:
            with tempfile.TemporaryDirectory() as folder, patch.object(full, "_depthwise", filters):
                net, form = random_net(PAPER_SIZE), target.forms[0]
                bundle = unproven_bundle(net, Cumulative(), "fp32", form, Path(folder))
                builder.build(builder.plan(bundle, "full", "fp32", {"time": Range(1, SEQUENCE, SEQUENCE)}))
                run_it = partial(bundle.full(backend="tensorrt"), x)
                outputs.append(run_it())
                assert np.allclose(outputs[0], outputs[-1], atol=1e-4)
                report.say(row(f"filters as {name}", *timed(run_it, times)))

        report.check(f"a full graph of {name}", time_them)


def shifted_sums(
    graph: GraphBuilder, x: str, filters: str, shape: tuple[int, ...], dilation: int, name: str
) -> str:
    """In the place of a causal depthwise convolution."""
    terms = []
    for i, delay in enumerate(dilation * i for i in reversed(range(shape[0]))):
        ends = [graph.integers(f"shift/{end}", [end]) for end in (i, i + 1, 2)]
        weight = graph.node("Slice", [filters, *ends], f"{name}/weight{i}")
        weight = graph.node("Squeeze", [weight, ends[2]], f"{name}/column{i}")
        past = f"{x}/shift{delay}" if delay else x
        if not graph.has(past):
            pads = graph.integers(f"shift/pads{delay}", [0, 0, delay, 0, 0, -delay])
            past = graph.node("Pad", [x, pads], past)
        terms.append(graph.node("Mul", [past, weight], f"{name}/term{i}"))
    return graph.node("Sum", terms, name)


if __name__ == "__main__":
    raise SystemExit(main())
