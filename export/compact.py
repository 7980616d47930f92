"""Make the file of a graph smaller, without a change in its results.

The float32 graph is made for viewers: it has the shape of every value and a description of every node.
Graphs of other precisions have the same values with the same names. They have no inferred shapes, one
description per kind of node, and no node names that equal the output. Constants that float16 represents
exactly are stored as float16, with a cast that every runtime folds.
"""

from __future__ import annotations

import re

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_WORTH_A_CAST = 64  # values; for fewer, the cast takes more bytes than it saves


def compact(model: onnx.ModelProto) -> None:
    """Drop inferred shapes, repeated descriptions and node names in place, and store constants as float16."""
    del model.graph.value_info[:]
    said: set[str] = set()
    for node in model.graph.node:
        kind = re.sub(r"\d+", "", node.doc_string)
        if kind in said:
            node.ClearField("doc_string")
        said.add(kind)
        if node.name == node.output[0]:
            node.ClearField("name")
    _halve_constants(model.graph)


def fits_float16(values: NDArray[np.floating]) -> bool:
    """Whether float16 represents every value exactly."""
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16) == values).all())


def _halve_constants(graph: onnx.GraphProto) -> None:
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _WORTH_A_CAST or not fits_float16(values):
            continue
        stored = f"{tensor.name}.float16"
        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
