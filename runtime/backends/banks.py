"""Streams of a module of the user's own whose filters of single channels the native engine computes.

The engine has the rings of all banks, and forms the sums over their rows in one call. These sums do not
depend on the sample of the step, so that :meth:`BankedStepper.prepare` forms them while the program waits.
One graph in ONNX Runtime, the sums graph, computes the rest.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.base.memory import available_memory
from multires_edge.format.arrays import all_finite, holds_good_values, read_npz
from multires_edge.format.manifest import Manifest
from multires_edge.format.specs import GraphSpec, StateSpec
from multires_edge.runtime.backends.onnxruntime import OnnxRuntimeStepper, in_runnable_form
from multires_edge.runtime.backends.protocol import Outcome, RunOptions, Stepper, copy_of, index_of
from multires_edge.runtime.bundle_files import read_file

if TYPE_CHECKING:
    from multires_edge.runtime.backends import _native

Arrays = dict[str, NDArray[Any]]
_PARTS = ("weights", "bias", "terms", "factors", "row_bias")  # of a bank, in the order of Banks.add


class BankedStepper(Stepper):
    """Streams of a sums graph. ``rings`` are the arrays of its rings, by the states of the step graph."""

    def __init__(
        self,
        graph: OnnxRuntimeStepper,
        spec: GraphSpec,
        banks: _native.Banks,
        rings: Arrays,
        n_tokens: int | None,
    ) -> None:
        self._graph, self._banks, self._rings, self._n_tokens = graph, banks, rings, n_tokens
        ports = {name for bank in spec.banks for name in (bank.taps, bank.pushes)}
        self.inputs = {name: array for name, array in graph.inputs.items() if name not in ports}
        self.outputs = {name: array for name, array in graph.outputs.items() if name not in ports}
        self.input, self.output = graph.input, graph.output
        self._summed = self._owes = False

    def step(self) -> int:
        if not holds_good_values(self.input, self._n_tokens):
            return Outcome.BAD_INPUT
        self._feed()
        return Outcome.DONE if holds_good_values(self.output) else Outcome.BAD_OUTPUT

    def _feed(self) -> None:
        self.commit()
        prepared, self._summed = self._summed, False
        if not prepared:
            self._banks.sum()
        self._graph.feed()
        if prepared:
            self._owes = True
        else:
            self._banks.push()

    def prepare(self) -> None:
        self.commit()
        if not self._summed:
            self._banks.sum()
            self._summed = True

    def commit(self) -> None:
        if self._owes:
            self._banks.push()
            self._owes = False

    def run(self, samples: NDArray[Any]) -> NDArray[Any]:
        outputs = np.empty((len(samples), *self.output.shape), self.output.dtype)
        for t, sample in enumerate(samples):
            self.input[...] = sample
            self._feed()
            outputs[t] = self.output
        return outputs

    def reset(self, rows: Sequence[int] | None) -> None:
        self.commit()
        self._summed = False
        self._graph.reset(rows)
        for row in range(len(self._banks.position)) if rows is None else rows:
            self._banks.reset(row)

    def read_state(self, rows: Sequence[int] | None = None) -> Arrays:
        self.commit()
        rings = {name: copy_of(array, rows) for name, array in self._rings.items()}
        return self._graph.read_state(rows) | rings

    def write_state(self, arrays: Arrays, rows: Sequence[int] | None = None) -> None:
        self.commit()
        self._summed = False
        self._graph.write_state(arrays, rows)
        self._banks.position[index_of(rows)] = arrays["position"]
        for name, ring in self._rings.items():
            ring[index_of(rows)] = arrays[name]


def make_banked(
    engine: Any, folder: Path, manifest: Manifest, batch: int, options: RunOptions
) -> BankedStepper:
    """Streams in the native engine ``engine``. Raises BackendError without a sums graph, or BundleError."""
    runnable = in_runnable_form(manifest)
    spec = runnable.graphs.get("sums", {}).get(options.precision)
    if spec is None or spec.factors is None:
        has = ", ".join(runnable.graphs.get("sums", {})) or "none"
        raise BackendError(
            f"the native engine has no filters of this module in {options.precision!r}; it has: {has}. Use "
            "backend onnxruntime"
        )
    states = {state.input: state for state in runnable.graph("step", options.precision).states}
    _check_memory(spec, states, batch)
    graph = OnnxRuntimeStepper(folder, spec, batch, options, manifest.network.n_tokens)
    path, banks = folder / spec.factors.file, engine.Banks(batch)
    arrays = _read(folder, spec)
    rings: Arrays = {}
    for number, bank in enumerate(spec.banks):
        sizes = [(ring.slots, ring.delays[0], len(ring.delays)) for ring in bank.rings]
        parts = [arrays.get(f"{bank.taps}/{key}") for key in _PARTS]
        try:
            sums, sources = graph.inputs[bank.taps], graph.outputs[bank.pushes]
            banks.add(np.array(sizes, np.int64), *parts, sums, sources)
        except (ValueError, TypeError) as error:
            raise BundleError(
                f"{path}: does not fit {spec.file} ({error}); export the module again"
            ) from error
        rings |= {ring.state: banks.ring(number, i) for i, ring in enumerate(bank.rings)}
    return BankedStepper(graph, spec, banks, rings, manifest.network.n_tokens)


def _read(folder: Path, spec: GraphSpec) -> Arrays:
    assert spec.factors is not None
    name = spec.factors.file
    try:
        arrays = read_npz(io.BytesIO(read_file(folder, name, spec.factors.sha256)))
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder / name}: cannot be read ({error}); export the module again") from error
    if not all(all_finite(array) for array in arrays.values() if array.dtype.kind == "f"):
        raise BundleError(f"{folder / name}: has NaN or infinite factors; export the module again")
    return arrays


def _check_memory(spec: GraphSpec, states: dict[str, StateSpec], batch: int) -> None:
    """Raise MemoryError if the rings do not fit in memory."""
    each = sum(states[ring.state].row_bytes for bank in spec.banks for ring in bank.rings)
    if each * batch > available_memory():
        raise MemoryError
