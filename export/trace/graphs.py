"""The two graphs of a program: of whole sequences, and of one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch

from multires_edge.export.graph_builder import GraphBuilder
from multires_edge.export.graphs.rings import RingsInGraph
from multires_edge.export.graphs.running import ExactSum, running_maximum
from multires_edge.export.graphs.step import StepGraph
from multires_edge.export.trace.filter_nodes import BankNodes
from multires_edge.export.trace.nodes import Nodes
from multires_edge.export.trace.operators import affine, write_operator
from multires_edge.export.trace.program import (
    Convolution,
    Cut,
    Delay,
    Filtered,
    Layout,
    Operator,
    Pad,
    Pool,
    Program,
    Recurrence,
    Reshape,
    Ring,
)
from multires_edge.export.trace.recurrent_nodes import recurrent_step, whole_recurrence
from multires_edge.format.specs import StateSpec
from multires_edge.format.targets import GraphForm

_END = np.iinfo(np.int64).max


def build_whole_graph(program: Program, form: GraphForm) -> onnx.ModelProto:
    """The graph of whole sequences, dynamic in batch and time."""
    graph = GraphBuilder("multires_full", form)
    nodes = _Whole(graph, program, whole=True)
    nodes.write("whole sequences, oldest step first")
    return graph.build("A network over whole sequences, traced from a PyTorch module.")


def build_traced_step_graph(program: Program, form: GraphForm) -> StepGraph:
    """The graph of one step, dynamic in batch. Each row of a batch is a stream with its own position."""
    graph = GraphBuilder("multires_step", form)
    nodes = _Step(graph, program, whole=False)
    nodes.write("this step's values")
    return StepGraph(graph.build(RingsInGraph.doc), tuple(nodes.states))


def onnx_type(dtype: torch.dtype) -> str:
    """The type of a value in the graphs: float32, or int64 for tokens."""
    return "float32" if dtype.is_floating_point else "int64"


class _Writer(Nodes):
    """Writes the instructions of a program one by one."""

    def write(self, doc: str) -> None:
        graph, program = self.graph, self.program
        for name in program.inputs:
            layout = program.layouts[name]
            self.names[name] = graph.input(name, onnx_type(layout.dtype), self.shape(layout), doc)
        self.begin()
        for each in program.instructions:
            self.names[each.name] = self.instruction(each)
        self.end()
        for name, value in program.outputs.items():
            layout = program.layouts[value]
            graph.node("Identity", [self.names[value]], f"outputs/{name}", output=name)
            graph.output(name, onnx_type(layout.dtype), self.shape(layout), "value after the last step")

    def begin(self) -> None:
        """Before the first instruction."""

    def end(self) -> None:
        """After the last instruction."""

    def instruction(self, each: Any) -> str:
        if isinstance(each, Operator):
            return write_operator(self, each)
        if isinstance(each, Filtered):
            return self.filtered(each)
        value = self.names[each.source.name]
        if isinstance(each, Reshape):
            return self.reshape(value, self.layout(each.source), self.program.layouts[each.name], each.name)
        return self.over_time(each, value, self.layout(each.source))

    def over_time(self, each: Any, value: str, layout: Layout) -> str:
        raise NotImplementedError

    def filtered(self, each: Filtered) -> str:
        raise NotImplementedError


class _Whole(_Writer):
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
        inputs = [value, self.weight(each.weight.name, weight)]
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


class _Step(_Writer):
    """``states`` are the states of the graph, sorted by name."""

    states: Sequence[StateSpec]

    def begin(self) -> None:
        self.queues = {
            ring.name: StateSpec(
                input=ring.name,
                output=f"next_{ring.name}",
                dtype=onnx_type(ring.dtype),
                dilation=ring.dilation,
                shape=("batch", 1, ring.slots, ring.width),
                in_place=True,
            )
            for ring in self.program.rings
        }
        self.rings = RingsInGraph(self.graph, list(self.queues.values()))
        self.pooled: list[StateSpec] = []
        self._rows: dict[str, str] = {}
        self._pushed: dict[str, tuple[Ring, str]] = {}
        self._banks = {bank.name: BankNodes(self, self.rings, bank) for bank in self.program.banks}

    def filtered(self, each: Filtered) -> str:
        return self._banks[each.bank.name].output(each)

    def end(self) -> None:
        for bank in self._banks.values():
            bank.push()
        for ring, value in self._pushed.values():
            shape = self.graph.integers(f"rings/row_of_{ring.width}", [-1, 1, 1, ring.width])
            row = self.graph.node("Reshape", [value, shape], f"rings/row/{ring.name}")
            self.rings.write(ring.name, row)
        position = StateSpec(input="position", output="next_position", dtype="int64", shape=("batch",))
        states = [position, *self.queues.values(), *self.pooled]
        self.states = sorted(states, key=lambda state: state.input)
        for state in self.states:
            self.graph.output(state.output, state.dtype, state.shape, f"{state.input} for the next step")

    def over_time(self, each: Any, value: str, layout: Layout) -> str:
        graph, name = self.graph, each.name
        rest = [int(size) for size in layout.step_shape[1:]]
        if isinstance(each, Cut):
            return value
        if isinstance(each, Pad):
            return self._masked(each, value, len(rest)) if each.mask else value
        if isinstance(each, Delay):
            rows = self._read(each.ring, value)
            shape = graph.integers(f"{name}/shape", [-1, *rest])
            return graph.node("Reshape", [rows, shape], name, doc=f"{each.ring.slots - 1} steps ago")
        if isinstance(each, Convolution):
            return self._convolve(each, value, layout)
        if isinstance(each, Recurrence):
            self.pooled += [_state(state, ("batch", each.width)) for state in each.states]
            return recurrent_step(self, each, value)
        return self._pool(each, value, layout, rest)

    def _pool(self, each: Pool, value: str, layout: Layout, rest: list[int]) -> str:
        graph, name = self.graph, each.name
        if each.state is None:
            return self._kept(value, layout) if each.keep else value
        states: tuple[int | str, ...] = ("batch", *rest)
        if each.how == "max":
            self.pooled.append(_state(each.state, states))
            pooled = running_maximum(graph, value, each.state, states, self.rings.position, name)
        else:
            old = ExactSum.declare(graph, each.state, states, "running sum, zeros at the start")
            self.pooled += [_state(each.state, states), _state(f"{each.state}_error", states)]
            new = old.plus(graph, value, each.state, name)
            pooled = graph.node("Add", [new.rounded, new.error], name, doc="sum of all steps so far")
            if each.how == "mean":
                count = "pool/steps"
                if not graph.has(count):
                    graph.cast(self.rings.steps, np.float32, count)
                column = graph.integers(f"pool/columns_{len(rest)}", list(range(1, len(rest) + 1)))
                count = graph.node("Unsqueeze", [count, column], f"{name}/count") if rest else count
                pooled = graph.node("Div", [pooled, count], f"{name}/mean", doc="mean of all steps so far")
        return self._kept(pooled, layout) if each.keep and each.how != "cumsum" else pooled

    def _kept(self, value: str, layout: Layout) -> str:
        """A pooled value with its axis of size 1 in the place of time."""
        assert layout.axis is not None
        axis = self.graph.integers(f"pool/axis_{layout.axis}", [layout.axis])
        return self.graph.node("Unsqueeze", [value, axis], f"{value}/kept")

    def _masked(self, pad: Pad, value: str, rank: int) -> str:
        """Padding instead of the value in the first steps of a stream."""
        graph, name = self.graph, pad.name
        steps = graph.integers(f"{name}/steps", pad.mask)
        early = graph.node("Less", [self.rings.position, steps], f"{name}/early", dtype=np.bool_)
        axes = graph.integers(f"{name}/axes", list(range(1, rank + 1)))
        early = graph.node("Unsqueeze", [early, axes], f"{name}/early_column")
        constant = graph.weight(f"{name}/value", pad.value, like=value)
        return graph.node("Where", [early, constant, value], name, dtype=graph.type_of(value))

    def _read(self, ring: Ring, value: str) -> str:
        """The rows of a ring at its delays (batch, 1, taps, width); ``value`` is to be written."""
        self._pushed[ring.name] = ring, value
        if ring.name not in self._rows:
            graph = self.graph
            rows = self.rings.read([ring.name], ring.name)
            if ring.before is not None:
                at = f"rings/before/{ring.name}"
                axes = graph.integers("clock/axes", [1, 2, 3])
                ticks = graph.node("Unsqueeze", [self.rings.position, axes], f"{at}/position")
                delays = graph.integers(f"{at}/delays", np.reshape(ring.delays, (1, 1, -1, 1)))
                early = graph.node("Less", [ticks, delays], f"{at}/early", dtype=np.bool_)
                before = graph.weight(f"{at}/row", ring.before.numpy().reshape(1, 1, 1, -1), like=rows)
                rows = graph.node("Where", [early, before, rows], at, dtype=graph.type_of(rows))
            self._rows[ring.name] = rows
        return self._rows[ring.name]

    def _convolve(self, each: Convolution, value: str, layout: Layout) -> str:
        weight = self.constant(each.weight)
        bias = None if each.bias is None else self.constant(each.bias)
        rows = None if each.ring is None else self._read(each.ring, value)
        plain = weight.dim() == 3
        if plain and each.groups == 1:
            return self._dense(each, value, rows, weight, bias)
        if plain and each.groups == len(weight) == layout.step_shape[1]:
            return self._depthwise(each, value, rows, weight, bias)
        return self._grouped(each, value, rows, weight, bias)

    def _dense(
        self, each: Convolution, value: str, rows: str | None, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> str:
        """One product with the values of all taps side by side, the newest first."""
        graph, name = self.graph, each.name
        outputs, inputs, taps = weight.shape
        if rows is not None:
            shape = graph.integers(f"{name}/row", [-1, (taps - 1) * inputs])
            past = graph.node("Reshape", [rows, shape], f"{name}/past")
            value = graph.concat([value, past], 1, f"{name}/taps")
        joined = weight.flip(2).permute(0, 2, 1).reshape(outputs, taps * inputs)
        return affine(self, value, 2, joined, bias, name)

    def _depthwise(
        self, each: Convolution, value: str, rows: str | None, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> str:
        graph, name = self.graph, each.name
        filters = weight[:, 0].T.flip(0)  # (taps, channels), the newest first
        y = graph.node("Mul", [value, self.weight(f"{name}/newest", filters[0])], f"{name}/now")
        if rows is not None:
            past = graph.node("Mul", [rows, self.weight(f"{name}/older", filters[1:])], f"{name}/weighted")
            if len(filters) > 2:
                # ONNX Runtime sums rows the fastest by a product with ones.
                ones = graph.weight(f"{name}/ones", np.ones((1, len(filters) - 1)))
                past = graph.node("MatMul", [ones, past], f"{name}/sum")
            past = graph.node("Squeeze", [past, graph.integers("taps/axes", [1, 2])], f"{name}/past")
            y = graph.node("Add", [y, past], f"{name}/product" if bias is not None else name)
        if bias is not None:
            y = graph.node("Add", [y, self.weight(f"{name}/bias", bias)], name)
        return y

    def _grouped(
        self, each: Convolution, value: str, rows: str | None, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> str:
        """Any other convolution, over a window of its taps, the newest first."""
        graph, name, axis = self.graph, each.name, each.axis
        layout = self.layout(each.source)
        rest = [int(size) for size in layout.step_shape[1:]]
        window = graph.node("Unsqueeze", [value, graph.integers(f"{name}/time", [1])], f"{name}/now")
        if rows is not None:
            shape = graph.integers(f"{name}/rows", [-1, weight.shape[axis] - 1, *rest])
            past = graph.node("Reshape", [rows, shape], f"{name}/past")
            window = graph.concat([window, past], 1, f"{name}/taps")
        order = [0, *range(2, axis + 1), 1, *range(axis + 1, len(layout.shape))]
        window = graph.node("Transpose", [window], f"{name}/window", perm=order)
        near = list(each.dilations)
        near[each.spatial] = 1
        inputs = [window, self.weight(f"{name}/weight", weight.flip(axis))]
        if bias is not None:
            inputs.append(self.weight(f"{name}/bias", bias))
        y = graph.node(
            "Conv",
            inputs,
            f"{name}/convolved",
            kernel_shape=list(weight.shape[2:]),
            dilations=near,
            strides=list(each.strides),
            pads=[*each.padding, *each.padding],
            group=each.groups,
        )
        return graph.node("Squeeze", [y, graph.integers(f"{name}/axis", [axis])], name)


def _state(name: str, shape: tuple[int | str, ...]) -> StateSpec:
    return StateSpec(input=name, output=f"next_{name}", dtype="float32", shape=shape)
