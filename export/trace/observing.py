"""The values of a program on data: its float32 graph in ONNX Runtime, with these values as outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from multires_edge.export.trace.program import Program
from multires_edge.export.trace.whole_graph import WholeGraph
from multires_edge.format.targets import GraphForm
from multires_edge.runtime.backends.providers import load_onnxruntime

Arrays = dict[str, NDArray[Any]]


class Observer:
    """Runs a program on whole sequences, and gives some of its float values by their names."""

    def __init__(self, program: Program, form: GraphForm, values: Collection[str]) -> None:
        graph = WholeGraph(program, form)
        model = graph.build()
        self._places = {name: graph.names[name] for name in values}
        given = {tensor.name for tensor in model.graph.input}
        self._inputs = given & set(self._places.values())
        known = {tensor.name for tensor in model.graph.output}
        for name in sorted(set(self._places.values()) - known - given):
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        self._session = in_memory(model.SerializeToString())

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """The values for inputs (batch, ..., time)."""
        wanted = sorted(set(self._places.values()) - self._inputs)
        results = self._session.run(wanted, dict(inputs)) if wanted else []
        found = {**inputs, **dict(zip(wanted, results, strict=True))}
        return {name: np.asarray(found[place]) for name, place in self._places.items()}


def in_memory(model: bytes) -> Any:
    """A session of a graph that is in no file, on one thread of the CPU."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
