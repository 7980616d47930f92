"""The native engine against ONNX Runtime and against what the machine can do, in one run, on one thread.

    python -m benchmarks.native_engine [CHECKPOINT] [--rounds N]

Without a checkpoint, a network of the size that the paper trains on PTB-XL, with random weights. Every
candidate is first checked against the float64 reference. Each line has the figure that the project asks
of itself beside the one that was measured. Trust the ratios, not the microseconds.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from benchmarks.networks import PAPER_SIZE, random_checkpoint
from benchmarks.rivals.shift_queues import ShiftQueues
from benchmarks.step_latency import check, microseconds
from multires_edge.export import export_bundle
from multires_edge.models import MultiresNet, load_checkpoint
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.backends.native import load_engine, open_weights
from multires_edge.runtime.bench.candidate import random_inputs, timed_steps
from multires_edge.runtime.bench.paced import paced_steps
from multires_edge.runtime.bench.roofline import Roofline
from multires_edge.runtime.bench.timing import Budget, TimedCalls, Timing, calls, time_in_turns

TOGETHER = 64
SAMPLES = 1000
CHUNK = 50

NAMES = {
    "native": "native engine, one step, from C++",
    "python": "native engine, one step, from Python",
    "answer": "native engine, from a sample to its outputs after stream.prepare",
    "cold": "native engine, one step after other work",
    "cold answer": "native engine, from a sample to its outputs after other work",
    "step.onnx": "ONNX Runtime, step.onnx, states in place",
    "shift queues": "ONNX Runtime, a shift queue a layer and scale, session.run",
    "together": f"native engine, {TOGETHER} streams in one call",
    "apart": f"native engine, {TOGETHER} calls of one stream each",
    "64 run": f"native engine, {TOGETHER} streams, {CHUNK} samples by stream.run",
    "64 run on 2": "native engine, the same on two threads",
    "run": f"native engine, {SAMPLES:,} samples by stream.run",
    "native full": f"native engine, {SAMPLES:,} samples by bundle.full",
    "full.onnx": f"ONNX Runtime, full.onnx, {SAMPLES:,} samples",
    "read": "reading a step's weights and taps once",
}


def main() -> None:
    """Export, check, time, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=40, help="turns that each candidate has")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = arguments.checkpoint or random_checkpoint(PAPER_SIZE, folder)
        bundle = open_bundle(export_bundle(checkpoint, folder / "bundle").path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = load_checkpoint(checkpoint)
        roofline = Roofline(open_weights(bundle.path, bundle.manifest, "fp32"))
        timed = candidates(net, bundle, folder) | roofline.timed_calls()
        timings = time_in_turns(timed, Budget(rounds=arguments.rounds))
        print_times(timings)
        print_figures(timings, roofline)


def candidates(net: MultiresNet, bundle: Bundle, folder: Path) -> dict[str, TimedCalls]:
    """All that is timed, by the keys of NAMES."""
    shift = ShiftQueues(net, folder)
    native, step = bundle.stream(backend="native"), bundle.stream(backend="onnxruntime")
    native_full = bundle.full(backend="native", threads=1)
    full = bundle.full(backend="onnxruntime", threads=1, provider="cpu")
    x = random_inputs(bundle.manifest, 1, 300)
    logits = net.double().stepwise(torch.from_numpy(x).double()).numpy()
    check("shift queues", shift.step_by_run, x, logits)
    check("step.onnx", step.step, x, logits)
    check("native engine", native.step, x, logits)
    check("full.onnx", lambda _: full(x), x[..., :1], logits[..., -1:])
    check("native engine, full", lambda _: native_full(x), x[..., :1], logits[..., -1:])
    sample = np.ascontiguousarray(x[..., 0])
    sequence = random_inputs(bundle.manifest, 1, SAMPLES)
    chunk = random_inputs(bundle.manifest, TOGETHER, CHUNK)
    paced = paced_steps(bundle.stream(backend="native"), sample)
    one, two = (bundle.stream(TOGETHER, backend="native", threads=threads) for threads in (1, 2))
    return {
        "native": engine_steps(bundle, 1),
        "python": calls(native.step, sample),
        "step.onnx": calls(step.step, sample),
        "shift queues": calls(shift.step_by_run, sample),
        **{kind: paced[kind] for kind in ("answer", "cold", "cold answer")},
        "64 run": calls(one.run, chunk),
        "64 run on 2": calls(two.run, chunk),
        "together": engine_steps(bundle, 1, batch=TOGETHER),
        "apart": engine_steps(bundle, TOGETHER),
        "run": calls(native.run, sequence),
        "native full": calls(native_full, sequence),
        "full.onnx": calls(full, sequence),
    }


def engine_steps(bundle: Bundle, count: int, batch: int = 1) -> TimedCalls:
    """A step of each of ``count`` states, one after the other, timed inside the engine."""
    engine = load_engine()
    model = open_weights(bundle.path, bundle.manifest, "fp32")
    states = [engine.State(model, batch) for _ in range(count)]
    return timed_steps(lambda samples: engine.time_steps(states, samples), bundle.manifest, batch)


def print_times(timings: dict[str, Timing]) -> None:
    """What was measured."""
    print(f"{'microseconds, one thread, float32':64}{'p50':>9} {'p99':>9}")
    for name, what in NAMES.items():
        print(f"{what:64}{microseconds(timings[name])}")


def print_figures(timings: dict[str, Timing], roofline: Roofline) -> None:
    """What was asked for, beside what came out."""
    p50 = {name: timing.p50 for name, timing in timings.items()}
    bound = roofline.to_json(timings)
    compute = bound["compute_seconds"]
    print(
        f"\n{bound['isa']}: {bound['bytes_per_second'] / 1e9:.0f} GB/s, "
        f"{bound['multiply_adds_per_second'] / 1e9:.1f} G multiply-adds/s; a step reads "
        f"{roofline.read_bytes:,} bytes and does {bound['multiply_adds']:,} multiply-adds"
    )
    print(f"{'':64}{'measured':>9}   asked")
    for what, figure, asked in (
        ("step: times faster than step.onnx", p50["step.onnx"] / p50["native"], "at least 10"),
        ("step: times faster than shift queues", p50["shift queues"] / p50["native"], "at least 80"),
        ("step: time over the roofline", p50["native"] / bound["seconds"], "at most 2.5, aim 1.5"),
        ("sample to outputs: times faster than a step", p50["python"] / p50["answer"], "at least 1.25"),
        ("the same after other work", p50["cold"] / p50["cold answer"], "at least 2.5"),
        (
            f"{TOGETHER} streams on two threads: times faster than on one",
            p50["64 run"] / p50["64 run on 2"],
            "at least 1.9",
        ),
        ("step: microseconds that Python adds", (p50["python"] - p50["native"]) * 1e6, "at most 3"),
        (
            f"{TOGETHER} streams in one call: times faster than {TOGETHER} calls",
            p50["apart"] / p50["together"],
            "at least 1.8, aim 2.5",
        ),
        (
            f"{TOGETHER} streams in one call: time over the multiply-add peak",
            p50["together"] / (TOGETHER * compute),
            "",
        ),
        (
            f"{SAMPLES:,} samples: times faster than full.onnx",
            p50["full.onnx"] / p50["run"],
            "at least 4",
        ),
        (
            f"{SAMPLES:,} samples by bundle.full: times faster than full.onnx",
            p50["full.onnx"] / p50["native full"],
            "",
        ),
        (
            f"{SAMPLES:,} samples: what the multiply-add peak would allow",
            p50["full.onnx"] / (SAMPLES * compute),
            "",
        ),
    ):
        print(f"{what:64}{figure:9.2f}   {asked}".rstrip())


if __name__ == "__main__":
    main()
