"""The graph of whole sequences of a program."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.trace.precision import EXACT, Precision
from multires_edge.export.trace.product_nodes import convolved
from multires_edge.export.trace.program import (
    Convolution,
    Cut,
    Delay,
    Layout,
    Pad,
    Pool,
    Program,
    Recurrence,
)
from multires_edge.export.trace.recurrent_nodes import whole_recurrence
from multires_edge.export.trace.writer import Writer
from multires_edge.format.targets import GraphForm

_END = np.iinfo(np.int64).max


def build_whole_graph(program: Program, form: GraphForm, precision: Precision = EXACT) -> onnx.ModelProto:
    """The graph of whole sequences, dynamic in batch and time."""
    return WholeGraph(program, form, precision).build()


class WholeGraph(Writer):
    """Writes the graph. After :meth:`build`, ``names`` has the values of the program in it."""

    def __init__(self, program: Program, form: GraphForm, precision: Precision = EXACT) -> None:
        super().__init__(GraphBuilder("multires_full", form), program, precision, whole=True)

    def build(self) -> onnx.ModelProto:
        self.write("whole sequences, oldest step first")
        return self.graph.build("A network over whole sequences, traced from a PyTorch module.")

    def over_time(self, each: Any, value: str, layout: Layout) -> str:
        graph, name, axis = self.graph, each.name, layout.axis
        assert axis is not None
        if isinstance(each, Delay):
            return value
        if isinstance(each, Pad):
            pads = np.zeros((2, len(layout.shape)), np.int64)
            pads[:, axis] = each.left, each.right
            inputs = [value, graph.integers(f"{name}/pads", pads.ravel())]
            if each.value:
                inputs.append(graph.weight(f"{name}/value", each.value, like=value))
            return graph.node("Pad", inputs, name, doc="more steps")
        if isinstance(each, Cut):
            return self._between(value, each.start, -each.end or _END, axis, name)
        if isinstance(each, Convolution):
            return self._convolve(each, value)
        if isinstance(each, Recurrence):
            return whole_recurrence(self, each, value, batch_first=axis == 1)
        assert isinstance(each, Pool)
        return self._pool(each, value, axis)

    def _between(self, value: str, start: int, end: int, axis: int, name: str) -> str:
        numbers = {"start": start, "end": end, "axis": axis}
        inputs = [self.graph.integers(f"{name}/{what}", [number]) for what, number in numbers.items()]
        return self.graph.node("Slice", [value, *inputs], name, doc="fewer steps")

    def _convolve(self, each: Convolution, value: str) -> str:
        weight = self.constant(each.weight)
        begins, ends = list(each.padding), list(each.padding)
        begins[each.spatial], ends[each.spatial] = each.left, each.right
        inputs = convolved(self, value, weight, each.name, each.weight.name)
        if each.bias is not None:
            inputs.append(self.weight(each.bias.name, self.constant(each.bias)))
        return self.graph.node(
            "Conv",
            inputs,
            each.name,
            kernel_shape=list(weight.shape[2:]),
            dilations=list(each.dilations),
            strides=list(each.strides),
            pads=[*begins, *ends],
            group=each.groups,
        )

    def _pool(self, each: Pool, value: str, axis: int) -> str:
        graph, name = self.graph, each.name
        if each.how == "last":
            if each.keep:
                return self._between(value, -1, _END, axis, name)
            return graph.node("Gather", [value, graph.integers("pool/last", -1)], name, axis=axis)
        if each.how == "cumsum":
            return graph.node("CumSum", [value, graph.integers(f"{name}/axis", axis)], name)
        if each.how != "mean":
            op = "ReduceMax" if each.how == "max" else "ReduceSum"
            return self.reduce(op, value, [axis], name, keep=each.keep)
        # Twice: a float32 mean of many equal values is off by many roundings; the mean of the rest mends it.
        rough = self.reduce("ReduceMean", value, [axis], f"{name}/rough", keep=True)
        rest = graph.node("Sub", [value, rough], f"{name}/rest")
        correction = self.reduce("ReduceMean", rest, [axis], f"{name}/correction", keep=True)
        if each.keep:
            return graph.node("Add", [rough, correction], name, doc="mean over time")
        mean = graph.node("Add", [rough, correction], f"{name}/kept")
        return graph.node(
            "Squeeze", [mean, graph.integers(f"{name}/time", [axis])], name, doc="mean over time"
        )
