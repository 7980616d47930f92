"""OpenVINO on our graphs, on one thread, in float32 or in the precision that it chooses for the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from benchmarks.rivals.fixed_shape import dtype_of, shape_of, with_fixed_shape


class OpenVinoFull:
    """The full graph at one fixed shape, which is its fastest form."""

    def __init__(self, full_graph: Path, shape: tuple[int, int, int], *, float32: bool) -> None:
        model = openvino.Core().read_model(full_graph)
        model.reshape({0: list(shape)})
        self._request = _compiled(model, float32=float32).create_infer_request()

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """x (batch, d_input, steps) to logits."""
        logits: NDArray[np.float32] = self._request.infer({0: x})[0].copy()
        return logits


class OpenVinoStep:
    """The step graph in opset 17, which OpenVINO reads. Its states are in two sets of arrays, in turn."""

    def __init__(self, step_graph: Path, folder: Path, *, float32: bool) -> None:
        path = folder / "fixed.onnx"
        graph = with_fixed_shape(step_graph, path).graph
        compiled = _compiled(openvino.Core().read_model(path), float32=float32)
        _, *states = graph.input
        self._x = np.zeros(shape_of(graph.input[0]), np.float32)
        self._logits = np.zeros(shape_of(graph.output[0]), np.float32)
        sets = [
            {state.name: openvino.Tensor(np.zeros(shape_of(state), dtype_of(state))) for state in states}
            for _ in range(2)
        ]
        self._requests = [compiled.create_infer_request() for _ in range(2)]
        for request, old, new in zip(self._requests, sets, reversed(sets), strict=True):
            request.set_tensor(graph.input[0].name, openvino.Tensor(self._x, shared_memory=True))
            request.set_tensor(graph.output[0].name, openvino.Tensor(self._logits, shared_memory=True))
            for state in states:
                request.set_tensor(state.name, old[state.name])
                request.set_tensor(f"next_{state.name}", new[state.name])
        self._turn = 0

    def step(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feed one sample (1, d_input); logits (1, d_output)."""
        self._x[...] = x
        self._requests[self._turn].infer()
        self._turn = 1 - self._turn
        return self._logits.copy()


def _compiled(model: openvino.Model, *, float32: bool) -> openvino.CompiledModel:
    options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if float32:
        options["INFERENCE_PRECISION_HINT"] = "f32"
    return openvino.Core().compile_model(model, "CPU", options)
