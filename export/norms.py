"""Norms: how each is folded, in float64, its nodes in both graphs, and its place in a residual block.

Each kind is a class here, registered in :data:`FOLDED_NORMS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.linear import Linear

if TYPE_CHECKING:
    from multires_edge.format.config import ModelConfig

Array = NDArray[np.float64]
Folded = tuple["FoldedNorm", Linear, Linear | None]


@dataclass(frozen=True)
class FoldedNorm(ABC):
    """norm(x) and its place in a block; ``scale`` and ``shift`` are (d_model,), None without a shift.

    With x the input of the block and f(x) its change, the block gives norm(x + f(x)) if the place is "after",
    x + f(norm(x)) if it is "before", and norm(x) + f(x) if it is "residual".
    """

    scale: Array
    shift: Array | None = None
    epsilon: float = 0.0
    groups: int = 1
    place: Literal["after", "before", "residual"] = "after"

    # Whether the native engine has this norm.
    native: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def fold(cls, norm: dict[str, Array], config: ModelConfig) -> FoldedNorm:
        """Fold the tensors of a norm, which stays where it is."""

    @abstractmethod
    def nodes(self, graph: GraphBuilder, x: str, name: str, *, over_time: bool) -> str:
        """Write the nodes of norm(x) in the block ``name``, and return the last value.

        x is (batch, d_model, time) in the full graph (``over_time``), and (batch, d_model) in a step.
        """

    def native_tensors(self) -> dict[str, Array]:
        """The tensors of a layer in the native weights, by name."""
        raise NotImplementedError

    def folded_into(self, mixing: Linear, output: Linear | None) -> Folded:
        """A norm after the block, folded as far as possible into its first and second convolution."""
        return self, mixing, output

    def enter(self, graph: GraphBuilder, x: str, name: str, *, over_time: bool) -> str:
        """The input of the multiresolution layer of the block ``name``, from that of the block."""
        return self.nodes(graph, x, name, over_time=over_time) if self.place == "before" else x

    def leave(self, graph: GraphBuilder, x: str, change: str, name: str, *, over_time: bool) -> str:
        """The output of the block ``name`` from its input and its change."""
        if self.place == "residual":
            x = self.nodes(graph, x, name, over_time=over_time)
        total = graph.node("Add", [x, change], f"{name}/residual")
        return self.nodes(graph, total, name, over_time=over_time) if self.place == "after" else total


class LayerNorm(FoldedNorm):
    """normalize(x) * scale + shift, over all channels or over groups of them."""

    native = True

    @classmethod
    def fold(cls, norm: dict[str, Array], config: ModelConfig) -> FoldedNorm:
        groups = config.norm_groups or 1
        return cls(norm["weight"], norm["bias"], config.norm_eps, groups, config.norm_place)

    def nodes(self, graph: GraphBuilder, x: str, name: str, *, over_time: bool) -> str:
        assert self.shift is not None
        dtype = graph.type_of(x)
        if over_time:
            x = graph.node("Transpose", [x], f"{name}/norm/rows", perm=[0, 2, 1])
        # In float32, also in a float16 network. ONNX Runtime before 1.19 has no float16 kernel for CPUs: it
        # inlines the operator's definition, and its memory planner then frees a buffer that is still read.
        rows = graph.cast(x, np.float32, f"{name}/norm/cast")
        scale = graph.weight(f"{name}/norm/scale", self.scale)
        bias = graph.weight(f"{name}/norm/bias", self.shift)
        if self.groups == 1:
            inputs = [rows, scale, bias]
            rows = self._normalized(graph, inputs, f"{name}/norm/normalized", "over channels")
        else:
            size = len(self.scale) // self.groups
            front = [0, 0] if over_time else [0]
            parts = graph.integers("norm/groups", [*front, self.groups, size])
            grouped = graph.node("Reshape", [rows, parts], f"{name}/norm/grouped")
            ones, zeros = graph.weight("norm/ones", np.ones(size)), graph.weight("norm/zeros", np.zeros(size))
            normal = self._normalized(graph, [grouped, ones, zeros], f"{name}/norm/normal", "over groups")
            joined = graph.integers("norm/joined", [*front, len(self.scale)])
            normal = graph.node("Reshape", [normal, joined], f"{name}/norm/joined")
            scaled = graph.node("Mul", [normal, scale], f"{name}/norm/scaled")
            rows = graph.node("Add", [scaled, bias], f"{name}/norm/shifted")
        rows = graph.cast(rows, dtype, f"{name}/norm/cast_back")
        return graph.node("Transpose", [rows], f"{name}/norm", perm=[0, 2, 1]) if over_time else rows

    def _normalized(self, graph: GraphBuilder, inputs: list[str], name: str, doc: str) -> str:
        return graph.node("LayerNormalization", inputs, name, axis=-1, epsilon=self.epsilon, doc=doc)

    def native_tensors(self) -> dict[str, Array]:
        assert self.shift is not None
        return {"norm.scale": self.scale, "norm.bias": self.shift}


class RmsNorm(FoldedNorm):
    """x / sqrt(mean(x^2) + epsilon) * scale, over channels, in float32: squares exceed float16."""

    native = True

    @classmethod
    def fold(cls, norm: dict[str, Array], config: ModelConfig) -> FoldedNorm:
        return cls(norm["weight"], None, config.norm_eps, place=config.norm_place)

    def nodes(self, graph: GraphBuilder, x: str, name: str, *, over_time: bool) -> str:
        dtype = graph.type_of(x)
        x = graph.cast(x, np.float32, f"{name}/norm/cast")
        square = graph.node("Mul", [x, x], f"{name}/norm/square")
        mean = graph.mean(square, 1, f"{name}/norm/mean", "over channels")
        mean = graph.node("Unsqueeze", [mean, graph.integers("norm/axis", [1])], f"{name}/norm/column")
        mean = graph.node(
            "Add", [mean, graph.weight("norm/epsilon", self.epsilon)], f"{name}/norm/above_zero"
        )
        root = graph.node("Sqrt", [mean], f"{name}/norm/root")
        normal = graph.node("Div", [x, root], f"{name}/norm/normal")
        normal = graph.cast(normal, dtype, f"{name}/norm/cast_back")
        scale = self.scale[:, None] if over_time else self.scale
        return graph.node(
            "Mul", [normal, graph.weight(f"{name}/norm/scale", scale, like=normal)], f"{name}/norm"
        )

    def native_tensors(self) -> dict[str, Array]:
        return {"rms.scale": self.scale}


class Affine(FoldedNorm):
    """x * scale + shift: BatchNorm in evaluation."""

    native = True

    @classmethod
    def fold(cls, norm: dict[str, Array], config: ModelConfig) -> FoldedNorm:
        scale = norm["weight"] / np.sqrt(norm["running_var"] + config.norm_eps)
        return cls(scale, norm["bias"] - scale * norm["running_mean"], place=config.norm_place)

    def folded_into(self, mixing: Linear, output: Linear | None) -> Folded:
        # norm(x + f(x)) = (x * scale + shift) + scale * f(x); a second convolution takes the shift too.
        assert self.shift is not None
        scale, shift = self.scale, self.shift
        if output is not None:
            scaled = output.scaled(scale)
            output = Linear(scaled.weight, scaled.bias + shift)
            return replace(self, shift=None, place="residual"), mixing, output
        return replace(self, place="residual"), mixing.scaled(scale), None

    def nodes(self, graph: GraphBuilder, x: str, name: str, *, over_time: bool) -> str:
        def per_channel(values: Array, part: str) -> str:
            return graph.weight(f"{name}/norm/{part}", values[:, None] if over_time else values, like=x)

        scale = per_channel(self.scale, "scale")
        kept = graph.node("Mul", [x, scale], f"{name}/norm/scaled", doc="what is left of BatchNorm")
        if self.shift is not None:
            kept = graph.node("Add", [kept, per_channel(self.shift, "shift")], f"{name}/norm/shifted")
        return kept

    def native_tensors(self) -> dict[str, Array]:
        shift = np.zeros_like(self.scale) if self.shift is None else self.shift
        return {f"{self._prefix}.scale": self.scale, f"{self._prefix}.shift": shift}

    @property
    def _prefix(self) -> str:
        return "residual" if self.place == "residual" else "affine"


class NoNorm(FoldedNorm):
    """x itself."""

    native = True

    @classmethod
    def fold(cls, norm: dict[str, Array], config: ModelConfig) -> FoldedNorm:
        return cls(np.ones(config.d_model))

    def nodes(self, graph: GraphBuilder, x: str, name: str, *, over_time: bool) -> str:
        return x

    def native_tensors(self) -> dict[str, Array]:
        # The engine computes x * 1 + 0 + f(x), which is exact.
        return {"residual.scale": self.scale, "residual.shift": np.zeros_like(self.scale)}


FOLDED_NORMS: dict[str, type[FoldedNorm]] = {
    "layer": LayerNorm,
    "batch": Affine,
    "rms": RmsNorm,
    "group": LayerNorm,
    "none": NoNorm,
}
