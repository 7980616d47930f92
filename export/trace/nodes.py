"""What the nodes of a program need: its values, axes and constants, in a graph of sequences or of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs.quantize import as_float, to_levels
from multires_edge.export.trace.precision import EXACT, Precision
from multires_edge.export.trace.program import BATCH, MERGED, TIME, Layout, Operator, Program, Ref
from multires_edge.export.types import FLOAT32, Type


class Nodes:
    """Writes the nodes of a program into a graph: of whole sequences, or of one step.

    ``names`` has the value of the graph for each value of the program. ``type`` is that of the instruction
    which is being written: it reads its values and constants in this type. With ``engines`` the graph is for
    TensorRT, else for ONNX Runtime.
    """

    def __init__(
        self,
        graph: GraphBuilder,
        program: Program,
        precision: Precision = EXACT,
        *,
        whole: bool,
        engines: bool = False,
    ) -> None:
        self.graph = graph
        self.program = program
        self.precision = precision
        self.whole = whole
        self.engines = engines
        self.type: Type = FLOAT32
        self.names: dict[str, str] = {}
        self._levels: dict[tuple[str, bytes], str] = {}

    def layout(self, ref: Ref) -> Layout:
        return self.program.layouts[ref.name]

    def is_constant(self, argument: Any) -> bool:
        return isinstance(argument, Ref) and argument.name in self.program.constants

    def constant(self, ref: Ref) -> torch.Tensor:
        return self.program.constants[ref.name]

    def value(self, ref: Ref) -> str:
        return self.typed(self.names[ref.name])

    def typed(self, value: str) -> str:
        """A value of the graph in the type of the instruction; tokens and conditions as they are."""
        given = self.graph.type_of(value)
        if given.kind != "f" or given == self.type:
            return value
        name = f"{value}/{self.type}"
        return name if self.graph.has(name) else self.graph.cast(value, self.type, name)

    def through_int8(self, value: str, scales: NDArray[np.float32]) -> str:
        """A value quantized to int8 with these scales, once for all that read it so."""
        key = (value, scales.tobytes())
        if key not in self._levels:
            name = f"{value}/int8" + (f".{len(self._levels)}" if self.graph.has(f"{value}/int8") else "")
            self._levels[key] = as_float(self.graph, to_levels(self.graph, value, scales, name), name)
        return self._levels[key]

    def axis(self, layout: Layout, axis: int) -> int:
        """An axis of a value, counted from the front, as an axis in the graph."""
        axis %= len(layout.shape)
        time = layout.axis
        dropped = not self.whole and time is not None and layout.shape[time] == TIME and time < axis
        return axis - dropped

    def shape(self, layout: Layout) -> tuple[int | str, ...]:
        """The shape of a value in the graph."""
        return layout.shape if self.whole else layout.step_shape

    def weight(self, name: str, tensor: torch.Tensor | float) -> str:
        """A constant in the type of the instruction, or int64 for integers."""
        array = np.asarray(tensor.numpy() if isinstance(tensor, torch.Tensor) else float(tensor))
        if array.dtype.kind == "f":
            return self.graph.weight(name, array, dtype=self.type)
        if array.dtype.kind == "b":
            return self.graph.constant(name, array)
        return self.graph.constant(name, array.astype(np.int64))

    def operand(self, name: str, argument: Any, out: Layout) -> str:
        """An argument that is broadcast to a value of layout ``out``."""
        if not isinstance(argument, Ref):
            return self.weight(f"{name}/{argument:g}".replace("-", "minus_"), float(argument))
        if not self.is_constant(argument):
            return self.value(argument)
        tensor = self.constant(argument)
        time = out.axis
        if not self.whole and time is not None and out.shape[time] == TIME:
            place = tensor.dim() - (len(out.shape) - time)
            if place >= 0:
                return self.weight(f"{argument.name}.row", tensor.squeeze(place))
        return self.weight(argument.name, tensor)

    def like(self, each: Operator, argument: Any, other: Any, out: Layout) -> str:
        """An operand that has the type of another: a number beside tokens is a whole one."""
        tokens = isinstance(other, Ref) and not self.is_constant(other)
        tokens = tokens and self.graph.type_of(self.value(other)) == np.int64
        if not isinstance(argument, Ref) and tokens:
            return self.graph.integers(f"{each.name}/{int(argument)}".replace("-", "minus_"), int(argument))
        return self.operand(each.name, argument, out)

    def sum_of_rows(self, rows: str, count: int, name: str, doc: str = "") -> str:
        """The sum of rows (batch, 1, count, width), (batch, 1, 1, width)."""
        if count == 1:
            return rows
        graph = self.graph
        if not self.engines:
            # ONNX Runtime sums rows the fastest by a product with ones.
            ones = graph.weight(f"{name}/ones", np.ones((1, count)), like=rows)
            return graph.node("MatMul", [ones, rows], name, doc=doc)
        # TensorRT fuses a sum with what is before and after it, and copies the factors of a product.
        terms = graph.cast(rows, np.float32, f"{name}/terms")
        total = graph.node(
            "ReduceSum", [terms, graph.integers(f"{name}/axis", [2])], name, doc=doc, keepdims=1
        )
        return graph.cast(total, graph.type_of(rows), f"{name}/row")

    def reduce(self, op: str, value: str, axes: Sequence[int], name: str, *, keep: bool) -> str:
        """A reduction; from opset 18 axes are an input, for sums from opset 13."""
        graph = self.graph
        if graph.form.axes_as_input or op == "ReduceSum":
            inputs = [value, graph.integers(f"{name}/axes", list(axes))]
            return graph.node(op, inputs, name, keepdims=int(keep))
        return graph.node(op, [value], name, axes=list(axes), keepdims=int(keep))

    def reshape(self, value: str, given: Layout, wanted: Layout, name: str) -> str:
        """A value in another layout with the same order of its elements."""
        before, after = self.shape(given), self.shape(wanted)
        if before == after:
            return value
        sizes: list[int] = []
        free = [i for i, size in enumerate(after) if isinstance(size, str)]
        same = [i for i in free if i < len(before) and before[i] == after[i]]
        if len(free) - len(same) <= 1 or (len(free) == 2 and same):
            inferred = next((i for i in free if i not in same), free[-1] if free else None)
            sizes = [
                -1 if i == inferred else 0 if isinstance(size, str) else size for i, size in enumerate(after)
            ]
            return self.graph.node("Reshape", [value, self.graph.integers(f"{name}/shape", sizes)], name)
        parts = [self._size(size, wanted.extra) for size in after]
        shape = self.graph.node("Concat", parts, f"{name}/shape", axis=0)
        return self.graph.node("Reshape", [value, shape], name)

    def _size(self, size: int | str, extra: int) -> str:
        """A size as a tensor of one number."""
        graph = self.graph
        if not isinstance(size, str):
            return graph.integers(f"sizes/{size}", [size])
        first = self.names[self.program.inputs[0]]
        name = f"sizes/{size}"
        if size == MERGED:
            return graph.integers("sizes/rest", [-1])
        if not graph.has(name):
            start = {BATCH: 0, TIME: len(self.program.layouts[self.program.inputs[0]].shape) - 1}[size]
            graph.node("Shape", [first], name, start=start, end=start + 1, dtype=np.int64)
        if size == TIME and extra:
            longer = f"{name}{extra:+d}"
            if not graph.has(longer):
                graph.node("Add", [name, graph.integers(f"sizes/extra{extra:+d}", [extra])], longer)
            return longer
        return name
