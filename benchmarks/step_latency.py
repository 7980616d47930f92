"""Latency of one step against the alternatives, in one run: one thread, batch 1, float32.

    python -m benchmarks.step_latency [CHECKPOINT] [--steps 1000000]

Without a checkpoint, a network of the size that the paper trains on PTB-XL, with random weights. Every
candidate is first checked against the float64 reference. Trust the ratios, not the microseconds.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from benchmarks.networks import PAPER_SIZE, random_checkpoint
from benchmarks.rivals.c_generator import GeneratedC
from benchmarks.rivals.iree import IreeStep
from benchmarks.rivals.openvino import OpenVinoStep
from benchmarks.rivals.shift_queues import CompiledShiftQueues, ShiftQueues
from benchmarks.rivals.tract_pulse import TractPulse
from multires_edge.export import export_bundle
from multires_edge.export.report import minimum_state_bytes
from multires_edge.models import ModelConfig, MultiresNet, load_checkpoint
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.bench.timing import Timing, calls, time_in_turns


def main() -> None:
    """Export, check, time, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--steps", type=int, default=1_000_000, help="length of the long stream")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = arguments.checkpoint or random_checkpoint(PAPER_SIZE, folder)
        bundle = open_bundle(export_bundle(checkpoint, folder / "bundle").path)
        portable = open_bundle(export_bundle(checkpoint, folder / "portable", target="portable").path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = load_checkpoint(checkpoint)
        compare(net, bundle, portable, folder)
        compare_near_and_far(bundle, arguments.steps)
        compare_state(net.config, bundle)


def compare(net: MultiresNet, bundle: Bundle, portable: Bundle, folder: Path) -> None:
    """A table of all candidates; ``portable`` has the graphs for runtimes that know only opset 17."""
    config = net.config
    graph = bundle.manifest.graph("step", "fp32")
    shift = ShiftQueues(net, folder)
    tract = TractPulse(bundle.path / bundle.manifest.graph("full", "fp32").file, folder)
    portable_step = portable.path / portable.manifest.graph("step", "fp32").file
    iree = IreeStep(portable_step, folder)
    openvino, openvino_16 = (
        OpenVinoStep(portable_step, folder, float32=float32) for float32 in (True, False)
    )
    compiled = CompiledShiftQueues(net)
    generated = GeneratedC(bundle.path / graph.file, folder)
    stream = bundle.stream(backend="onnxruntime")
    native = bundle.stream(backend="native")
    x = np.random.default_rng(0).standard_normal((1, config.d_input or 1, 300), dtype=np.float32)
    reference = net.double()
    wanted = torch.from_numpy(x).double()
    logits, features = reference.stepwise(wanted).numpy(), reference.features(wanted).numpy()
    check("shift queues", shift.step, x, logits)
    check("shift queues, run", shift.step_by_run, x, logits)
    check("tract", tract.step, x, features)
    check("IREE", iree.step, x, logits)
    check("generated C", generated.step, x, logits)
    check("torch.compile", compiled.step, x, logits)
    check("OpenVINO, float32", openvino.step, x, logits)
    check("OpenVINO, by default", openvino_16.step, x, logits, within=2e-2)
    check("ours", stream.step, x, logits)
    check("native", native.step, x, logits)
    sample = np.ascontiguousarray(x[..., 0])
    timings = time_in_turns(
        {
            "shift queues, run": calls(shift.step_by_run, sample),
            "shift queues": calls(shift.step, sample),
            "torch.compile": calls(compiled.step, sample),
            "tract": calls(tract.step, sample),
            "OpenVINO": calls(openvino.step, sample),
            "OpenVINO, 16 bit": calls(openvino_16.step, sample),
            "IREE": calls(iree.step, sample),
            "generated C": calls(generated.step, sample),
            "ours": calls(stream.step, sample),
            "native": calls(native.step, sample),
        }
    )
    ours = timings["ours"].p50
    nodes = len(onnx.load(bundle.path / graph.file).graph.node)
    print(
        f"one step of d_model {config.d_model}, {config.n_layers} layers, K = {config.kernel_size}, ", end=""
    )
    print(f"depth {config.depth}: microseconds, one thread, batch 1, float32")
    print(f"{'':64}{'p50':>9} {'p99':>9}   to ours")
    for name, what in (
        ("shift queues, run", f"ONNX Runtime, a shift queue a layer and scale ({shift.nodes} nodes)"),
        ("shift queues", "  the same with its states bound to buffers in turn"),
        ("torch.compile", "torch.compile, the same shift queues"),
        ("tract", "tract, Pulse on our full graph (without pooling and head)"),
        ("OpenVINO", "OpenVINO, our step graph of opset 17, float32"),
        ("OpenVINO, 16 bit", "  the same by default (16 bit where the CPU has it)"),
        ("IREE", "IREE, our step graph of opset 17"),
        ("generated C", "C by emx-onnx-cgen from our step graph"),
        ("ours", f"ONNX Runtime, our step graph in place ({nodes} nodes)"),
        ("native", "our native engine, from Python"),
    ):
        print(f"{what:64}{microseconds(timings[name])}   {timings[name].p50 / ours:7.2f}")


def microseconds(timing: Timing) -> str:
    """Two columns: median and 99th percentile."""
    return f"{timing.p50 * 1e6:9.1f} {timing.p99 * 1e6:9.1f}"


def check(
    name: str,
    step: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    x: NDArray[np.float32],
    y: NDArray[np.float64],
    within: float = 1e-4,
) -> None:
    """A candidate that computes something else is out of the race."""
    outputs = np.stack([step(np.ascontiguousarray(x[..., t])) for t in range(x.shape[-1])], axis=-1)
    error = np.abs(outputs - y).max() / max(1.0, np.abs(y).max())
    if not error < within:
        raise SystemExit(f"{name} computes something else: error {error:.1e}")


def compare_near_and_far(bundle: Bundle, steps: int) -> None:
    """The cost of a step does not depend on how long the stream has run."""
    near, far = (bundle.stream(backend="onnxruntime") for _ in range(2))
    shape = bundle.manifest.graph("step", "fp32").inputs[0].shape
    random = np.random.default_rng(1)
    samples = random.standard_normal((1, int(shape[1]), 1000), dtype=np.float32)
    for _ in range(steps // 1000):
        far.run(samples)
    near.run(samples[..., :100])
    sample = np.ascontiguousarray(samples[..., 0])
    timings = time_in_turns({"near": calls(near.step, sample), "far": calls(far.step, sample)})
    print(f"{'cost of a step at step 100':64}{microseconds(timings['near'])}")
    print(f"{f'cost of a step at step {steps:,}':64}{microseconds(timings['far'])}", end="   ")
    print(f"{timings['far'].p50 / timings['near'].p50:7.2f} times that at step 100")


def compare_state(config: ModelConfig, bundle: Bundle) -> None:
    """Bytes of state against what no exact float32 stream can do without."""
    held, least = bundle.stream().state_bytes, minimum_state_bytes(config)
    print(f"{'state of one stream, bytes':64}{held:9,}   {held / least:.4f} of the least, {least:,}")


if __name__ == "__main__":
    main()
