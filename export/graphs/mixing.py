"""The mixing of the channels of a step as nodes of both graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs.gemm import gemm, pointwise
from multires_edge.export.linear import Linear, QuantizedLinear

AnyLinear = Linear | QuantizedLinear


@dataclass(frozen=True)
class Mixing:
    """A kind of mixing, as functions that write the nodes of a block up to the second convolution.

    ``over_time`` takes y (batch, d_model, time), ``step`` takes y (batch, d_model).
    """

    over_time: Callable[[GraphBuilder, str, AnyLinear, str], str]
    step: Callable[[GraphBuilder, str, AnyLinear, str], str]


def _glu_over_time(graph: GraphBuilder, y: str, mixing: AnyLinear, name: str) -> str:
    mixed = pointwise(graph, y, mixing, f"{name}/mixing")
    d = len(mixing.bias) // 2
    value, gate = graph.split(mixed, [d, d], 1, f"{name}/glu/split", ["value", "gate"])
    gate = graph.node("Sigmoid", [gate], f"{name}/glu/sigmoid")
    return graph.node("Mul", [value, gate], f"{name}/glu", doc="gated linear unit over channels")


def _glu_step(graph: GraphBuilder, y: str, mixing: AnyLinear, name: str) -> str:
    # Two products are faster than one product and a Split of its result.
    value, gate = mixing.halves()
    gate_value = gemm(graph, y, gate, f"{name}/glu/gate")
    opened = graph.node("Sigmoid", [gate_value], f"{name}/glu/sigmoid")
    y = gemm(graph, y, value, f"{name}/glu/value")
    return graph.node("Mul", [y, opened], f"{name}/glu", doc="gated linear unit over channels")


MIXING_NODES: dict[str, Mixing] = {
    "glu": Mixing(_glu_over_time, _glu_step),
    "plain": Mixing(
        lambda graph, y, mixing, name: pointwise(graph, y, mixing, f"{name}/mixing"),
        lambda graph, y, mixing, name: gemm(graph, y, mixing, f"{name}/mixing"),
    ),
}
