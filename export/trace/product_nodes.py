"""Products of a value's channels with a matrix, in floating point or int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from multires_edge.export.linear import QuantizedLinear
from multires_edge.export.trace.nodes import Nodes


def affine(
    nodes: Nodes, value: str, rank: int, weight: torch.Tensor, bias: torch.Tensor | None, name: str
) -> str:
    """The product of the last axis with a weight (out, in), and a bias (out,).

    ``name`` is that of the instruction.
    """
    graph = nodes.graph
    offsets = [] if bias is None else [nodes.weight(f"{name}/bias", bias)]
    quantized = nodes.precision.products.get(name)
    if quantized is not None:
        value = nodes.through_int8(value, quantized.input_scales)
    if rank == 2:
        factor = (
            nodes.weight(f"{name}/weight", weight)
            if quantized is None
            else int8_weight(nodes, quantized, quantized.weight, 0, name)
        )
        return graph.node("Gemm", [value, factor, *offsets], name, transB=1)
    factor = (
        nodes.weight(f"{name}/weight", weight.T)
        if quantized is None
        else int8_weight(nodes, quantized, quantized.weight.T, 1, name)
    )
    if not offsets:
        return graph.node("MatMul", [value, factor], name)
    return graph.node("Add", [graph.node("MatMul", [value, factor], f"{name}/product"), *offsets], name)


def left_product(nodes: Nodes, value: str, weight: torch.Tensor, name: str) -> str:
    """A weight (out, in) times a value (..., in, time)."""
    quantized = nodes.precision.products.get(name)
    if quantized is None:
        return nodes.graph.node("MatMul", [nodes.weight(f"{name}/weight", weight), value], name)
    value = nodes.through_int8(value, quantized.input_scales[:, None])
    factor = int8_weight(nodes, quantized, quantized.weight, 0, name)
    return nodes.graph.node("MatMul", [factor, value], name, dtype=np.float32)


def convolved(nodes: Nodes, value: str, weight: torch.Tensor, name: str, known_as: str) -> list[str]:
    """The first two inputs of a convolution over (batch, channels, ..., time).

    The weight is (out, channels, taps, ...), under the name ``known_as`` in floating point.
    """
    quantized = nodes.precision.products.get(name)
    if quantized is None:
        return [value, nodes.weight(known_as, weight)]
    outputs, channels, taps = weight.shape
    # By delay as in a step, and in reverse order in a convolution.
    levels = quantized.weight.reshape(outputs, taps, channels)[:, ::-1].transpose(0, 2, 1)
    value = nodes.through_int8(value, quantized.input_scales[:channels, None])
    return [value, int8_weight(nodes, quantized, levels, 0, name)]


def int8_weight(nodes: Nodes, linear: QuantizedLinear, levels: NDArray[Any], axis: int, name: str) -> str:
    """The weights of a product, dequantized with a scale per output, which is ``axis`` of ``levels``."""
    graph = nodes.graph
    weight = graph.constant(f"{name}/weight.int8", np.ascontiguousarray(levels))
    scales = graph.constant(f"{name}/weight_scales", linear.weight_scales)
    return graph.node("DequantizeLinear", [weight, scales], f"{name}/weight", axis=axis, dtype=np.float32)
