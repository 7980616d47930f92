"""Whole sequences against the alternatives, in one run: one thread, batch 1.

    python -m benchmarks.whole_sequences [--samples 1000] [--rounds 20]

A network of the size that the paper trains on PTB-XL, with random weights. The error of every candidate is
that of its outputs after the last sample against the float64 reference. Trust the ratios, not the times.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.networks import PAPER_SIZE, random_checkpoint
from benchmarks.rivals.iree import IreeFull
from benchmarks.rivals.openvino import OpenVinoFull
from multires_edge.export import Int8Options, export_bundle
from multires_edge.models import MultiresNet, load_checkpoint
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.bench.timing import Budget, calls, time_in_turns

Candidate = Callable[[NDArray[np.float32]], NDArray[np.float32]]
ROUNDS = 20


def main() -> None:
    """Export, time, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000, help="length of a sequence")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns that each candidate has")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert PAPER_SIZE.d_input is not None
        data = folder / "calibration.npz"
        np.savez(data, x=random.standard_normal((4, PAPER_SIZE.d_input, 1000), dtype=np.float32))
        checkpoint = random_checkpoint(PAPER_SIZE, folder)
        exported = export_bundle(
            checkpoint, folder / "bundle", precisions=("fp32", "fp16", "int8"), int8=Int8Options(data=data)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = load_checkpoint(checkpoint)
        x = random.standard_normal((1, PAPER_SIZE.d_input, arguments.samples), dtype=np.float32)
        compare(candidates(net, open_bundle(exported.path), x, folder), net, x, arguments.rounds)


def candidates(
    net: MultiresNet, bundle: Bundle, x: NDArray[np.float32], folder: Path
) -> dict[str, Candidate]:
    """Each takes x (1, d_input, samples) and gives the outputs after the last sample, (1, d_output)."""

    def on_torch(module: Callable[[torch.Tensor], torch.Tensor]) -> Candidate:
        def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                logits: NDArray[np.float32] = module(torch.from_numpy(x)).numpy()
            return logits

        return run

    graph = bundle.path / bundle.manifest.graph("full", "fp32").file
    shape = (1, x.shape[1], x.shape[2])
    found: dict[str, Candidate] = {}
    for precision in ("fp32", "fp16", "int8"):
        found[f"native engine, {precision}"] = bundle.full(backend="native", precision=precision, threads=1)
    for precision in ("fp32", "int8"):
        found[f"ONNX Runtime, full graph, {precision}"] = bundle.full(
            backend="onnxruntime", precision=precision, threads=1, provider="cpu"
        )
    found["OpenVINO, full graph, float32"] = OpenVinoFull(graph, shape, float32=True)
    found["OpenVINO, full graph, by default"] = OpenVinoFull(graph, shape, float32=False)
    found["IREE, full graph"] = IreeFull(graph, folder, steps=x.shape[2])
    found["torch"] = on_torch(net)
    found["torch.compile"] = on_torch(torch.compile(net))
    return found


def compare(found: dict[str, Candidate], net: MultiresNet, x: NDArray[np.float32], rounds: int) -> None:
    """A table of all candidates."""
    outputs = {name: candidate(x) for name, candidate in found.items()}
    timings = time_in_turns(
        {name: calls(candidate, x) for name, candidate in found.items()}, Budget(rounds=rounds)
    )
    with torch.inference_mode():
        wanted = net.double()(torch.from_numpy(x).double()).numpy()
    ours = timings["native engine, fp32"].p50
    print(f"{f'{x.shape[2]:,} samples, one thread':44}{'ms':>8}{'to ours':>10}{'error':>10}")
    for name, timing in timings.items():
        error = np.abs(outputs[name] - wanted).max() / max(1.0, np.abs(wanted).max())
        print(f"{name:44}{timing.p50 * 1e3:8.2f}{timing.p50 / ours:10.2f}{error:10.1e}")


if __name__ == "__main__":
    main()
