"""The size of a graph, for the report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class GraphStatistics:
    """Nodes by operator, number of weights and their bytes."""

    operators: dict[str, int]
    constants: int
    constant_bytes: int

    @classmethod
    def of(cls, model: onnx.ModelProto) -> GraphStatistics:
        operators = Counter(node.op_type for node in model.graph.node)
        ordered = dict(sorted(operators.items(), key=lambda item: (-item[1], item[0])))
        sizes = [len(tensor.raw_data) for tensor in model.graph.initializer]
        return cls(ordered, len(sizes), sum(sizes))
