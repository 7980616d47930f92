"""Norms: how each is folded, in float64, and the nodes of what remains in a residual block.

Each kind is a class here, registered in :data:`FOLDED_NORMS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.linear import Linear

Array = NDArray[np.float64]
Folded = tuple["FoldedNorm", Linear, Linear | None]


@dataclass(frozen=True)
class FoldedNorm(ABC):
    """How to compute a block's output from its input x and its change y; scale and shift are (d_model,)."""

    scale: Array
    shift: Array | None
    epsilon: float = 0.0

    # The names of scale and shift in the native weights; None if the engine has no such norm.
    native_names: ClassVar[tuple[str, str] | None] = None

    @classmethod
    @abstractmethod
    def fold(cls, norm: dict[str, Array], epsilon: float, mixing: Linear, output: Linear | None) -> Folded:
        """Fold a norm's tensors, as far as possible into the convolutions around GLU.

        ``mixing`` is before GLU; ``output`` is after it, for autoregressive models only.
        """

    @abstractmethod
    def nodes(self, graph: GraphBuilder, x: str, y: str, name: str, *, over_time: bool) -> str:
        """Write the nodes at the end of the block ``name``, and return its output.

        x and y are (batch, d_model, time) in the full graph (``over_time``), and (batch, d_model) in a step.
        """


class LayerNorm(FoldedNorm):
    """normalize(x + y) * scale + shift, over channels."""

    native_names = ("norm.scale", "norm.bias")

    @classmethod
    def fold(cls, norm: dict[str, Array], epsilon: float, mixing: Linear, output: Linear | None) -> Folded:
        return cls(norm["weight"], norm["bias"], epsilon), mixing, output

    def nodes(self, graph: GraphBuilder, x: str, y: str, name: str, *, over_time: bool) -> str:
        assert self.shift is not None
        total = graph.node("Add", [x, y], f"{name}/residual")
        if over_time:
            total = graph.node("Transpose", [total], f"{name}/norm/rows", perm=[0, 2, 1])
        # In float32, also in a float16 network. ONNX Runtime before 1.19 has no float16 kernel for CPUs: it
        # inlines the operator's definition, and its memory planner then frees a buffer that is still read.
        total = graph.cast(total, np.float32, f"{name}/norm/cast")
        scale = graph.weight(f"{name}/norm/scale", self.scale)
        bias = graph.weight(f"{name}/norm/bias", self.shift)
        rows = graph.node(
            "LayerNormalization",
            [total, scale, bias],
            f"{name}/norm/normalized",
            axis=-1,
            epsilon=self.epsilon,
            doc="over channels",
        )
        rows = graph.cast(rows, graph.type_of(x), f"{name}/norm/cast_back")
        return graph.node("Transpose", [rows], f"{name}/norm", perm=[0, 2, 1]) if over_time else rows


class ResidualAffine(FoldedNorm):
    """x * scale + shift + y: the rest of BatchNorm. A second convolution, if there, takes the shift."""

    native_names = ("residual.scale", "residual.shift")

    @classmethod
    def fold(cls, norm: dict[str, Array], epsilon: float, mixing: Linear, output: Linear | None) -> Folded:
        scale = norm["weight"] / np.sqrt(norm["running_var"] + epsilon)
        shift = norm["bias"] - scale * norm["running_mean"]
        if output is not None:
            output = Linear(scale[:, None] * output.weight, scale * output.bias + shift)
            return cls(scale, None), mixing, output
        # GLU is value * sigmoid(gate): the value takes the scale, and the residual keeps the shift.
        value, gate = mixing.halves()
        mixing = Linear(
            np.concatenate([scale[:, None] * value.weight, gate.weight]),
            np.concatenate([scale * value.bias, gate.bias]),
        )
        return cls(scale, shift), mixing, None

    def nodes(self, graph: GraphBuilder, x: str, y: str, name: str, *, over_time: bool) -> str:
        def per_channel(values: Array, part: str) -> str:
            return graph.weight(f"{name}/norm/{part}", values[:, None] if over_time else values, like=x)

        scale = per_channel(self.scale, "scale")
        kept = graph.node("Mul", [x, scale], f"{name}/norm/scaled", doc="what is left of BatchNorm")
        if self.shift is not None:
            kept = graph.node("Add", [kept, per_channel(self.shift, "shift")], f"{name}/norm/shifted")
        return graph.node("Add", [kept, y], f"{name}/residual")


FOLDED_NORMS: dict[str, type[FoldedNorm]] = {"layer": LayerNorm, "batch": ResidualAffine}
