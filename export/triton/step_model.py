"""A step graph as Triton takes it: every tensor has an axis beside the batch."""

from __future__ import annotations

import onnx
from onnx import helper

_AXES = "triton/axes"


def with_an_axis(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph; inputs and outputs of shape (batch) become (batch, 1). ``model`` is changed."""
    graph = model.graph
    before, after = [], []
    for value in graph.input:
        if _is_flat(value):
            _read_as(graph, value.name, f"{value.name}/flat")
            before.append(helper.make_node("Squeeze", [value.name, _AXES], [f"{value.name}/flat"]))
    for value in graph.output:
        if _is_flat(value):
            _write_as(graph, value.name, f"{value.name}/flat")
            after.append(helper.make_node("Unsqueeze", [f"{value.name}/flat", _AXES], [value.name]))
    for value in (*graph.input, *graph.output):
        if _is_flat(value):
            value.type.tensor_type.shape.dim.add().dim_value = 1
    if before or after:
        graph.initializer.append(helper.make_tensor(_AXES, onnx.TensorProto.INT64, [1], [1]))
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def _is_flat(value: onnx.ValueInfoProto) -> bool:
    return len(value.type.tensor_type.shape.dim) == 1


def _read_as(graph: onnx.GraphProto, name: str, other: str) -> None:
    for node in graph.node:
        for i, each in enumerate(node.input):
            if each == name:
                node.input[i] = other


def _write_as(graph: onnx.GraphProto, name: str, other: str) -> None:
    """Rename what a node writes, for all that read it."""
    for node in graph.node:
        for names in (node.input, node.output):
            for i, each in enumerate(names):
                if each == name:
                    names[i] = other
