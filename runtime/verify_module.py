"""Compare the bundle of a user's own module with its recorded reference, on this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.comparison import Check
from multires_edge.format.module import ModuleConfig
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.state import StreamState

Arrays = dict[str, NDArray[Any]]


def verify_module(bundle: Bundle, form: str) -> list[Check]:
    """The checks of a bundle that has the graphs of one form alone; ``form`` precedes their names."""
    golden, network = bundle.module_golden(), bundle.manifest.network
    assert isinstance(network, ModuleConfig)
    rows, steps = golden.rows, golden.steps
    half = steps // 2

    full = Check(f"{form}full graph", "full", f"{rows} rows of {steps} steps", "fp32")
    compare(full, run_full(bundle, golden.inputs), golden.full)

    stream = bundle.stream(rows, backend="onnxruntime")
    step = Check(f"{form}step graph, every prefix", "step", f"{rows} rows of {steps} steps", "fp32")
    early, late = part(golden.stepwise, 0, half), part(golden.stepwise, half, steps)
    compare(step, run_stream(stream, network, part(golden.inputs, 0, half)), early, over_time=True)
    saved = stream.save_state().to_bytes()
    rest = part(golden.inputs, half, steps)
    compare(step, run_stream(stream, network, rest), late, start=half, over_time=True)

    resumed = Check(f"{form}step graph, resumed", "step", f"saved and loaded at step {half}", "fp32")
    other = bundle.stream(rows, backend="onnxruntime")
    other.load_state(StreamState.from_bytes(saved))
    compare(resumed, run_stream(other, network, rest), late, start=half, over_time=True)

    restarted = Check(f"{form}step graph, one row restarted", "step", "the other rows continue", "fp32")
    stream.reset(rows=[rows - 1])
    again = run_stream(stream, network, part(golden.inputs, 0, half))
    last = slice(rows - 1, rows)
    compare(
        restarted,
        {name: array[last] for name, array in again.items()},
        {name: array[last] for name, array in early.items()},
        over_time=True,
    )
    return [full, step, resumed, restarted]


def run_full(bundle: Bundle, inputs: Arrays) -> Arrays:
    """The outputs of the full graph by name, on one thread of the CPU."""
    network = bundle.manifest.network
    assert isinstance(network, ModuleConfig)
    full = bundle.full(backend="onnxruntime", provider="cpu", threads=1)
    return _by_name(network, full(_given(network, inputs)))


def run_stream(stream: Any, network: ModuleConfig, inputs: Arrays) -> Arrays:
    """The outputs of a stream for a chunk, by name."""
    return _by_name(network, stream.run(_given(network, inputs)))


def part(arrays: Arrays, start: int, end: int) -> Arrays:
    """Steps ``start`` to ``end`` of arrays whose last axis is time."""
    return {name: np.ascontiguousarray(array[..., start:end]) for name, array in arrays.items()}


def compare(
    check: Check, outputs: Arrays, reference: Arrays, *, start: int = 0, over_time: bool = False
) -> None:
    """Add every output to a check."""
    for name, array in reference.items():
        if array.size:
            check.compare(outputs[name], array, start=start, over_time=over_time)


def _given(network: ModuleConfig, inputs: Arrays) -> Any:
    return next(iter(inputs.values())) if network.is_plain else inputs


def _by_name(network: ModuleConfig, outputs: Any) -> Arrays:
    return {network.outputs[0].name: outputs} if network.is_plain else outputs
