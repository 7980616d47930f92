"""The nodes of folded norms, at the end of a residual block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from multires_edge.export.graphs.builder import GraphBuilder
from multires_edge.export.norms import Array, FoldedNorm, LayerNorm, ResidualAffine

# Takes the norm, the graph, the block's input and its change, the block's name, and whether both values are
# (batch, d_model, time) as in the full graph, or (batch, d_model) as in a step. Returns the block's output.
NormNodes = Callable[[Any, GraphBuilder, str, str, str, bool], str]


def normalize(norm: FoldedNorm, graph: GraphBuilder, x: str, y: str, name: str, over_time: bool) -> str:
    """The output of a block with its norm."""
    return NORM_NODES[type(norm)](norm, graph, x, y, name, over_time)


def _layer_norm(norm: LayerNorm, graph: GraphBuilder, x: str, y: str, name: str, over_time: bool) -> str:
    assert norm.shift is not None
    total = graph.node("Add", [x, y], f"{name}/residual")
    if over_time:
        total = graph.node("Transpose", [total], f"{name}/norm/rows", perm=[0, 2, 1])
    scale = graph.weight(f"{name}/norm/scale", norm.scale, like=x)
    bias = graph.weight(f"{name}/norm/bias", norm.shift, like=x)
    rows = graph.node(
        "LayerNormalization",
        [total, scale, bias],
        f"{name}/norm/normalized" if over_time else f"{name}/norm",
        axis=-1,
        epsilon=norm.epsilon,
        doc="over channels",
    )
    return graph.node("Transpose", [rows], f"{name}/norm", perm=[0, 2, 1]) if over_time else rows


def _affine(norm: ResidualAffine, graph: GraphBuilder, x: str, y: str, name: str, over_time: bool) -> str:
    def per_channel(values: Array, part: str) -> str:
        return graph.weight(f"{name}/norm/{part}", values[:, None] if over_time else values, like=x)

    scale = per_channel(norm.scale, "scale")
    kept = graph.node("Mul", [x, scale], f"{name}/norm/scaled", doc="what is left of BatchNorm")
    if norm.shift is not None:
        kept = graph.node("Add", [kept, per_channel(norm.shift, "shift")], f"{name}/norm/shifted")
    return graph.node("Add", [kept, y], f"{name}/residual")


NORM_NODES: dict[type[FoldedNorm], NormNodes] = {LayerNorm: _layer_norm, ResidualAffine: _affine}
