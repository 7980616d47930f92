"""The functions before the mixing, as nodes of both graphs: of a value, in the block of a name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from multires_edge.export.graph_builder import GraphBuilder


def _gelu(graph: GraphBuilder, x: str, name: str) -> str:
    return graph.gelu(x, f"{name}/gelu")


def _gelu_tanh(graph: GraphBuilder, x: str, name: str) -> str:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).

    The cube is x * (a + b * x^2): where x^2 overflows float16, tanh of infinity is still right.
    """
    name, doc = f"{name}/gelu_tanh", "GELU by tanh"
    if graph.form.gelu_operator:
        return graph.node("Gelu", [x], name, approximate="tanh", doc=doc)
    root = np.sqrt(2 / np.pi)
    linear, cubic, one, half = (
        graph.weight(f"gelu_tanh/{constant}", number, like=x)
        for constant, number in (("linear", root), ("cubic", 0.044715 * root), ("one", 1.0), ("half", 0.5))
    )
    square = graph.node("Mul", [x, x], f"{name}/square")
    bent = graph.node("Mul", [square, cubic], f"{name}/bent")
    factor = graph.node("Add", [bent, linear], f"{name}/factor")
    inner = graph.node("Mul", [x, factor], f"{name}/inner")
    tanh = graph.node("Tanh", [inner], f"{name}/tanh")
    above = graph.node("Add", [tanh, one], f"{name}/above_zero")
    product = graph.node("Mul", [x, above], f"{name}/product")
    return graph.node("Mul", [product, half], name, doc=doc)


def _relu(graph: GraphBuilder, x: str, name: str) -> str:
    return graph.node("Relu", [x], f"{name}/relu")


def _relu6(graph: GraphBuilder, x: str, name: str) -> str:
    bounds = [graph.weight("relu6/least", 0.0, like=x), graph.weight("relu6/most", 6.0, like=x)]
    return graph.node("Clip", [x, *bounds], f"{name}/relu6")


def _silu(graph: GraphBuilder, x: str, name: str) -> str:
    sigmoid = graph.node("Sigmoid", [x], f"{name}/silu/sigmoid")
    return graph.node("Mul", [x, sigmoid], f"{name}/silu", doc="x * sigmoid(x)")


def _identity(graph: GraphBuilder, x: str, name: str) -> str:
    return x


ACTIVATION_NODES: dict[str, Callable[[GraphBuilder, str, str], str]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
    "relu6": _relu6,
    "silu": _silu,
    "identity": _identity,
}
