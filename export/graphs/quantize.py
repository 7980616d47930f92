"""How both graphs round values to int8 levels: a scale for each channel, saturating, half to even.

The scales are a product of their own in front of a quantisation with scale 1. ONNX would take a scale
for each channel there, but TensorRT takes one for a whole activation, and fuses the product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multires_edge.export.graphs.builder import GraphBuilder


def to_levels(graph: GraphBuilder, x: str, scales: NDArray[np.float32], name: str) -> str:
    """round(x / scales), from -128 to 127, int8; the scales' shape is broadcast to x's."""
    per_unit = graph.weight(f"{name}/levels_per_unit", 1 / scales)
    scaled = graph.node("Mul", [x, per_unit], f"{name}/scaled")
    zero = graph.constant("int8/zero", np.zeros((), np.int8))
    doc = "saturates, half to even"
    return graph.node("QuantizeLinear", [scaled, _one(graph), zero], f"{name}/levels", dtype=np.int8, doc=doc)


def as_float(graph: GraphBuilder, levels: str, name: str) -> str:
    """int8 levels as float32 numbers; what one is worth is in the weights that read them."""
    return graph.node("DequantizeLinear", [levels, _one(graph)], name, dtype=np.float32)


def _one(graph: GraphBuilder) -> str:
    return graph.constant("int8/one", np.ones((), np.float32))
