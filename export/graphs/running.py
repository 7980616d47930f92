"""Running values of a stream, in float32: sums that do not drift, and maxima.

A float32 sum loses precision at each addition, and stops growing when it is 2^24 times as large as the
added values. So each sum is two numbers, the rounded sum and its rounding error, renormalized at each step:
together they have twice the precision (TwoSum and FastTwoSum; Knuth, TAOCP 2, 4.2.2; Dekker 1971).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multires_edge.export.graph_builder import Dim, GraphBuilder


@dataclass(frozen=True)
class ExactSum:
    """A sum as two values of one shape: the rounded sum and its rounding error."""

    rounded: str
    error: str

    @classmethod
    def declare(cls, graph: GraphBuilder, state: str, shape: Sequence[Dim], doc: str) -> ExactSum:
        """A sum that is a state of the graph: ``state`` and ``state``_error."""
        names = [state, f"{state}_error"]
        for name in names:
            graph.input(name, np.float32, shape, doc)
        return cls(*names)

    def where(
        self, graph: GraphBuilder, condition: str, other: ExactSum, name: str, *, is_state: bool
    ) -> ExactSum:
        """This sum in rows where ``condition`` (batch, 1) holds, ``other`` in the others."""
        chosen = []
        for mine, theirs, part in (
            (self.rounded, other.rounded, name),
            (self.error, other.error, f"{name}_error"),
        ):
            output = f"next_{part}" if is_state else None
            node = graph.node(
                "Where", [condition, mine, theirs], f"pool/kept/{part}", output=output, dtype=np.float32
            )
            chosen.append(node)
        return ExactSum(*chosen)

    def plus(self, graph: GraphBuilder, addend: str, state: str, at: str) -> ExactSum:
        """Add a value, by nodes under the name ``at``; the result is the next value of ``state``.

        TwoSum gives the exact error of the addition. FastTwoSum then moves ``error`` into the sum as far as
        float32 can represent it there, so that ``error`` stays below half a unit in the last place of the
        sum.
        """
        total = graph.node("Add", [self.rounded, addend], f"{at}/two_sum/sum")
        added = graph.node("Sub", [total, self.rounded], f"{at}/two_sum/added")
        had = graph.node("Sub", [total, added], f"{at}/two_sum/had")
        lost_old = graph.node("Sub", [self.rounded, had], f"{at}/two_sum/lost_of_sum")
        lost_new = graph.node("Sub", [addend, added], f"{at}/two_sum/lost_of_addend")
        doc = "exactly what rounding the sum lost"
        lost = graph.node("Add", [lost_old, lost_new], f"{at}/two_sum/lost", doc=doc)
        owed = graph.node("Add", [self.error, lost], f"{at}/owed")
        rounded = graph.node("Add", [total, owed], f"{at}/sum", output=f"next_{state}")
        moved = graph.node("Sub", [rounded, total], f"{at}/moved")
        error = graph.node("Sub", [owed, moved], f"{at}/sum_error", output=f"next_{state}_error")
        return ExactSum(rounded, error)


def running_maximum(
    graph: GraphBuilder, value: str, state: str, shape: Sequence[Dim], position: str, at: str
) -> str:
    """The maximum of all steps so far, a state of the graph. ``position`` (batch,) counts steps from 0."""
    old = graph.input(state, np.float32, shape, "largest values so far, zeros at the start")
    larger = graph.node("Max", [old, value], f"{at}/larger")
    zero = graph.integers("pool/zero", 0)
    first = graph.node("Equal", [position, zero], f"{at}/is_first", dtype=np.bool_)
    if len(shape) > 1:
        axes = graph.integers(f"{at}/columns", list(range(1, len(shape))))
        first = graph.node("Unsqueeze", [first, axes], f"{at}/starts")
    doc = "largest values so far; the zeros at the start do not count"
    return graph.node("Where", [first, value, larger], at, output=f"next_{state}", dtype=np.float32, doc=doc)
