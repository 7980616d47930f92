"""Running values of a stream: sums without drift, and maxima."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multires_edge.export.graph_builder import Dim, GraphBuilder


@dataclass(frozen=True)
class ExactSum:
    """A sum as two states, (batch, ...) each: the rounded sum, and its rounding error.

    Together they have twice the precision of float32 (TwoSum and FastTwoSum; Knuth, TAOCP 2, 4.2.2; Dekker
    1971), so that a stream may sum for ever.
    """

    name: str

    @classmethod
    def declare(cls, graph: GraphBuilder, name: str, shape: Sequence[Dim]) -> ExactSum:
        """Declare the two states ``name`` and ``name``_error."""
        for part in (name, f"{name}_error"):
            graph.input(part, np.float32, shape, "running sum, zeros at the start")
        return cls(name)

    def plus(self, graph: GraphBuilder, addend: str, at: str) -> str:
        """The sum after a value is added, in float32; the next states are outputs of the graph."""
        rounded, error = self.name, f"{self.name}_error"
        total = graph.node("Add", [rounded, addend], f"{at}/two_sum/sum")
        added = graph.node("Sub", [total, rounded], f"{at}/two_sum/added")
        had = graph.node("Sub", [total, added], f"{at}/two_sum/had")
        lost_old = graph.node("Sub", [rounded, had], f"{at}/two_sum/lost_of_sum")
        lost_new = graph.node("Sub", [addend, added], f"{at}/two_sum/lost_of_addend")
        lost = graph.node("Add", [lost_old, lost_new], f"{at}/two_sum/lost", doc="exactly what rounding lost")
        owed = graph.node("Add", [error, lost], f"{at}/owed")
        new = graph.node("Add", [total, owed], f"{at}/rounded", output=f"next_{rounded}")
        moved = graph.node("Sub", [new, total], f"{at}/moved")
        rest = graph.node("Sub", [owed, moved], f"{at}/error", output=f"next_{error}")
        return graph.node("Add", [new, rest], at, doc="sum of all steps so far")


def running_maximum(
    graph: GraphBuilder, name: str, value: str, shape: Sequence[Dim], position: str, at: str
) -> str:
    """The maximum of all steps so far. The state starts at zero, so the first step replaces it."""
    graph.input(name, np.float32, shape, "running maximum, zeros at the start")
    larger = graph.node("Max", [value, name], f"{at}/larger")
    zero = graph.integers("pool/zero", 0)
    if not graph.has("pool/is_first"):
        graph.node("Equal", [position, zero], "pool/is_first", dtype=np.bool_)
    first = "pool/is_first"
    if len(shape) > 1:
        axes = graph.integers(f"pool/columns_{len(shape) - 1}", list(range(1, len(shape))))
        first = graph.node("Unsqueeze", [first, axes], f"{at}/is_first")
    return graph.node("Where", [first, value, larger], at, output=f"next_{name}", dtype=np.float32)
