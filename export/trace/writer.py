"""Writes the instructions of a program into a graph, one by one: what both of its graphs share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from multires_edge.export.trace.nodes import Nodes
from multires_edge.export.trace.operators import write_operator
from multires_edge.export.trace.program import Filtered, Layout, Operator, Reshape


def onnx_type(dtype: torch.dtype) -> str:
    """The type of an input or output of the graphs: float32, or int64 for tokens."""
    return "float32" if dtype.is_floating_point else "int64"


class Writer(Nodes):
    """Writes the instructions of a program one by one."""

    def write(self, doc: str) -> None:
        graph, program = self.graph, self.program
        for name in program.inputs:
            layout = program.layouts[name]
            self.names[name] = graph.input(name, onnx_type(layout.dtype), self.shape(layout), doc)
        self.begin()
        for each in program.instructions:
            self.type = self.precision.type_of(each.name)
            self.names[each.name] = self.instruction(each)
        for name, value in program.outputs.items():
            layout = program.layouts[value]
            self._give(self.names[value], name)
            graph.output(name, onnx_type(layout.dtype), self.shape(layout), "value after the last step")
        self.end()

    def _give(self, value: str, name: str) -> None:
        """Make a value the output of a name, in float32 if it is a float."""
        if self.graph.type_of(value) == np.float16:
            self.graph.cast(value, np.float32, f"outputs/{name}", output=name)
        else:
            self.graph.node("Identity", [value], f"outputs/{name}", output=name)

    def begin(self) -> None:
        """Before the first instruction."""

    def end(self) -> None:
        """After the last instruction."""

    def instruction(self, each: Any) -> str:
        if isinstance(each, Operator):
            return write_operator(self, each)
        if isinstance(each, Filtered):
            return self.filtered(each)
        value = self.value(each.source)
        if isinstance(each, Reshape):
            return self.reshape(value, self.layout(each.source), self.program.layouts[each.name], each.name)
        return self.over_time(each, value, self.layout(each.source))

    def over_time(self, each: Any, value: str, layout: Layout) -> str:
        raise NotImplementedError

    def filtered(self, each: Filtered) -> str:
        raise NotImplementedError
