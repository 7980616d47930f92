"""Linear layers over channels for both graphs, in any precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.export.folding import FoldedNetwork
from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs.quantize import as_float, to_levels
from multires_edge.export.linear import Linear, QuantizedLinear

Product = Callable[..., str]
_MOST_SUMMED = 1 << 14  # weights of a layer whose outputs are sums; larger ones are faster as products


# The operator and its attributes. The outputs are the second axis.
OUTPUT_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "sigmoid": ("Sigmoid", {}),
    "softmax": ("Softmax", {"axis": 1}),
}


def pointwise(
    graph: GraphBuilder, x: str, linear: Linear | QuantizedLinear, name: str, output: str | None = None
) -> str:
    """1x1 convolution of x (batch, in, time)."""
    inputs = _operands(graph, x, linear, name, (*linear.weight.shape, 1))
    return graph.node("Conv", inputs, name, kernel_shape=[1], doc="1x1 convolution", output=output)


def causal_convolution(
    graph: GraphBuilder, x: str, linear: Linear | QuantizedLinear, taps: int, name: str
) -> str:
    """Convolution of x (batch, in, time) with a weight (out, taps * in) by delay."""
    if taps == 1:
        return pointwise(graph, x, linear, name)
    out, channels = len(linear.weight), linear.weight.shape[1] // taps
    weight = linear.weight.reshape(out, taps, channels)[:, ::-1].transpose(0, 2, 1)
    changes: dict[str, Any] = {"weight": weight}
    if isinstance(linear, QuantizedLinear):
        changes["input_scales"] = linear.input_scales[:channels]
    inputs = _operands(graph, x, replace(linear, **changes), name, weight.shape)
    doc = "causal convolution over channels and time"
    return graph.node("Conv", inputs, name, kernel_shape=[taps], pads=[taps - 1, 0], doc=doc)


def gemm(
    graph: GraphBuilder, x: str, linear: Linear | QuantizedLinear, name: str, output: str | None = None
) -> str:
    """Product with x (batch, in)."""
    inputs = _operands(graph, x, linear, name, linear.weight.shape)
    return graph.node("Gemm", inputs, name, transB=1, output=output, doc="linear over channels")


def sums(
    graph: GraphBuilder, x: str, linear: Linear | QuantizedLinear, name: str, output: str | None = None
) -> str:
    """The product of :func:`gemm`, each output as a sum.

    A matrix product of TensorRT has a multiple of some outputs, which a kernel cuts off afterwards. It fuses
    sums with the layers around them.
    """
    if isinstance(linear, QuantizedLinear) or linear.weight.size > _MOST_SUMMED:
        return gemm(graph, x, linear, name, output)
    row = graph.node("Unsqueeze", [x, graph.integers(f"{name}/outputs_axis", [1])], f"{name}/row")
    weight = graph.weight(f"{name}/weight", linear.weight, like=x)
    weighted = graph.node("Mul", [row, weight], f"{name}/weighted")
    axes = graph.integers(f"{name}/inputs_axis", [2])
    y = graph.node("ReduceSum", [weighted, axes], f"{name}/sums", keepdims=0, doc="linear over channels")
    return graph.node("Add", [y, graph.weight(f"{name}/bias", linear.bias, like=x)], name, output=output)


def head(graph: GraphBuilder, x: str, network: FoldedNetwork, product: Product) -> str:
    """The graph's output in float32, by one of the products above."""
    dtype, output, activation = network.types.head, network.config.output, network.config.output_activation
    x = graph.cast(x, dtype, "head/cast")
    if activation is not None:
        y = graph.cast(product(graph, x, network.head, "head"), np.float32, "head/output")
        operator, attributes = OUTPUT_OPERATORS[activation]
        return graph.node(operator, [y], f"{output}/{activation}", output=output, **attributes)
    if dtype == np.float32:
        return product(graph, x, network.head, "head", output)
    return graph.cast(product(graph, x, network.head, "head"), np.float32, f"{output}/cast", output=output)


def _operands(
    graph: GraphBuilder, x: str, linear: Linear | QuantizedLinear, name: str, shape: tuple[int, ...]
) -> list[str]:
    """The input, the weight of this shape, and the bias."""
    bias = graph.weight(f"{name}/bias", linear.bias, like=x)
    if isinstance(linear, Linear):
        return [x, graph.weight(f"{name}/weight", linear.weight.reshape(shape), like=x), bias]
    weight = graph.constant(f"{name}/weight.int8", linear.weight.reshape(shape))
    scales = graph.constant(f"{name}/weight_scales", linear.weight_scales)
    weight = graph.node("DequantizeLinear", [weight, scales], f"{name}/weight", axis=0, dtype=np.float32)
    # Channels are the second axis of x; it has as many axes as the weight.
    input_scales = linear.input_scales.reshape(-1, *[1] * len(shape[2:]))
    return [_through_int8(graph, x, input_scales), weight, bias]


def _through_int8(graph: GraphBuilder, x: str, scales: NDArray[np.float32]) -> str:
    """A value quantized to int8, once for all layers that read it."""
    name = f"{x}/int8"
    return name if graph.has(name) else as_float(graph, to_levels(graph, x, scales, f"{x}/int8"), name)
