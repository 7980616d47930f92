"""An ONNX graph for one row: who compiles ahead of time wants to know every size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx


def with_fixed_shape(graph: Path, output: Path, *, steps: int = 1) -> onnx.ModelProto:
    """The graph with batch 1 and, where it has a time axis, ``steps`` steps; also written to ``output``."""
    model = onnx.load(graph)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = steps if dim.dim_param == "time" else 1
    # The stored shapes speak of the open sizes.
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model)
    onnx.save(model, output)
    return model


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The sizes of an input or output, all known."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def dtype_of(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """The dtype of an input or output."""
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
