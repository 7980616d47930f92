"""A backend as another package would add it: the bundle's graphs in ONNX's reference evaluator, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.format.manifest import Manifest
from multires_edge.format.specs import GraphSpec, concrete
from multires_edge.runtime.backends.protocol import Backend, Outcome, RunOptions, Stepper, copy_of, index_of


class ReferenceBackend(Backend):
    name = "reference"
    ability = "run the ONNX graphs in numpy"
    checked_as = "reference evaluator"
    runs_graphs = True

    def missing(self) -> str | None:
        return None if find_spec("onnx") else "pip install onnx"

    def load(self) -> None:
        import onnx.reference  # noqa: F401

    def precisions(self, folder: Path, manifest: Manifest) -> list[str]:
        return list(manifest.graphs["step"])

    def make_stepper(
        self, folder: Path, manifest: Manifest, batch: int, options: RunOptions
    ) -> ReferenceStepper:
        return ReferenceStepper(folder, manifest.graph("step", options.precision), batch)

    def make_runner(self, folder: Path, manifest: Manifest, options: RunOptions) -> ReferenceRunner:
        return ReferenceRunner(folder, manifest.graph("full", options.precision))


class ReferenceStepper(Stepper):
    def __init__(self, folder: Path, spec: GraphSpec, batch: int) -> None:
        from onnx.reference import ReferenceEvaluator

        self._session = ReferenceEvaluator(str(folder / spec.file))
        self._spec = spec
        sample, output = spec.inputs[0], spec.outputs[0]
        self.input = np.zeros(concrete(sample.shape, batch), sample.dtype)
        self.output = np.zeros(concrete(output.shape, batch), output.dtype)
        self._states = {s.input: np.zeros(concrete(s.shape, batch), s.dtype) for s in spec.states}

    def step(self) -> int:
        if not np.isfinite(self.input).all():
            return Outcome.BAD_INPUT
        names = [self._spec.outputs[0].name, *(state.output for state in self._spec.states)]
        output, *states = self._session.run(names, {self._spec.inputs[0].name: self.input, **self._states})
        self.output[...] = output
        self._states = {name: np.array(state) for name, state in zip(self._states, states, strict=True)}
        return Outcome.DONE if np.isfinite(self.output).all() else Outcome.BAD_OUTPUT

    def run(self, samples: NDArray[Any]) -> NDArray[Any]:
        outputs = np.empty((len(samples), *self.output.shape), self.output.dtype)
        for t, sample in enumerate(samples):
            self.input[...] = sample
            self.step()
            outputs[t] = self.output
        return outputs

    def reset(self, rows: Sequence[int] | None) -> None:
        for state in self._states.values():
            state[index_of(rows)] = 0

    def read_state(self, rows: Sequence[int] | None = None) -> dict[str, NDArray[Any]]:
        return {name: copy_of(state, rows) for name, state in self._states.items()}

    def write_state(self, arrays: dict[str, NDArray[Any]], rows: Sequence[int] | None = None) -> None:
        for name, state in self._states.items():
            state[index_of(rows)] = arrays[name]


class ReferenceRunner:
    def __init__(self, folder: Path, spec: GraphSpec) -> None:
        from onnx.reference import ReferenceEvaluator

        self._session: Any = ReferenceEvaluator(str(folder / spec.file))

    def run(self, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        output: NDArray[Any] = self._session.run(None, feeds)[0]
        return output
