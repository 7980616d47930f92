"""Running graphs by plain ONNX Runtime: zeros in, outputs fed back."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from multires_edge.export.graphs.step import StepGraph

# ONNX Runtime says at each step that a state which is not bound in place is copied.
_ERRORS_ONLY = 3


def session(model: bytes) -> ort.InferenceSession:
    """A session on the CPU that keeps its warnings to itself."""
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Steps:
    """A step graph with its states as numpy arrays, to be read and changed between steps."""

    def __init__(self, step: StepGraph, rows: int) -> None:
        self.session = session(step.model.SerializeToString())
        self.specs = step.states
        self.input = self.session.get_inputs()[0].name
        self.names = [self.session.get_outputs()[0].name, *(s.output for s in step.states)]
        self.states: dict[str, NDArray[Any]] = {
            s.input: np.zeros((rows, *map(int, s.shape[1:])), s.dtype) for s in step.states
        }

    def run(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Feed inputs (rows, ..., time); the output of each step, (rows, d_output, time)."""
        outputs = []
        for t in range(inputs.shape[-1]):
            feeds = {self.input: np.ascontiguousarray(inputs[..., t]), **self.states}
            y, *states = self.session.run(self.names, feeds)
            self.states = dict(zip(self.states, states, strict=True))
            outputs.append(y)
        return np.stack(outputs, axis=-1)
