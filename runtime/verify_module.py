"""Compare the bundle of a user's own module with its recorded reference, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.comparison import Check
from multires_edge.format.module import ModuleConfig, ModuleGolden
from multires_edge.runtime.backends.protocol import Backend
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.state import StreamState

Arrays = dict[str, NDArray[Any]]


def verify_module(bundle: Bundle, form: str, backends: Callable[[str], Sequence[Backend]]) -> list[Check]:
    """The checks of a bundle that has the graphs of one form alone; ``form`` precedes their names.

    ``backends(precision)`` are those that run them.
    """
    golden, checks = bundle.module_golden(), []
    for precision in bundle.manifest.graphs["full"]:
        calibrated = bundle.manifest.calibrated_steps(precision)
        recorded = golden if calibrated is None else golden.first(calibrated, network_of(bundle))
        prefix = form if precision == "fp32" else f"{form}{precision}: "
        what = f"{recorded.rows} rows of {recorded.steps} steps"
        full = Check(f"{prefix}full graph", "full", what, precision)
        compare(full, run_full(bundle, recorded.inputs, precision), recorded.full)
        checks.append(full)
        for backend in backends(precision):
            checks += _verify_streams(bundle, recorded, backend, prefix, precision)
    return checks


def _verify_streams(
    bundle: Bundle, golden: ModuleGolden, backend: Backend, prefix: str, precision: str
) -> list[Check]:
    network, rows, steps = network_of(bundle), golden.rows, golden.steps
    half, what = steps // 2, f"{prefix}{backend.checked_as}"
    stream = bundle.stream(rows, backend=backend, precision=precision)
    step = Check(f"{what}, every prefix", "step", f"{rows} rows of {steps} steps", precision)
    early, late = part(golden.stepwise, 0, half), part(golden.stepwise, half, steps)
    compare(step, run_stream(stream, network, part(golden.inputs, 0, half)), early, over_time=True)
    saved = stream.save_state().to_bytes()
    rest = part(golden.inputs, half, steps)
    compare(step, run_stream(stream, network, rest), late, start=half, over_time=True)

    resumed = Check(f"{what}, resumed", "step", f"saved and loaded at step {half}", precision)
    other = bundle.stream(rows, backend=backend, precision=precision)
    other.load_state(StreamState.from_bytes(saved))
    compare(resumed, run_stream(other, network, rest), late, start=half, over_time=True)

    restarted = Check(f"{what}, one row restarted", "step", "the other rows continue", precision)
    stream.reset(rows=[rows - 1])
    again = run_stream(stream, network, part(golden.inputs, 0, half))
    last = slice(rows - 1, rows)
    compare(
        restarted,
        {name: array[last] for name, array in again.items()},
        {name: array[last] for name, array in early.items()},
        over_time=True,
    )
    return [step, resumed, restarted]


def run_full(bundle: Bundle, inputs: Arrays, precision: str = "fp32") -> Arrays:
    """The outputs of the full graph by name, on one thread of the CPU."""
    full = bundle.full(backend="onnxruntime", precision=precision, provider="cpu", threads=1)
    network = network_of(bundle)
    return _by_name(network, full(_given(network, inputs)))


def run_stream(stream: Any, network: ModuleConfig, inputs: Arrays) -> Arrays:
    """The outputs of a stream for a chunk, by name."""
    return _by_name(network, stream.run(_given(network, inputs)))


def network_of(bundle: Bundle) -> ModuleConfig:
    """The user's own module of a bundle."""
    assert isinstance(bundle.manifest.network, ModuleConfig)
    return bundle.manifest.network


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
