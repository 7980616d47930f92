"""Quantization to int8 in both graphs: a scale per channel, saturating, half to even.

A separate product applies the scales before a quantization with scale 1. ONNX would accept a scale per
channel there, but TensorRT accepts one per activation, and fuses the product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multires_edge.export.graph_builder import GraphBuilder


def to_levels(graph: GraphBuilder, x: str, scales: NDArray[np.float32], name: str) -> str:
    """round(x / scales) in int8, from -128 to 127; ``scales`` are broadcast to x."""
    per_unit = graph.weight(f"{name}/levels_per_unit", 1 / scales)
    scaled = graph.node("Mul", [x, per_unit], f"{name}/scaled")
    zero = graph.constant("int8/zero", np.zeros((), np.int8))
    doc = "saturates, half to even"
    return graph.node("QuantizeLinear", [scaled, _one(graph), zero], f"{name}/levels", dtype=np.int8, doc=doc)


def as_float(graph: GraphBuilder, levels: str, name: str) -> str:
    """int8 levels as float32 integers; the weights that read them contain the scales."""
    return graph.node("DequantizeLinear", [levels, _one(graph)], name, dtype=np.float32)


def _one(graph: GraphBuilder) -> str:
    return graph.constant("int8/one", np.ones((), np.float32))
